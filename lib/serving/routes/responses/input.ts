import { showValue } from "../../../base/text.js";
import type { ChatMessage } from "../../../tokenizer/types.js";
import { invalidRequest } from "../openai/errors.js";
import type { ContentBody, InputItem, ResponsesBody } from "./fields.js";

/** A call in a conversation's history, in the form of chat completions. */
interface PastCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

interface Message extends ChatMessage {
  tool_calls?: PastCall[];
}

/**
 * The conversation that `instructions` and `input` are, in the form of chat completions.
 *
 * @throws ApiError for an item that is not understood here.
 */
export function toMessages({ instructions, input }: ResponsesBody): ChatMessage[] {
  const messages: Message[] = [];
  if (typeof instructions === "string") messages.push({ role: "system", content: instructions });
  if (typeof input === "string") return [...messages, { role: "user", content: input }];
  input.forEach((item, i) => {
    addItem(messages, item, `input[${i}]`);
  });
  if (input.length === 0) throw invalidRequest("invalid_value", "Expected input to have at least one item.", "input");
  return messages;
}

function addItem(messages: Message[], item: InputItem, path: string): void {
  const type = item.type ?? "message";
  switch (type) {
    case "message":
      messages.push({ role: required(item.role, `${path}.role`), content: toContent(item.content, `${path}.content`) });
      return;
    case "function_call":
      addCall(messages, {
        id: required(item.call_id, `${path}.call_id`),
        type: "function",
        function: {
          name: required(item.name, `${path}.name`),
          arguments: required(item.arguments, `${path}.arguments`),
        },
      });
      return;
    case "function_call_output":
      messages.push({
        role: "tool",
        tool_call_id: required(item.call_id, `${path}.call_id`),
        content: toContent(item.output, `${path}.output`),
      });
      return;
    case "reasoning":
      // Models here read no thoughts of earlier turns.
      return;
    default:
      throw invalidRequest(
        "unsupported_value",
        `Items of the type ${showValue(type)} are not supported.`,
        `${path}.type`,
      );
  }
}

/** Calls of one turn belong to one message. */
function addCall(messages: Message[], call: PastCall): void {
  const last = messages.at(-1);
  if (last?.role === "assistant") last.tool_calls = [...(last.tool_calls ?? []), call];
  else messages.push({ role: "assistant", content: null, tool_calls: [call] });
}

function toContent(content: ContentBody | null | undefined, path: string): unknown {
  if (content === null || content === undefined) throw missing(path);
  if (typeof content === "string") return content;
  return content.map(({ type, text, refusal }, i) => {
    if (type === "refusal") return { type: "text", text: required(refusal, `${path}[${i}].refusal`) };
    if (type !== "input_text" && type !== "output_text" && type !== "text") {
      const message = `Content parts of the type ${showValue(type)} are not supported: content is text.`;
      throw invalidRequest("unsupported_value", message, `${path}[${i}].type`);
    }
    return { type: "text", text: required(text, `${path}[${i}].text`) };
  });
}

function required(value: string | null | undefined, path: string): string {
  if (value === null || value === undefined) throw missing(path);
  return value;
}

function missing(path: string) {
  return invalidRequest("missing_required_parameter", `Missing required parameter: ${path}.`, path);
}
