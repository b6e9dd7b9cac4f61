import type { GenerateChunk, GenerateStart } from "../../worker/calls.js";
import { toStopReason } from "./generation.js";
import { CompletionColumns, type CompletionLogprobs, countCharacters, joinColumns } from "./logprobs.js";
import { toUsage, type Usage } from "./objects.js";
import { type PromptLogprobMap, toPromptColumns, toPromptMaps } from "./prompt_logprobs.js";

export interface CompletionChoiceOptions {
  index: number;
  /** The prompt, where it goes ahead of the new text. */
  echo: string | undefined;
  /** How many of the likeliest a token has, undefined: log-probabilities are not wanted. */
  logprobs: number | undefined;
  /** The same of the prompt, in vLLM's form. */
  promptLogprobs: number | undefined;
  tokensAsIds: boolean;
  wantsTokenIds: boolean;
  /** Of the request. */
  stopTokenIds: readonly number[];
}

/** A choice of an answer, or the part of it that a chunk has. */
export interface CompletionPiece {
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  finish_reason: string | null;
  stop_reason: string | number | null;
  prompt_logprobs?: (PromptLogprobMap | null)[];
  prompt_token_ids?: number[];
  token_ids?: number[];
}

/** Makes the pieces of one choice from what a worker gives. */
export class CompletionChoice {
  readonly #options: CompletionChoiceOptions;
  readonly #columns: CompletionColumns;
  #start: GenerateStart | undefined;
  #isFirst = true;
  readonly #usage = { promptTokens: 0, newTokens: 0, cachedTokens: 0 };

  constructor(options: CompletionChoiceOptions) {
    this.#options = options;
    this.#columns = new CompletionColumns(countCharacters(options.echo ?? ""), options.tokensAsIds);
  }

  begin(start: GenerateStart): void {
    this.#start = start;
    this.#usage.promptTokens = start.promptTokens;
    this.#usage.cachedTokens = start.cachedTokens ?? 0;
  }

  take(chunk: GenerateChunk): CompletionPiece {
    const { index, echo, wantsTokenIds, stopTokenIds } = this.#options;
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    this.#usage.newTokens += chunk.ids.length;
    return {
      index,
      text: isFirst ? (echo ?? "") + chunk.text : chunk.text,
      logprobs: this.#takeLogprobs(chunk),
      finish_reason: chunk.finishReason ?? null,
      stop_reason: toStopReason(chunk, stopTokenIds),
      ...this.#takePromptMaps(chunk),
      ...(wantsTokenIds && isFirst ? { prompt_token_ids: this.#start?.promptIds ?? [] } : {}),
      ...(wantsTokenIds ? { token_ids: chunk.ids } : {}),
    };
  }

  #takeLogprobs({ logprobs: ofTokens = [], promptLogprobs: ofPrompt }: GenerateChunk): CompletionLogprobs | null {
    const { echo, logprobs: most, tokensAsIds } = this.#options;
    if (most === undefined) return null;
    const columns = this.#columns.take(ofTokens);
    const firstToken = this.#start?.firstToken;
    if (echo === undefined || ofPrompt === undefined || firstToken === undefined) return columns;
    return joinColumns([toPromptColumns({ text: echo, firstToken, logprobs: ofPrompt, most, tokensAsIds }), columns]);
  }

  #takePromptMaps({ promptLogprobs }: GenerateChunk): Pick<CompletionPiece, "prompt_logprobs"> {
    const { promptLogprobs: most } = this.#options;
    return most === undefined || promptLogprobs === undefined
      ? {}
      : { prompt_logprobs: toPromptMaps(promptLogprobs, most) };
  }

  /** Tokens so far. */
  usage(): Usage {
    return toUsage([this.#usage]);
  }
}

/** Whether a stream has to have a piece: text that is held back comes with a later one. */
export function saysSomething({ text, logprobs, finish_reason, token_ids }: CompletionPiece): boolean {
  return text !== "" || finish_reason !== null || (logprobs?.tokens.length ?? 0) > 0 || (token_ids?.length ?? 0) > 0;
}

/** The whole choice. */
export function joinPieces(pieces: readonly CompletionPiece[]): CompletionPiece {
  const last = pieces.at(-1) as CompletionPiece;
  if (pieces.length === 1) return last;
  const columns = pieces.flatMap(({ logprobs }) => logprobs ?? []);
  return {
    ...last,
    ...(pieces[0]?.prompt_token_ids === undefined ? {} : { prompt_token_ids: pieces[0].prompt_token_ids }),
    ...(pieces[0]?.prompt_logprobs === undefined ? {} : { prompt_logprobs: pieces[0].prompt_logprobs }),
    text: pieces.map(({ text }) => text).join(""),
    logprobs: last.logprobs === null ? null : joinColumns(columns),
    ...(last.token_ids === undefined ? {} : { token_ids: pieces.flatMap(({ token_ids = [] }) => token_ids) }),
  };
}
