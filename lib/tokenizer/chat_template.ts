import { invalidArgument, ShardspeedError } from "../base/errors.js";
import type { ChatSettings } from "./chat_options.js";
import { Template, TemplateError } from "./jinja/index.js";
import type { ChatMessage } from "./types.js";

/** The names under which a message's reasoning is found; templates read the first, some the second. */
const reasoningFields = ["reasoning_content", "thinking", "reasoning"] as const;

/** transformers' marker behind the last message: templates that trim take its space. */
const endMarker = "CONTINUE_FINAL_MESSAGE_TAG ";

/** Renders a conversation with what transformers gives its templates. `tokens` are bos_token and the like. */
export function renderChat(
  source: string,
  messages: readonly ChatMessage[],
  settings: ChatSettings,
  tokens: Record<string, string>,
): string {
  const { addGenerationPrompt, continueFinalMessage, tools, documents, templateVariables } = settings;
  checkMessages(messages);
  const conversation = messages.map(prepareMessage);
  if (!templateReadsParts(source)) joinParts(conversation);
  const ending = continueFinalMessage ? markEnd(conversation) : undefined;
  const text = render(source, {
    ...tokens,
    // Undefined is "none" where a template asks, as in Python.
    tools: tools ?? null,
    documents: documents ?? null,
    ...templateVariables,
    messages: conversation,
    add_generation_prompt: addGenerationPrompt,
  });
  return ending === undefined ? text : cutAtMarker(text, ending);
}

function checkMessages(messages: readonly ChatMessage[]): void {
  if (!Array.isArray(messages)) throw invalidArgument("messages", "an array of { role, content }", messages);
  if (messages.length === 0) throw invalidArgument("messages", "at least one message", messages);
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

/** As in transformers: fields that are null are as good as absent, and reasoning is under both of its names. */
function prepareMessage(message: ChatMessage): ChatMessage {
  const { role, ...rest } = message;
  const fields = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null && value !== undefined));
  const reasoning = reasoningFields.map((field) => fields[field]).find((value) => value !== undefined);
  const plain = { role, ...fields };
  return reasoning === undefined ? plain : { thinking: reasoning, ...plain, reasoning_content: reasoning };
}

/** What a template is rendered with to learn whether it reads content parts. */
const probe = "\uE000a part of text\uE001";

/**
 * Whether a template goes over the parts of a message's content. One that takes content for a string would write Python's
 * form of the list into the prompt, or fail.
 */
export function templateReadsParts(source: string): boolean {
  if (lastProbe?.source === source) return lastProbe.reads;
  const parts = [{ role: "user", content: [{ type: "text", text: probe }] }];
  let reads = false;
  try {
    const text = parse(source).render(
      { messages: parts, tools: null, documents: null, add_generation_prompt: false, bos_token: "", eos_token: "" },
      { steps: 100_000, milliseconds: 1000 },
    );
    // Inside of Python's form of the list it stands in quotes.
    const place = text.indexOf(probe);
    reads = place >= 0 && !/['"]/.test(text[place - 1] ?? "");
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
  }
  lastProbe = { source, reads };
  return reads;
}
let lastProbe: { source: string; reads: boolean } | undefined;

/** Makes one string of content parts that are all text, as OpenAI's clients send them. */
function joinParts(conversation: ChatMessage[]): void {
  for (const [i, message] of conversation.entries()) {
    if (!Array.isArray(message.content)) continue;
    const texts = message.content.map((part: { type?: unknown; text?: unknown } | null) => {
      if (typeof part === "object" && part !== null && typeof part.text === "string") return part.text;
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `The chat template takes a message's content for text, but messages[${i}].content has a part of type ` +
          `${JSON.stringify((part as { type?: unknown } | null)?.type ?? typeof part)}. Give text, or parts of type "text".`,
      );
    });
    message.content = texts.join("");
  }
}

/** The parsed form of the last template: a server renders the same one again and again. */
let lastTemplate: { source: string; template: Template } | undefined;

function parse(source: string): Template {
  if (lastTemplate?.source !== source) lastTemplate = { source, template: new Template(source) };
  return lastTemplate.template;
}

function render(source: string, variables: Record<string, unknown>): string {
  try {
    return parse(source).render(variables);
  } catch (error) {
    const { message, line } = error as TemplateError;
    const place = line === undefined ? "" : ` at line ${line}`;
    throw new ShardspeedError("ERR_TOKENIZER", `The chat template failed${place}: ${message}`, { cause: error });
  }
}

/** Puts the marker behind the text that is to be continued, and returns that text. */
function markEnd(conversation: ChatMessage[]): string {
  const last = conversation.at(-1) as ChatMessage;
  if (typeof last.content === "string") {
    const { content } = last;
    last.content = content + endMarker;
    return content;
  }
  if (Array.isArray(last.content)) {
    const parts = last.content.map((part: unknown) => (typeof part === "object" && part !== null ? { ...part } : part));
    const text = parts.findLast(
      (part): part is { text: string } => typeof (part as { text?: unknown } | null)?.text === "string",
    );
    if (text !== undefined) {
      const content = text.text;
      text.text += endMarker;
      last.content = parts;
      return content;
    }
  }
  throw new ShardspeedError("ERR_INVALID_ARGUMENT", "continueFinalMessage needs a last message with text to continue.");
}

function cutAtMarker(text: string, ending: string): string {
  const marker = endMarker.trimEnd();
  const end = text.lastIndexOf(marker);
  if (end < 0 || !text.includes(ending.trim())) {
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      "The chat template leaves out the end of the last message, so there is nothing for continueFinalMessage to continue.",
    );
  }
  // A template that trims the message took the marker's space, and would have taken the message's.
  return text.startsWith(endMarker, end) ? text.slice(0, end) : text.slice(0, end).trimEnd();
}
