import { Template } from "@huggingface/jinja";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import type { ChatMessage, ChatTemplateOptions } from "./types.js";

/** The names under which a message's reasoning is found; templates read the first, some the second. */
const reasoningFields = ["reasoning_content", "thinking", "reasoning"] as const;

/** Stands behind the last message while the template runs, to find where that ends. */
const endMarker = "\uE000end-of-final-message\uE000";

/** Renders a conversation with what transformers gives its templates. `tokens` are bos_token and the like. */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
  tokens: Record<string, string>,
): string {
  const { addGenerationPrompt = false, continueFinalMessage = false, tools, documents, templateVariables } = options;
  checkMessages(messages);
  if (addGenerationPrompt && continueFinalMessage) {
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      "addGenerationPrompt opens a new turn and continueFinalMessage stays in the last one: give one of them.",
    );
  }
  const conversation = messages.map(aliasReasoning);
  if (continueFinalMessage) markEnd(conversation);
  const text = render(template, {
    ...tokens,
    // Undefined is "none" where a template asks, as in Python.
    tools: tools ?? null,
    documents: documents ?? null,
    ...templateVariables,
    messages: conversation,
    add_generation_prompt: addGenerationPrompt,
  });
  return continueFinalMessage ? cutAtMarker(text) : text;
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages)) throw invalidArgument("messages", "an array of { role, content }", messages);
  for (const [i, message] of messages.entries()) {
    if (typeof message !== "object" || message === null || typeof message.role !== "string") {
      throw invalidArgument(
        `messages[${i}]`,
        'an object with a role, such as { role: "user", content: "..." }',
        message,
      );
    }
  }
}

function aliasReasoning(message: ChatMessage): ChatMessage {
  const reasoning = reasoningFields
    .map((field) => message[field])
    .find((value) => value !== undefined && value !== null);
  return reasoning === undefined ? { ...message } : { thinking: reasoning, ...message, reasoning_content: reasoning };
}

/** The parsed form of the last template: a server renders the same one again and again. */
let lastTemplate: { source: string; template: Template } | undefined;

function render(source: string, variables: Record<string, unknown>): string {
  try {
    if (lastTemplate?.source !== source) lastTemplate = { source, template: new Template(source) };
    return lastTemplate.template.render(variables);
  } catch (error) {
    throw new ShardspeedError("ERR_TOKENIZER", `The chat template failed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function markEnd(conversation: ChatMessage[]): void {
  const last = conversation.at(-1);
  if (typeof last?.content === "string") {
    last.content += endMarker;
    return;
  }
  if (last !== undefined && Array.isArray(last.content)) {
    const parts = last.content.map((part: unknown) => (typeof part === "object" && part !== null ? { ...part } : part));
    const text = parts.findLast(
      (part): part is { text: string } => typeof (part as { text?: unknown })?.text === "string",
    );
    if (text !== undefined) {
      text.text += endMarker;
      last.content = parts;
      return;
    }
  }
  throw new ShardspeedError("ERR_INVALID_ARGUMENT", "continueFinalMessage needs a last message with text to continue.");
}

function cutAtMarker(text: string): string {
  const end = text.lastIndexOf(endMarker);
  if (end >= 0) return text.slice(0, end);
  throw new ShardspeedError(
    "ERR_TOKENIZER",
    "The chat template leaves out the end of the last message, so there is nothing for continueFinalMessage to continue.",
  );
}
