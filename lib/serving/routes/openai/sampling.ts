import { readSampling } from "../../../engine/generation_defaults.js";
import type { GenerationOptions } from "../../../engine/generation_options.js";
import { mostLogprobs } from "../../../native/limits.js";
import type { EngineDescription, GenerateCall } from "../../worker/calls.js";
import { readAnswerFormat } from "./answer_format.js";
import { invalidRequest } from "./errors.js";
import type { SamplingBody } from "./fields.js";
import type { OpenAiSettings } from "./settings.js";
import type { StreamBody } from "./stream.js";

/** What a request says of the new tokens, in the terms of its route. */
export interface NewTokens {
  /** Most new tokens that the request asks for, and the field that says so; undefined: it does not say. */
  most?: number | undefined;
  field: string;
  /** For a request that does not say. undefined: as many as the context has room for. */
  unset?: number;
  /** Log-probabilities of each, and of how many of the likeliest. */
  logprobs?: number | undefined;
  /** The same of the prompt's tokens. */
  promptLogprobs?: number | undefined;
}

/** The part of a call that completions and conversations have in common. */
export function toCall(
  body: SamplingBody,
  wanted: NewTokens,
  engine: EngineDescription,
  settings: OpenAiSettings,
): Omit<GenerateCall, "prompt"> {
  return {
    options: toGenerationOptions(body, wanted, engine, settings),
    ...(isGiven(body.truncate_prompt_tokens) ? { truncatePromptTokens: body.truncate_prompt_tokens } : {}),
    ...(isGiven(body.skip_special_tokens) ? { skipSpecialTokens: body.skip_special_tokens } : {}),
    ...(body.include_stop_str_in_output ? { includeStopString: true } : {}),
    ...(body.return_token_ids ? { wantsPromptIds: true } : {}),
  };
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/** Checks what the schema cannot: it needs no model, and comes before places are taken. */
export function checkSampling(
  body: SamplingBody & StreamBody,
  { most, logprobs }: NewTokens,
  settings: OpenAiSettings,
): void {
  const least = body.min_tokens ?? 0;
  if (most !== undefined && least > most) {
    throw invalidRequest("invalid_value", `Expected min_tokens to be at most ${most}, found ${least}.`, "min_tokens");
  }
  readStop(body.stop, settings.maxStopStrings);
  readAnswerFormat(body);
  const limit = Math.min(mostLogprobs, settings.maxLogprobs);
  if (logprobs !== undefined && logprobs > limit) {
    const field = "top_logprobs" in body && body.top_logprobs !== undefined ? "top_logprobs" : "logprobs";
    throw invalidRequest("invalid_value", `Expected ${field} to be at most ${limit}, found ${logprobs}.`, field);
  }
  checkPromptLogprobs(body, limit);
}

function checkPromptLogprobs({ prompt_logprobs: count, stream }: SamplingBody & StreamBody, limit: number): void {
  if (!isGiven(count)) return;
  const field = "prompt_logprobs";
  if (stream) {
    const message = "prompt_logprobs are not available in a stream. Leave stream out, or use echo with logprobs.";
    throw invalidRequest("invalid_value", message, field);
  }
  if (count <= limit) return;
  throw invalidRequest("invalid_value", `Expected ${field} to be at most ${limit}, found ${count}.`, field);
}

function toGenerationOptions(
  body: SamplingBody,
  { most, field, unset, logprobs, promptLogprobs }: NewTokens,
  { contextTokens, generationDefaults, info }: EngineDescription,
  settings: OpenAiSettings,
): GenerateCall["options"] {
  const ofModel = settings.generationConfig === "auto" ? generationDefaults : {};
  const defaults: Readonly<Record<string, unknown>> = Object.assign(
    {},
    ofModel,
    readSampling(settings.overrideGenerationConfig).sampling,
  );
  const choose = (given: number | null | undefined, name: string, neutral: number): number => {
    const value = defaults[name];
    return given ?? (typeof value === "number" ? value : neutral);
  };
  const cap = choose(undefined, "maxNewTokens", contextTokens);
  const maxNewTokens = Math.min(contextTokens, most ?? Math.min(unset ?? contextTokens, cap));
  const minNewTokens = body.min_tokens ?? 0;
  if (minNewTokens > maxNewTokens) {
    const message = `Expected min_tokens to be at most ${maxNewTokens}, as ${field} is, found ${minNewTokens}.`;
    throw invalidRequest("invalid_value", message, "min_tokens");
  }
  const topP = choose(body.top_p, "topP", 1);
  const topK = Math.max(0, choose(body.top_k, "topK", 0));
  const options: GenerationOptions = {
    maxNewTokens,
    minNewTokens,
    temperature: choose(body.temperature, "temperature", 1),
    // A nucleus of nothing is the likeliest token.
    topK: topP === 0 ? 1 : topK,
    topP: topP === 0 ? 1 : topP,
    minP: choose(body.min_p, "minP", 0),
    repetitionPenalty: choose(body.repetition_penalty, "repetitionPenalty", 1),
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    stopTokenIds: body.stop_token_ids ?? [],
    ignoreEos: body.ignore_eos ?? false,
  };
  Object.assign(options, readTokenLimits(body, info.vocabSize));
  const format = readAnswerFormat(body);
  if (format !== undefined) options.format = format;
  // Without any, those of the model's generation_config.json count.
  if (isGiven(body.stop)) options.stop = readStop(body.stop, settings.maxStopStrings);
  if (isGiven(body.seed)) options.seed = toSeed(body.seed);
  if (logprobs !== undefined) options.logprobs = logprobs;
  if (isGiven(body.cache_salt)) options.cacheSalt = body.cache_salt;
  if (promptLogprobs !== undefined) options.promptLogprobs = promptLogprobs;
  if (isGiven(body.n) && body.n > 1) options.n = body.n;
  if (body.use_beam_search) Object.assign(options, toBeamSearch(body));
  return options;
}

/** As vLLM: n is the number of beams, and of the texts. A beam search does not sample. */
function toBeamSearch(body: SamplingBody): GenerationOptions {
  if (isGiven(body.stop) && body.stop.length > 0)
    throw invalidRequest("invalid_value", "A beam search ends its texts by tokens: use stop_token_ids.", "stop");
  return {
    temperature: 0,
    stop: [],
    numBeams: body.n ?? 1,
    lengthPenalty: body.length_penalty ?? 1,
    earlyStopping: body.early_stopping ?? false,
  };
}

/** What asks for nothing is left out: an empty list of allowed tokens means all. */
function readTokenLimits(
  { logit_bias: biases, allowed_token_ids: allowed, bad_words: badWords }: SamplingBody,
  vocabSize: number,
): Pick<GenerationOptions, "logitBias" | "allowedTokenIds" | "badWords"> {
  checkVocabulary(Object.keys(biases ?? {}).map(Number), vocabSize, "logit_bias");
  checkVocabulary(allowed ?? [], vocabSize, "allowed_token_ids");
  for (const word of badWords ?? []) {
    if (!/\p{Surrogate}/u.test(word)) continue;
    throw invalidRequest("invalid_value", "Expected bad_words to be text of whole Unicode characters.", "bad_words");
  }
  return {
    ...(isGiven(biases) && Object.keys(biases).length > 0 ? { logitBias: biases } : {}),
    ...(isGiven(allowed) && allowed.length > 0 ? { allowedTokenIds: allowed } : {}),
    ...(isGiven(badWords) && badWords.length > 0 ? { badWords } : {}),
  };
}

function checkVocabulary(ids: readonly number[], vocabSize: number, field: string): void {
  const wrong = ids.find((id) => id >= vocabSize);
  if (wrong === undefined) return;
  const message = `Expected ${field} to have token ids from 0 to ${vocabSize - 1}, found ${wrong}.`;
  throw invalidRequest("invalid_value", message, field);
}

/** The API's seeds are signed, the engine's are not: modulo 2^64. */
function toSeed(seed: number): number | bigint {
  return Number.isSafeInteger(seed) && seed >= 0 ? seed : BigInt.asUintN(64, BigInt(seed));
}

function readStop(value: string | string[] | null | undefined, most: number): string[] {
  const stops = typeof value === "string" ? [value] : (value ?? []);
  if (stops.length > most) {
    throw invalidRequest(
      "invalid_value",
      `Expected stop to have at most ${most} strings, found ${stops.length}.`,
      "stop",
    );
  }
  for (const stop of stops) {
    if (stop === "") throw invalidRequest("invalid_value", "Expected stop to have no empty string.", "stop");
    if (/\p{Surrogate}/u.test(stop)) {
      throw invalidRequest("invalid_value", "Expected stop to be text of whole Unicode characters.", "stop");
    }
  }
  return stops;
}
