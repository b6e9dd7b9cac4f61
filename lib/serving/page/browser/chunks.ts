import type { Timings } from "./timeline.js";

/** A token and how likely it was. */
export interface LikelyToken {
  /** As the server names it. */
  name: string;
  /** Of its text; a part of a character is no text of its own. */
  bytes: Uint8Array;
  logprob: number;
}

export type AnswerToken = LikelyToken & {
  /** The likeliest tokens at this place, this one among them where it is. */
  top: LikelyToken[];
};

/** What an event of a stream says, in whichever API. */
export interface AnswerPart {
  text: string;
  tokens: AnswerToken[];
  finishReason?: string;
  timings?: Timings;
  newTokens?: number;
  promptTokens?: number;
  /** The server's message of a failure inside the stream. */
  failure?: string;
}

type Json = { readonly [key: string]: unknown };

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const asObject = (value: unknown): Json => (isObject(value) ? value : {});
const asArray = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const asText = (value: unknown): string => (typeof value === "string" ? value : "");
const asNumber = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined);

/** Reads a chunk of completions or of chat. What is not as expected is left out: text is never lost for it. */
export function readChunk(chunk: unknown): AnswerPart {
  const { choices, error, usage, timings } = asObject(chunk);
  if (isObject(error)) return { text: "", tokens: [], failure: asText(error.message) || "The server failed." };
  const choice = asObject(asArray(choices)[0]);
  const delta = asObject(choice.delta);
  const logprobs = asObject(choice.logprobs);
  const counts = asObject(usage);
  const finishReason = choice.finish_reason;
  const newTokens = asNumber(counts.completion_tokens);
  const promptTokens = asNumber(counts.prompt_tokens);
  return {
    text: asText(choice.text) + asText(delta.content),
    tokens: Array.isArray(logprobs.content) ? logprobs.content.map(readChatToken) : readColumns(logprobs),
    ...(typeof finishReason === "string" ? { finishReason } : {}),
    ...(isObject(timings) ? { timings: timings as Timings } : {}),
    ...(newTokens === undefined ? {} : { newTokens }),
    ...(promptTokens === undefined ? {} : { promptTokens }),
  };
}

function readChatToken(given: unknown): AnswerToken {
  const read = (one: unknown): LikelyToken => {
    const { token, bytes, logprob } = asObject(one);
    const name = asText(token);
    return {
      name,
      bytes: Array.isArray(bytes) ? Uint8Array.from(bytes) : toBytes(name),
      logprob: asNumber(logprob) ?? 0,
    };
  };
  return { ...read(given), top: asArray(asObject(given).top_logprobs).map(read) };
}

/** The columns of completions. */
function readColumns({ tokens, token_logprobs, top_logprobs }: Json): AnswerToken[] {
  const make = (name: string, logprob: unknown) => ({ name, bytes: toBytes(name), logprob: asNumber(logprob) ?? 0 });
  return asArray(tokens).map((name, i) => {
    const top = Object.entries(asObject(asArray(top_logprobs)[i])).map(([other, logprob]) => make(other, logprob));
    return { ...make(asText(name), asArray(token_logprobs)[i]), top: top.sort((a, b) => b.logprob - a.logprob) };
  });
}

/** A part of a character is called `bytes:\xe2\x80`. */
function toBytes(name: string): Uint8Array {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(name)) return new TextEncoder().encode(name);
  return Uint8Array.from(name.slice("bytes:".length).split("\\x").slice(1), (hex) => Number.parseInt(hex, 16));
}
