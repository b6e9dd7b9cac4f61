import { showValue } from "../../../base/text.js";
import type { ChatMessage } from "../../../tokenizer/types.js";
import { invalidRequest } from "../openai/errors.js";
import type { Block, Blocks, PromptBody } from "./fields.js";

/**
 * The conversation in the form of chat completions. What stands in one message here may be several there: results of tools are messages of
 * their own.
 *
 * @throws ApiError for a block that is not understood here.
 */
export function toMessages({ system, messages }: PromptBody): ChatMessage[] {
  const found: ChatMessage[] = [];
  if (system !== undefined && system !== null) found.push({ role: "system", content: toText(system, "system") });
  messages.forEach(({ role, content }, i) => {
    const path = `messages[${i}].content`;
    if (typeof content === "string") found.push({ role, content });
    else if (role === "assistant") found.push(toAssistant(content, path));
    else addUserBlocks(found, role, content, path);
  });
  return found;
}

function toAssistant(blocks: readonly Block[], path: string): ChatMessage {
  const texts: object[] = [];
  const calls: object[] = [];
  blocks.forEach((block, i) => {
    const { type, id, name, input } = block;
    if (type === "text") texts.push({ type, text: required(block.text, `${path}[${i}].text`) });
    else if (type === "tool_use") {
      calls.push({
        id: required(id, `${path}[${i}].id`),
        type: "function",
        function: { name: required(name, `${path}[${i}].name`), arguments: JSON.stringify(input ?? {}) },
      });
      // Thoughts of earlier turns are not the model's to read.
    } else if (type !== "thinking" && type !== "redacted_thinking") throw unsupportedBlock(type, `${path}[${i}]`);
  });
  const content = texts.length === 0 ? null : texts;
  return { role: "assistant", content, ...(calls.length === 0 ? {} : { tool_calls: calls }) };
}

function addUserBlocks(found: ChatMessage[], role: string, blocks: readonly Block[], path: string): void {
  let texts: object[] = [];
  const flush = () => {
    if (texts.length > 0) found.push({ role, content: texts });
    texts = [];
  };
  blocks.forEach((block, i) => {
    if (block.type === "text") {
      texts.push({ type: "text", text: required(block.text, `${path}[${i}].text`) });
    } else if (block.type === "tool_result") {
      flush();
      const content = toText(block.content ?? "", `${path}[${i}].content`);
      found.push({ role: "tool", tool_call_id: required(block.tool_use_id, `${path}[${i}].tool_use_id`), content });
    } else throw unsupportedBlock(block.type, `${path}[${i}]`);
  });
  flush();
  if (blocks.length === 0) found.push({ role, content: "" });
}

/** Text, or blocks of it. */
function toText(content: unknown, path: string): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    throw invalidRequest(
      "invalid_type",
      `Expected ${path} to be a string or an array, found ${showValue(content)}.`,
      path,
    );
  const texts = (content as Blocks as Partial<Block>[]).map((block, i) => {
    if (block?.type !== "text") throw unsupportedBlock(block?.type, `${path}[${i}]`);
    if (typeof block.text !== "string") throw missing(`${path}[${i}].text`);
    return block.text;
  });
  return texts.join("\n");
}

function unsupportedBlock(type: unknown, path: string) {
  const message = `Blocks of the type ${showValue(type)} are not supported in ${path}.`;
  return invalidRequest("unsupported_value", message, `${path}.type`);
}

function required(value: string | null | undefined, path: string): string {
  if (value === null || value === undefined) throw missing(path);
  return value;
}

function missing(path: string) {
  return invalidRequest("missing_required_parameter", `Missing required parameter: ${path}.`, path);
}
