import { invalidArgument } from "../base/errors.js";
import { isPlainObject } from "../base/objects.js";
import type { ChatMessage, ChatTemplateOptions, Tokenizer } from "../tokenizer/types.js";

/** Text or token ids. */
export type TextPrompt = string | readonly number[] | Int32Array | Uint32Array;

/** A prompt: text, token ids, or the messages of a conversation, which the model's chat template turns into text. */
export type Prompt = TextPrompt | readonly ChatMessage[];

/** An array that begins with a message is a conversation. */
export function isConversation(prompt: unknown): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && isPlainObject(prompt[0]);
}

/** Text or arrays in an array are prompts; where anything else stands beside them, the error names the one that is wrong. */
export function isBatch<P extends Prompt>(prompt: P | readonly P[]): prompt is readonly P[] {
  return Array.isArray(prompt) && prompt.some((one) => typeof one === "string" || typeof one === "object");
}

/** A copy: what is checked must be what is used, whatever becomes of the caller's array. */
export function copyTokenIds(prompt: unknown, name: string): number[] {
  if (prompt instanceof Int32Array || prompt instanceof Uint32Array) return Array.from(prompt);
  if (!Array.isArray(prompt)) throw invalidArgument(name, "text, token ids, messages or an array of these", prompt);
  return [...prompt];
}

/**
 * A conversation as the text of a prompt. The assistant's turn is opened, unless the options say otherwise. Arguments of tool calls that are
 * JSON text, as OpenAI's API has them, reach the template as objects: it writes JSON itself and would quote the text once more.
 */
export function renderConversation(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions = {},
): string {
  const addGenerationPrompt = options.continueFinalMessage !== true;
  return tokenizer.applyChatTemplate(messages.map(withParsedCalls), {
    addGenerationPrompt,
    ...options,
    tokenize: false,
  });
}

/** Special tokens are the template's to write: adding those of the tokenizer would begin the sequence twice. */
export function encodeConversation(tokenizer: Tokenizer, text: string, addSpecialTokens = false): Promise<number[]> {
  return tokenizer.encodeAsync(text, { addSpecialTokens });
}

/** Messages are not checked yet. */
function withParsedCalls(message: ChatMessage): ChatMessage {
  const calls: unknown = message?.tool_calls;
  if (!Array.isArray(calls)) return message;
  return { ...message, tool_calls: calls.map(withParsedArguments) };
}

function withParsedArguments(call: unknown): unknown {
  if (!isPlainObject(call) || !isPlainObject(call.function)) return call;
  return { ...call, function: { ...call.function, arguments: parseCallArguments(call.function.arguments) } };
}

/** Arguments of a call as an object: of none an empty one. What is no JSON stays what it is. */
export function parseCallArguments(given: unknown): unknown {
  if (given === undefined || given === null || given === "") return {};
  if (typeof given !== "string") return given;
  try {
    return JSON.parse(given);
  } catch {
    return given;
  }
}
