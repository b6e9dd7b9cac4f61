import type { GenerateChunk, GenerateStart } from "../../worker/calls.js";
import { toStopReason } from "./generation.js";
import { type ChatLogprob, toChatLogprob } from "./logprobs.js";
import { toUsage, type Usage } from "./objects.js";
import { type PromptLogprobMap, toPromptMaps } from "./prompt_logprobs.js";
import type { ToolDelta, ToolStream } from "./tools/tool_stream.js";

export interface ChatChoiceOptions {
  index: number;
  /** Tells calls of tools from text; undefined: all is text. */
  toolStream: ToolStream | undefined;
  wantsLogprobs: boolean;
  tokensAsIds: boolean;
  wantsTokenIds: boolean;
  /** How many of the likeliest a token of the prompt has; undefined: its log-probabilities are not wanted. */
  promptLogprobs: number | undefined;
  /** Of the request. */
  stopTokenIds: readonly number[];
}

interface CallDelta {
  index: number;
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

export interface ChatDelta {
  role?: "assistant";
  content?: string;
  tool_calls?: CallDelta[];
}

/** The choice of a chunk. */
export interface ChatPiece {
  index: number;
  delta: ChatDelta;
  logprobs: { content: ChatLogprob[]; refusal: null } | null;
  finish_reason: string | null;
  stop_reason?: string | number | null;
  token_ids?: number[];
}

/** Makes the pieces of one choice from what a worker gives. */
export class ChatChoice {
  readonly #options: ChatChoiceOptions;
  #start: GenerateStart | undefined;
  #isFirst = true;
  readonly #usage = { promptTokens: 0, newTokens: 0, cachedTokens: 0 };
  /** Of the whole prompt, where they are wanted and have come. */
  promptLogprobs: (PromptLogprobMap | null)[] | undefined;
  /** Calls that turned out to be none after a stream may have announced them. */
  readonly abandoned = new Set<number>();

  constructor(options: ChatChoiceOptions) {
    this.#options = options;
  }

  begin(start: GenerateStart): void {
    this.#start = start;
    this.#usage.promptTokens = start.promptTokens;
    this.#usage.cachedTokens = start.cachedTokens ?? 0;
  }

  get promptIds(): number[] {
    return this.#start?.promptIds ?? [];
  }

  /** Tokens so far. */
  usage(): Usage {
    return toUsage([this.#usage]);
  }

  /** The role comes with the first token, not ahead of it: load generators take the first chunk for that. */
  take(chunk: GenerateChunk): ChatPiece[] {
    this.#usage.newTokens += chunk.ids.length;
    const most = this.#options.promptLogprobs;
    if (most !== undefined && chunk.promptLogprobs) this.promptLogprobs = toPromptMaps(chunk.promptLogprobs, most);
    const deltas = this.#read(chunk).map(toDelta);
    if (this.#isFirst) deltas.unshift({ role: "assistant", content: "" });
    this.#isFirst = false;
    const pieces = deltas.map((delta) => this.#piece(delta));
    if (chunk.finishReason !== undefined) pieces.push(this.#end(chunk));
    return this.#addTokens(pieces, chunk);
  }

  #read(chunk: GenerateChunk): ToolDelta[] {
    const { toolStream } = this.#options;
    if (toolStream === undefined) return chunk.text === "" ? [] : [{ kind: "text", text: chunk.text }];
    const deltas = toolStream.push(chunk.text);
    if (chunk.finishReason !== undefined) deltas.push(...toolStream.end(chunk.finishReason));
    for (const delta of deltas) {
      if (delta.kind === "text" && delta.abandons !== undefined) this.abandoned.add(delta.abandons);
    }
    return deltas;
  }

  #piece(delta: ChatDelta): ChatPiece {
    return { index: this.#options.index, delta, logprobs: null, finish_reason: null };
  }

  #end(chunk: GenerateChunk): ChatPiece {
    // What is cut by its length may have ended in the middle of a call.
    const isCalled = chunk.finishReason === "stop" && (this.#options.toolStream?.completeCalls ?? 0) > 0;
    const reason = isCalled ? "tool_calls" : chunk.finishReason;
    return {
      ...this.#piece({}),
      finish_reason: reason ?? null,
      stop_reason: toStopReason(chunk, this.#options.stopTokenIds),
    };
  }

  /** Tokens go with the last of their pieces, which is the one that has their text; where that is held back, with one that has none. */
  #addTokens(pieces: ChatPiece[], { ids, logprobs = [] }: GenerateChunk): ChatPiece[] {
    const { wantsLogprobs, wantsTokenIds, tokensAsIds } = this.#options;
    if (ids.length === 0 || !(wantsLogprobs || wantsTokenIds)) return pieces;
    if (pieces.length === 0) pieces.push(this.#piece({ content: "" }));
    const holder = pieces.findLast(({ finish_reason }) => finish_reason === null) ?? (pieces[0] as ChatPiece);
    if (wantsLogprobs) {
      holder.logprobs = { content: logprobs.map((one) => toChatLogprob(one, tokensAsIds)), refusal: null };
    }
    if (wantsTokenIds) holder.token_ids = ids;
    return pieces;
  }
}

function toDelta(delta: ToolDelta): ChatDelta {
  if (delta.kind === "text") return { content: delta.text };
  if (delta.kind === "arguments") return { tool_calls: [{ index: delta.index, function: { arguments: delta.text } }] };
  const { index, id, name } = delta;
  return { tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] };
}

/** The whole choice: what a client makes of the pieces, without calls that were none. */
export function joinChatPieces(pieces: readonly ChatPiece[], choice: ChatChoice, wantsLogprobs: boolean): object {
  const last = pieces.at(-1) as ChatPiece;
  const content = pieces.map(({ delta }) => delta.content ?? "").join("");
  const calls = joinCalls(pieces.flatMap(({ delta }) => delta.tool_calls ?? [])).filter(
    (_, index) => !choice.abandoned.has(index),
  );
  const tokens = pieces.flatMap(({ logprobs }) => logprobs?.content ?? []);
  const ids = pieces.flatMap(({ token_ids = [] }) => token_ids);
  return {
    index: last.index,
    message: {
      role: "assistant",
      content: content === "" && calls.length > 0 ? null : content,
      refusal: null,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    },
    logprobs: wantsLogprobs ? { content: tokens, refusal: null } : null,
    finish_reason: last.finish_reason,
    stop_reason: last.stop_reason ?? null,
    ...(pieces.some(({ token_ids }) => token_ids !== undefined) ? { token_ids: ids } : {}),
  };
}

function joinCalls(deltas: readonly CallDelta[]): object[] {
  const calls: { id: string; type: "function"; function: { name: string; arguments: string } }[] = [];
  for (const { index, id = "", function: called } of deltas) {
    const known = calls[index];
    if (known === undefined) {
      calls[index] = { id, type: "function", function: { name: called.name ?? "", arguments: called.arguments } };
    } else {
      known.function.arguments += called.arguments;
    }
  }
  return calls;
}
