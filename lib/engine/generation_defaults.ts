import type { JsonObject } from "../base/objects.js";

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
}

/** What a model folder says about generation. */
export interface GenerationDefaults {
  /** Any of these ends a sequence. */
  eosTokenIds: number[];
  bosTokenId: number | undefined;
  padTokenId: number | undefined;
  /** module.generate follows it; engine.generate does where it is asked to. Absent where the model says nothing. */
  sampling?: ModelSampling;
}

const samplingKeys: Readonly<Record<keyof ModelSampling, { key: string; type: "number" | "boolean" }>> = {
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
};

/** Reads the sampling parameters of a config. null, or a value of another type, counts as absent. */
export function readSampling(config: JsonObject): { sampling?: ModelSampling } {
  const found = Object.entries(samplingKeys)
    .map(([name, { key, type }]) => [name, config[key], type] as const)
    .filter(([, value, type]) => typeof value === type && (type === "boolean" || Number.isFinite(value)));
  return found.length === 0 ? {} : { sampling: Object.fromEntries(found.map(([name, value]) => [name, value])) };
}

/** The sampling as options of engine.generate: greedy unless the model says do_sample, and from the 50 likeliest then, as in transformers. */
export function toGenerationOptions({ sampling = {} }: GenerationDefaults): ModelSampling {
  const { doSample = false, maxLength: _, minLength: _least, topK = 50, temperature = 1, ...others } = sampling;
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
    const value = sampling[name as keyof ModelSampling];
    return value === undefined ? [] : [`${key} ${value}`];
  });
  return told.join(", ");
}
