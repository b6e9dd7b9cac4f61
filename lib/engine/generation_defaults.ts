import type { JsonObject } from "../base/objects.js";
import { showValue } from "../base/text.js";

/** When a beam search ends. */
export type EarlyStopping = boolean | "never";

/** How a model wants to be sampled, by the names of module.generate's options. What it does not say is absent. */
export interface ModelSampling {
  doSample?: boolean;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  maxLength?: number;
  maxNewTokens?: number;
  minLength?: number;
  minNewTokens?: number;
  numBeams?: number;
  lengthPenalty?: number;
  earlyStopping?: EarlyStopping;
}

/** What a model folder says about generation. */
export interface GenerationDefaults {
  /** Any of these ends a sequence. */
  eosTokenIds: number[];
  bosTokenId: number | undefined;
  padTokenId: number | undefined;
  /** Any of these ends a text too, where there is a tokenizer. Absent where there is none. */
  stopStrings?: string[];
  /** module.generate follows it; engine.generate does where it is asked to. Absent where the model says nothing. */
  sampling?: ModelSampling;
  /** What transformers follows and this engine does not, such as "num_beams 4". Absent where there is nothing of the kind. */
  unfollowed?: string[];
}

const samplingKeys: Readonly<
  Record<keyof ModelSampling, { key: string; type: "number" | "boolean" | "earlyStopping" }>
> = {
  doSample: { key: "do_sample", type: "boolean" },
  temperature: { key: "temperature", type: "number" },
  topK: { key: "top_k", type: "number" },
  topP: { key: "top_p", type: "number" },
  minP: { key: "min_p", type: "number" },
  repetitionPenalty: { key: "repetition_penalty", type: "number" },
  maxLength: { key: "max_length", type: "number" },
  maxNewTokens: { key: "max_new_tokens", type: "number" },
  minLength: { key: "min_length", type: "number" },
  minNewTokens: { key: "min_new_tokens", type: "number" },
  numBeams: { key: "num_beams", type: "number" },
  lengthPenalty: { key: "length_penalty", type: "number" },
  earlyStopping: { key: "early_stopping", type: "earlyStopping" },
};

/** Of a beam search, which only module.generate does unasked. */
const beamNames = ["numBeams", "lengthPenalty", "earlyStopping"] as const;

type Neutral = (value: unknown) => boolean;
const zero: Neutral = (value) => value === 0;
const one: Neutral = (value) => value === 1;
const zeroOrOne: Neutral = (value) => value === 0 || value === 1;
const nothing: Neutral = (value) => Array.isArray(value) && value.length === 0;

/**
 * Keys of generation_config.json that change which tokens transformers gives and that nothing here follows, each with the values at which they
 * change nothing; null and false never do. Those that only count beside one of these, such as length_penalty, are not among them.
 */
const unfollowedKeys: Readonly<Record<string, { neutral: Neutral; sampled?: true }>> = {
  bad_words_ids: { neutral: nothing },
  begin_suppress_tokens: { neutral: nothing },
  constraints: { neutral: nothing },
  custom_generate: { neutral: nothing },
  dola_layers: { neutral: nothing },
  encoder_no_repeat_ngram_size: { neutral: zero },
  encoder_repetition_penalty: { neutral: one },
  epsilon_cutoff: { neutral: zero, sampled: true },
  eta_cutoff: { neutral: zero, sampled: true },
  exponential_decay_length_penalty: { neutral: nothing },
  force_words_ids: { neutral: nothing },
  forced_bos_token_id: { neutral: nothing },
  forced_eos_token_id: { neutral: nothing },
  guidance_scale: { neutral: one },
  max_time: { neutral: nothing },
  no_repeat_ngram_size: { neutral: zero },
  num_beam_groups: { neutral: zeroOrOne },
  num_return_sequences: { neutral: zeroOrOne },
  penalty_alpha: { neutral: zero },
  sequence_bias: { neutral: nothing },
  suppress_tokens: { neutral: nothing },
  token_healing: { neutral: nothing },
  top_h: { neutral: zeroOrOne, sampled: true },
  typical_p: { neutral: one, sampled: true },
  watermarking_config: { neutral: nothing },
};

/** Finds what a config asks for and this engine does not do. */
export function readUnfollowed(config: JsonObject): { unfollowed?: string[] } {
  const unfollowed = Object.entries(unfollowedKeys)
    .filter(([key, { neutral, sampled }]) => {
      const value = config[key];
      if (value === undefined || value === null || value === false || neutral(value)) return false;
      return !sampled || config.do_sample === true;
    })
    .map(([key]) => `${key} ${showValue(config[key])}`);
  return unfollowed.length === 0 ? {} : { unfollowed };
}

/** What an engine without a tokenizer can follow of it. */
export function withoutTexts({ stopStrings, ...defaults }: GenerationDefaults): GenerationDefaults {
  if (stopStrings === undefined) return defaults;
  const unfollowed = `stop_strings ${showValue(stopStrings)} (which need a tokenizer)`;
  return { ...defaults, unfollowed: [...(defaults.unfollowed ?? []), unfollowed] };
}

/** Reads the sampling parameters of a config. null, or a value of another type, counts as absent. */
export function readSampling(config: JsonObject): { sampling?: ModelSampling } {
  const found = Object.entries(samplingKeys)
    .map(([name, { key, type }]) => [name, config[key], type] as const)
    .filter(([, value, type]) => isOfType(value, type));
  return found.length === 0 ? {} : { sampling: Object.fromEntries(found.map(([name, value]) => [name, value])) };
}

function isOfType(value: unknown, type: "number" | "boolean" | "earlyStopping"): boolean {
  if (type === "earlyStopping") return typeof value === "boolean" || value === "never";
  return typeof value === type && (type === "boolean" || Number.isFinite(value));
}

/** The beam search that a model asks for, in words: module.generate follows it, and a stream cannot. Empty where there is none. */
export function describeBeams({ sampling = {} }: GenerationDefaults): string {
  const { numBeams = 1 } = sampling;
  return numBeams > 1 ? `num_beams ${numBeams}` : "";
}

/** The sampling as options of engine.generate: greedy unless the model says do_sample, and from the 50 likeliest then, as in transformers. */
export function toGenerationOptions({ sampling = {} }: GenerationDefaults): ModelSampling {
  const { doSample = false, maxLength: _, minLength: _least, topK = 50, temperature = 1, ...others } = sampling;
  for (const name of beamNames) delete others[name];
  if (doSample) return { ...others, topK, temperature };
  const { topP: _p, minP: _m, ...kept } = others; // without effect on greedy decoding
  return { ...kept, temperature: 0 };
}

/** The sampling that is not what engine.generate does by itself, in words; undefined where there is none. */
export function describeSampling(defaults: GenerationDefaults): string | undefined {
  const { sampling = {} } = defaults;
  const { repetitionPenalty = 1, doSample = false, maxNewTokens, minNewTokens = 0 } = sampling;
  if (!doSample && repetitionPenalty === 1 && maxNewTokens === undefined && minNewTokens === 0) return undefined;
  const told = Object.entries(samplingKeys).flatMap(([name, { key }]) => {
    if ((beamNames as readonly string[]).includes(name)) return [];
    const value = sampling[name as keyof ModelSampling];
    return value === undefined ? [] : [`${key} ${value}`];
  });
  return told.join(", ");
}
