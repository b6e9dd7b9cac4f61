import { ShardspeedError } from "../../base/errors.js";
import type { Engine } from "../../engine/engine.js";
import type { GenerationChunk, StreamPace } from "../../engine/generation.js";
import type { GenerationOptions } from "../../engine/generation_options.js";
import { describeTokens } from "../../engine/logprobs.js";
import { encodeConversation, renderConversation } from "../../engine/prompts.js";
import type { Tokenizer } from "../../tokenizer/types.js";
import type {
  ChatPrompt,
  EngineCallName,
  EngineCalls,
  EngineDescription,
  GenerateChunk,
  GenerateStart,
  PromptInput,
} from "./calls.js";

/** What a call gets besides its argument. */
interface Calling<Name extends EngineCallName> {
  signal: AbortSignal;
  /** Of streams of tokens. */
  pace: StreamPace;
  /** Sends a part ahead of the result. */
  emit(part: EngineCalls[Name]["part"]): void;
}

type Implementations = {
  [Name in EngineCallName]: (
    engine: Engine,
    argument: EngineCalls[Name]["argument"],
    calling: Calling<Name>,
  ) => Promise<EngineCalls[Name]["result"]>;
};

/** What workers do when a server asks their engine. */
const implementations: Implementations = {
  async generate(engine, { prompt, options, truncatePromptTokens, wantsPromptIds, ...text }, { signal, pace, emit }) {
    // A prompt that is only read may fill the context.
    const leastNew = Math.min(1, options.maxNewTokens ?? 1);
    const ids = truncate(await toIds(engine, prompt), truncatePromptTokens, engine.contextTokens - leastNew);
    const room = engine.contextTokens - ids.length;
    if (room < leastNew) throw tooLong(engine, ids.length, options.maxNewTokens ?? 1, "chat" in prompt);
    const maxNewTokens = Math.min(options.maxNewTokens ?? room, room);
    const start: GenerateStart = {
      promptTokens: ids.length,
      maxNewTokens,
      ...(wantsPromptIds ? { promptIds: ids } : {}),
      ...(options.promptLogprobs === undefined ? {} : { firstToken: describeFirst(engine, ids) }),
    };
    let usage = { promptTokens: ids.length, newTokens: 0, cachedTokens: 0 };
    const { skipSpecialTokens = true, includeStopString = false } = text;
    const { minNewTokens: least, maxNewTokens: _, ...others } = options;
    const minNewTokens = Math.min(least ?? 0, maxNewTokens);
    const all = { keepSpecialTokens: !skipSpecialTokens, maxNewTokens, minNewTokens, signal, ...others };
    let hasBegun = false;
    for await (const chunk of (options.numBeams ?? 1) > 1 ? search(engine, ids, all) : engine.stream(ids, all, pace)) {
      // Together with the first chunk: a message of its own would wake the server while the prompt is computed.
      if (!hasBegun) {
        start.cachedTokens = chunk.cachedTokens;
        emit({ start });
      }
      hasBegun = true;
      usage = chunk.usage ?? usage;
      const part = toPart(chunk);
      if (!skipSpecialTokens) part.text = withoutStopToken(engine, chunk);
      if (includeStopString && typeof chunk.stopReason === "string") part.text += chunk.stopReason;
      emit({ chunk: part });
    }
    return { usage };
  },

  async tokenize(engine, { prompt, wantsStrings = false }) {
    const ids = await toIds(engine, prompt);
    const tokenizer = requireTokenizer(engine);
    return wantsStrings ? { ids, strings: ids.map((id) => tokenizer.idToToken(id) ?? "") } : { ids };
  },

  async detokenize(engine, { ids }) {
    return { text: requireTokenizer(engine).decode([...ids]) };
  },

  async render(engine, { chat }) {
    return { text: render(engine, chat) };
  },

  async embed(engine, { texts, normalize, truncatePromptTokens }, { signal }) {
    const maxTokens = truncatePromptTokens === -1 ? engine.contextTokens : truncatePromptTokens;
    const { embeddings, usage } = await engine.embed(texts as (string | number[])[], {
      ...(normalize === undefined ? {} : { normalize }),
      ...(maxTokens === undefined ? {} : { maxTokens }),
      signal,
    });
    return { values: embeddings.data, width: embeddings.dims[1], promptTokens: usage.promptTokens };
  },

  async classify(engine, { texts }, { signal }) {
    const found = await engine.classify([...texts], { signal });
    let promptTokens = 0;
    for (const text of texts) promptTokens += await countTokens(engine, text);
    const results = found.map(({ label, scores, logits }) => ({ label, scores, logits: [...logits] }));
    return { results, promptTokens };
  },
};

/** The texts of a beam search, each as one chunk. */
async function* search(engine: Engine, ids: number[], options: GenerationOptions): AsyncGenerator<GenerationChunk> {
  const { choices, usage, timings: _, promptLogprobs, ...first } = await engine.generate(ids, options);
  const { cachedTokens } = usage;
  const shared = { usage, cachedTokens, ...(promptLogprobs === undefined ? {} : { promptLogprobs }) };
  for (const [index, choice] of (choices ?? [first]).entries()) yield { index, ...choice, ...shared };
}

/** Runs a call. @throws ShardspeedError ERR_INVALID_ARGUMENT for a name that is none. */
export function runEngineCall<Name extends EngineCallName>(
  engine: Engine,
  name: Name,
  argument: EngineCalls[Name]["argument"],
  calling: Calling<Name>,
): Promise<EngineCalls[Name]["result"]> {
  const implementation = implementations[name];
  return implementation(engine, argument, calling);
}

/** What the engine is, for routes. */
export function describeEngine(engine: Engine): EngineDescription {
  const { module, tokenizer } = engine;
  const { info } = module;
  const stats = engine.stats();
  const chatTemplate = tokenizer?.chatTemplate;
  const generates = info.generates && tokenizer !== undefined;
  return {
    info,
    contextTokens: engine.contextTokens,
    tasks: [
      ...(info.generates ? (["generate"] as const) : []),
      ...(generates && chatTemplate !== undefined ? (["chat"] as const) : []),
      ...(info.head === "hidden" || info.head === "logits" ? (["embed"] as const) : []),
      ...(info.head === "classes" ? (["classify", "score"] as const) : []),
    ],
    parameters: module.tensors.reduce((sum, { shape }) => sum + shape.reduce((size, dim) => size * dim, 1), 0),
    weightBytes: stats.memory.reduce((sum, { weightBytes }) => sum + weightBytes, 0),
    dtype: module.dtype,
    devices: module.devices,
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    generationDefaults: { ...engine.modelSampling },
    ...(tokenizer === undefined ? {} : { tokenizer: describeTokenizer(tokenizer) }),
  };
}

function describeTokenizer({ bosToken, eosToken, padToken, unkToken, bosTokenId, eosTokenId }: Tokenizer) {
  return { bosToken, eosToken, padToken, unkToken, bosTokenId, eosTokenId };
}

function describeFirst({ tokenizer }: Engine, ids: readonly number[]) {
  const { logprob: _, ...token } = describeTokens(tokenizer)({ id: ids[0] as number, logprob: 0 });
  return token;
}

function toPart(chunk: GenerationChunk): GenerateChunk {
  const { index, text, ids, logprobs, promptLogprobs, finishReason, stopReason } = chunk;
  return {
    text,
    ids,
    ...(index === undefined ? {} : { index }),
    ...(logprobs === undefined ? {} : { logprobs }),
    ...(promptLogprobs === undefined ? {} : { promptLogprobs }),
    ...(finishReason === undefined ? {} : { finishReason }),
    ...(stopReason === undefined ? {} : { stopReason }),
  };
}

/** Special tokens are shown where they are asked for, but not the one that ends the answer. */
function withoutStopToken({ tokenizer }: Engine, { text, stopReason }: GenerationChunk): string {
  const token = typeof stopReason === "number" ? tokenizer?.idToToken(stopReason) : undefined;
  const isShown = token !== undefined && tokenizer?.specialTokenIds.has(stopReason as number) && text.endsWith(token);
  return isShown ? text.slice(0, -token.length) : text;
}

function requireTokenizer(engine: Engine): Tokenizer {
  if (engine.tokenizer !== undefined) return engine.tokenizer;
  throw new ShardspeedError("ERR_TOKENIZER", "The model folder has no tokenizer: prompts must be token ids.");
}

async function toIds(engine: Engine, prompt: PromptInput): Promise<number[]> {
  if ("ids" in prompt) return [...prompt.ids];
  const tokenizer = requireTokenizer(engine);
  if ("text" in prompt) {
    const { text, addSpecialTokens = true } = prompt;
    const ids = await tokenizer.encodeAsync(toWellFormed(text), { addSpecialTokens });
    // A text of no tokens is one that begins.
    if (ids.length === 0 && tokenizer.bosTokenId !== undefined) return [tokenizer.bosTokenId];
    return ids;
  }
  const { chat, addSpecialTokens } = prompt;
  return encodeConversation(tokenizer, render(engine, chat), addSpecialTokens);
}

function render(engine: Engine, chat: ChatPrompt): string {
  const { messages, tools, documents, addGenerationPrompt = true, continueFinalMessage = false } = chat;
  const { chatTemplate, templateVariables } = chat;
  return renderConversation(requireTokenizer(engine), messages, {
    addGenerationPrompt,
    continueFinalMessage,
    ...(tools === undefined ? {} : { tools }),
    ...(documents === undefined ? {} : { documents }),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(templateVariables === undefined ? {} : { templateVariables }),
  });
}

function truncate(ids: number[], limit: number | undefined, most: number): number[] {
  if (limit === undefined) return ids;
  const kept = limit === -1 ? most : limit;
  return ids.length > kept ? ids.slice(ids.length - kept) : ids;
}

/** In words that clients of OpenAI's API look for. */
function tooLong({ contextTokens }: Engine, promptTokens: number, newTokens: number, isChat: boolean): ShardspeedError {
  const error = new ShardspeedError(
    "ERR_CONTEXT_LENGTH",
    `This model's maximum context length is ${contextTokens} tokens. However, you requested ${promptTokens + newTokens} tokens ` +
      `(${promptTokens} in the ${isChat ? "messages" : "prompt"}, ${newTokens} in the completion). Please reduce the length of the ` +
      "messages or completion.",
  );
  return Object.assign(error, { details: { promptTokens, contextTokens } });
}

async function countTokens(engine: Engine, text: string | { text: string; textPair: string }): Promise<number> {
  const tokenizer = requireTokenizer(engine);
  if (typeof text === "string") return (await tokenizer.encodeAsync(text)).length;
  return tokenizer.encodePair(text.text, text.textPair).inputIds.length;
}

/** Half of a surrogate pair, which JSON may carry, is no character: U+FFFD, as UTF-8 encoders write it. */
function toWellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
