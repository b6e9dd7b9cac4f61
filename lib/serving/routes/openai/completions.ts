import type { FastifyReply } from "fastify";
import type { GenerationUsage } from "../../../engine/generation.js";
import type { GenerateCall, GenerateChunk } from "../../worker/calls.js";
import { readBody } from "./body.js";
import { CompletionChoice, type CompletionPiece, joinPieces, saysSomething } from "./completion_choice.js";
import { contextOverflow } from "./errors.js";
import { type CompletionBody, completionSchema } from "./fields.js";
import { checkRoom, generateAll, type SequenceReader } from "./generation.js";
import { type AnswerHead, lastFields, newHead, withHead } from "./objects.js";
import { checkIds, type RawPrompt, splitPrompts, wellFormed } from "./prompts.js";
import { checkSampling, type NewTokens, toCall } from "./sampling.js";
import { findModel, type OpenAiContext, requireTask, type Session, setTimingHeaders, withSession } from "./session.js";
import { checkStreamOptions, sendLast, streamChunks, usageOfChunk } from "./stream.js";
import { refuseUnsupported } from "./unsupported.js";

/** OpenAI's default. */
const defaultMaxTokens = 16;

/** A prompt, what is asked about it, and the text that goes ahead of the new one. */
interface PlannedPrompt {
  call: GenerateCall;
  echo: string | undefined;
}

/** POST /v1/completions. @returns The body, or undefined where the answer is a stream. */
export async function answerCompletion(
  context: OpenAiContext,
  given: unknown,
  reply: FastifyReply,
): Promise<object | undefined> {
  const { settings } = context;
  const body = readBody(completionSchema, given);
  refuseUnsupported("completions", body);
  context.ignored.note("completions", body, completionSchema.shape);
  checkStreamOptions(body);
  const wanted: NewTokens = {
    most: body.max_tokens ?? undefined,
    field: "max_tokens",
    unset: defaultMaxTokens,
    logprobs: body.logprobs ?? undefined,
    promptLogprobs: countPromptLogprobs(body),
  };
  checkSampling(body, wanted, settings);
  const raw = splitPrompts(body.prompt, "prompt", settings.maxPrompts);
  const named = findModel(context, body.model);
  const places = { count: raw.length * (body.n ?? 1), promptField: "prompt" };
  return withSession(context, named, reply, places, async (session) => {
    requireTask(session, "generate");
    const answer = new CompletionAnswer(session, body, context);
    await answer.plan(raw, wanted);
    if (!body.stream) return answer.whole(reply);
    await streamChunks(context, reply, session.errors, (send) => answer.stream(send));
    return undefined;
  });
}

/** Those of an echoed prompt have as many of the likeliest as those of the new tokens. */
function countPromptLogprobs({ echo, logprobs, prompt_logprobs: wanted }: CompletionBody): number | undefined {
  const counts = [wanted, echo ? logprobs : undefined].filter((count) => typeof count === "number");
  return counts.length === 0 ? undefined : Math.max(...counts);
}

/** A prompt that is only read may fill the context. */
function leastNewTokens({ max_tokens: most }: CompletionBody): number {
  return Math.min(1, most ?? 1);
}

class CompletionAnswer {
  readonly #session: Session;
  readonly #body: CompletionBody;
  readonly #context: OpenAiContext;
  readonly #head: AnswerHead;
  #prompts: PlannedPrompt[] = [];

  constructor(session: Session, body: CompletionBody, context: OpenAiContext) {
    this.#session = session;
    this.#body = body;
    this.#context = context;
    this.#head = newHead(session, "cmpl-", "text_completion");
  }

  /** Checks the prompts, and asks for the texts of those that are echoed and came as ids, or not as a whole. */
  async plan(raw: readonly RawPrompt[], wanted: NewTokens): Promise<void> {
    const { engine } = this.#session;
    const common = toCall(this.#body, wanted, engine, this.#context.settings);
    const { echo, add_special_tokens: addsSpecial } = this.#body;
    const isCut = common.truncatePromptTokens !== undefined;
    this.#prompts = await Promise.all(
      raw.map(async (prompt, i) => {
        if (typeof prompt === "string") {
          const text = wellFormed(prompt);
          const whole = { text, addSpecialTokens: addsSpecial ?? true };
          if (!echo || !isCut) return { call: { prompt: whole, ...common }, echo: echo ? text : undefined };
          const { ids } = await this.#session.call("tokenize", { prompt: whole });
          return this.#planIds(common, ids);
        }
        const path = raw.length === 1 ? "prompt" : `prompt[${i}]`;
        const room = engine.contextTokens - leastNewTokens(this.#body);
        return this.#planIds(common, checkIds(prompt, path, engine, { mayExceed: isCut, room }));
      }),
    );
  }

  async #planIds(common: Omit<GenerateCall, "prompt">, ids: readonly number[]): Promise<PlannedPrompt> {
    const call = { prompt: { ids }, ...common };
    if (!this.#body.echo) return { call, echo: undefined };
    const kept = this.#keep(ids, common.truncatePromptTokens);
    return { call, echo: (await this.#session.call("detokenize", { ids: kept })).text };
  }

  /** The end of a prompt that a request wants to be read. */
  #keep(ids: readonly number[], most = Number.POSITIVE_INFINITY): readonly number[] {
    const limit = most === -1 ? this.#session.engine.contextTokens - leastNewTokens(this.#body) : most;
    return ids.slice(Math.max(0, ids.length - limit));
  }

  async whole(reply: FastifyReply): Promise<object> {
    const count = this.#prompts.length * (this.#body.n ?? 1);
    const pieces = Array.from({ length: count }, (): CompletionPiece[] => []);
    const usages = await this.#run((piece) => pieces[piece.index]?.push(piece));
    setTimingHeaders(reply, this.#session.reservation);
    const last = lastFields(this.#session, this.#body, usages);
    return withHead(this.#head, { choices: pieces.map(joinPieces), ...last });
  }

  async stream(send: (chunk: object) => void): Promise<void> {
    const usages = await this.#run((piece, choice) => {
      if (!saysSomething(piece)) return;
      send(withHead(this.#head, { choices: [piece], ...usageOfChunk(this.#body, () => choice.usage()) }));
    });
    sendLast(send, this.#head, this.#body, lastFields(this.#session, this.#body, usages));
  }

  /** Choices of a prompt are one behind another. */
  #run(onPiece: (piece: CompletionPiece, choice: CompletionChoice) => void): Promise<GenerationUsage[]> {
    const body = this.#body;
    const { settings } = this.#context;
    const perPrompt = body.n ?? 1;
    const readers = this.#prompts.map(({ echo }, prompt): SequenceReader => {
      const choices = Array.from({ length: perPrompt }, (_, k) => this.#toChoice(prompt * perPrompt + k, echo));
      return {
        start: (start) => {
          if (settings.strictMaxTokens) checkRoom(start, body.max_tokens, "prompt", this.#session);
          for (const choice of choices) choice.begin(start);
        },
        chunk: withPromptLogprobs(countPromptLogprobs(body) !== undefined && perPrompt > 1, (chunk) => {
          const choice = choices[chunk.index ?? 0] as CompletionChoice;
          onPiece(choice.take(chunk), choice);
        }),
      };
    });
    const calls = this.#prompts.map(({ call }) => call);
    const isCounted = body.max_tokens === 0 && countPromptLogprobs(body) === undefined;
    return isCounted ? this.#readOnly(calls, readers) : generateAll(this.#session, calls, readers);
  }

  #toChoice(index: number, echo: string | undefined): CompletionChoice {
    const body = this.#body;
    return new CompletionChoice({
      index,
      echo,
      logprobs: body.logprobs ?? undefined,
      promptLogprobs: body.prompt_logprobs ?? undefined,
      tokensAsIds: body.return_tokens_as_token_ids ?? this.#context.settings.returnTokensAsTokenIds,
      wantsTokenIds: body.return_token_ids === true,
      stopTokenIds: body.stop_token_ids ?? [],
    });
  }

  /** No new tokens: the prompts are counted, and each choice ends at once. */
  async #readOnly(calls: readonly GenerateCall[], readers: readonly SequenceReader[]): Promise<GenerationUsage[]> {
    const { engine } = this.#session;
    return Promise.all(
      calls.map(async ({ prompt, truncatePromptTokens }, i) => {
        const all = "ids" in prompt ? prompt.ids : (await this.#session.call("tokenize", { prompt })).ids;
        const promptIds = [...this.#keep(all, truncatePromptTokens)];
        const promptTokens = promptIds.length;
        if (promptTokens > engine.contextTokens)
          throw contextOverflow(engine.contextTokens, "prompt", { prompt: promptTokens });
        readers[i]?.start({ promptTokens, promptIds, maxNewTokens: 0 });
        const logprobs = this.#body.logprobs === undefined ? {} : { logprobs: [] };
        for (let index = 0; index < (this.#body.n ?? 1); index++)
          readers[i]?.chunk({ index, text: "", ids: [], finishReason: "length", ...logprobs });
        return { promptTokens, newTokens: 0, cachedTokens: 0 };
      }),
    );
  }
}

/** Gives each choice the log-probabilities of the prompt, which the first one brings; others wait for them. */
function withPromptLogprobs(areShared: boolean, read: (chunk: GenerateChunk) => void): (chunk: GenerateChunk) => void {
  if (!areShared) return read;
  let promptLogprobs: GenerateChunk["promptLogprobs"];
  let held: GenerateChunk[] = [];
  const begun = new Set<number | undefined>();
  return (chunk) => {
    promptLogprobs ??= chunk.promptLogprobs;
    held.push(chunk);
    if (promptLogprobs === undefined) return;
    for (const one of held) read(begun.has(one.index) ? one : { ...one, promptLogprobs });
    for (const one of held) begun.add(one.index);
    held = [];
  };
}
