import { isObject } from "../base/objects.js";

/** One chunk of a stream of completions or of chat completions, as far as a load generator reads it. */
export interface ReadChunk {
  text: string;
  /** Whether the chunk brings text, token ids or log-probabilities: the first of these is the first token, the role alone is none. */
  hasTokens: boolean;
  isFinal: boolean;
  usage?: { promptTokens: number; newTokens: number };
}

/** What a chunk of the server was that cannot be counted as an answer. */
export class BadChunk extends Error {
  constructor(
    readonly kind: "invalid_json" | "error_event",
    message: string,
  ) {
    super(message);
  }
}

/**
 * Reads the data of an event.
 *
 * @throws BadChunk for what is not JSON, no object, or an error.
 */
export function readChunk(data: string): ReadChunk {
  const value = parse(data);
  if (!isObject(value)) throw new BadChunk("invalid_json", `the stream has an event that is no object: ${cut(data)}`);
  if (value.error) throw new BadChunk("error_event", describeError(value) ?? cut(data));
  const choices = Array.isArray(value.choices) ? value.choices.filter(isObject) : [];
  let text = "";
  let hasTokens = false;
  for (const choice of choices) {
    const delta = isObject(choice.delta) ? choice.delta : {};
    const parts = [choice.text, delta.content, delta.reasoning_content ?? delta.reasoning];
    text += parts.filter((part) => typeof part === "string").join("");
    hasTokens ||= bringsTokens(choice, delta);
  }
  hasTokens ||= text !== "";
  const isFinal = choices.some((choice) => typeof choice.finish_reason === "string" && choice.finish_reason !== "");
  const usage = readUsage(value.usage);
  return { text, hasTokens, isFinal, ...(usage === undefined ? {} : { usage }) };
}

function bringsTokens(choice: Record<string, unknown>, delta: Record<string, unknown>): boolean {
  const isFull = (value: unknown) => Array.isArray(value) && value.length > 0;
  const logprobs = isObject(choice.logprobs) ? choice.logprobs : {};
  return [choice.token_ids, delta.token_ids, delta.tool_calls, logprobs.content, logprobs.tokens].some(isFull);
}

function parse(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new BadChunk("invalid_json", `the stream has an event that is not JSON: ${cut(data)}`);
  }
}

/** The numbers of a `usage`; undefined for null and for what has none. */
export function readUsage(value: unknown): ReadChunk["usage"] {
  if (!isObject(value)) return undefined;
  const { prompt_tokens: promptTokens, completion_tokens: newTokens = 0 } = value;
  const isCount = (count: unknown): count is number => Number.isInteger(count) && (count as number) >= 0;
  return isCount(promptTokens) && isCount(newTokens) ? { promptTokens, newTokens } : undefined;
}

/** The message of an error's body, in OpenAI's form or in others that servers have; undefined where there is none. */
export function describeError(body: unknown): string | undefined {
  if (!isObject(body)) return undefined;
  const { error, message, detail } = body;
  const text = isObject(error) ? error.message : (error ?? message ?? detail);
  return typeof text === "string" && text !== "" ? cut(text) : undefined;
}

/** The beginning of a text, for messages. */
export function cut(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
