import type { RotarySpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { limits } from "../limits.js";

/** What a rope type makes of its parameters. */
export interface Rope {
  rotary: RotarySpec;
  /** Longest sequence that the scaling is meant for. */
  maxPositions: number;
}

/** The model's sizes that frequencies depend on, and its base. */
export interface RopeContext {
  base: number;
  /** Elements of a head that turn. */
  dims: number;
  /** config.json's max_position_embeddings. */
  positions: number;
  /** The length that the model was trained with, before its positions were stretched. */
  originalPositions: () => number;
}

export type RopeType = (parameters: ConfigReader, context: RopeContext) => Rope;

/*
 * Every step below rounds to fp32 where the reference (transformers, modeling_rope_utils.py) computes in fp32 tensors, so
 * that frequencies agree with it to the last bit or the one before: at position 100 000 an angle has few bits to spare.
 */
const round = Math.fround;

/** base^(2 i / dims) for i < dims / 2 (Su et al. 2021, arXiv:2104.09864). */
function wavelengths(base: number, dims: number): number[] {
  return Array.from({ length: dims / 2 }, (_, i) => round(round(base) ** round((2 * i) / dims)));
}

/** Frequencies without any scaling. */
export function plainFrequencies({ base, dims }: Pick<RopeContext, "base" | "dims">): number[] {
  return wavelengths(base, dims).map((wavelength) => round(1 / wavelength));
}

function factorOf(parameters: ConfigReader): number {
  return parameters.number("factor", { above: 0, maximum: 1e6 });
}

/** The longest sequence of a scaled model: what config.json says, or more where it still gives the length before scaling. */
function stretched(positions: number, factor: number, original: number): number {
  return Math.min(limits.positions, Math.max(positions, Math.floor(factor * original)));
}

const plain: RopeType = (_parameters, context) => ({
  rotary: { inverseFrequencies: plainFrequencies(context), amplitude: 1 },
  maxPositions: context.positions,
});

/** All positions divided by factor (Chen et al. 2023, arXiv:2306.15595). */
const linear: RopeType = (parameters, context) => {
  const factor = factorOf(parameters);
  return {
    rotary: {
      inverseFrequencies: plainFrequencies(context).map((frequency) => round(frequency / round(factor))),
      amplitude: 1,
    },
    maxPositions: stretched(context.positions, factor, context.positions),
  };
};

/**
 * NTK-aware scaling that sets in past max_position_embeddings and grows with the sequence: its frequencies are those of
 * base * (factor * length / positions - (factor - 1))^(dims / (dims - 2)). The formula has no longest sequence and
 * the reference no limit; eight times the trained length is more than it is good for.
 */
const dynamic: RopeType = (parameters, context) => {
  const { base, dims, positions } = context;
  const factor = factorOf(parameters);
  if (dims <= 2)
    throw parameters.wrong(
      "rope_type",
      `another type for heads of which ${dims} elements turn: dynamic divides by that less 2 (head_dim - 2)`,
    );
  return {
    rotary: {
      inverseFrequencies: plainFrequencies(context),
      amplitude: 1,
      dynamic: { base, factor, originalPositions: positions },
    },
    maxPositions: stretched(8 * positions, factor, positions),
  };
};

/** Llama 3.1: long wavelengths divided by factor, short ones kept, those between blended. */
const llama3: RopeType = (parameters, context) => {
  const factor = factorOf(parameters);
  const low = parameters.number("low_freq_factor", { above: 0 });
  const high = parameters.number("high_freq_factor", { above: 0 });
  if (high <= low) throw parameters.wrong("high_freq_factor", `a number above low_freq_factor, which is ${low}`);
  const original = context.originalPositions();
  const inverseFrequencies = plainFrequencies(context).map((frequency) => {
    const wavelength = round(round(1 / frequency) * round(2 * Math.PI));
    if (wavelength > round(original / low)) return round(frequency / round(factor));
    if (wavelength < round(original / high)) return frequency;
    const share = round(round(round(round(1 / wavelength) * original) - round(low)) / round(high - low));
    return round(round(round(round(1 - share) * frequency) / round(factor)) + round(share * frequency));
  });
  return { rotary: { inverseFrequencies, amplitude: 1 }, maxPositions: context.positions };
};

/** YaRN (Peng et al. 2023, arXiv:2309.00071): a ramp from kept to divided frequencies, and hotter attention. */
const yarn: RopeType = (parameters, context) => {
  const { base, dims, positions } = context;
  const original = context.originalPositions();
  if (!parameters.has("factor")) throw parameters.wrong("factor", "a number above 0, or null to derive it");
  const factor = parameters.number("factor", { above: 0, maximum: 1e6, nullable: true, unset: positions / original });
  // Zero stands for the default here, as in the reference.
  const betaFast = parameters.number("beta_fast", { minimum: 0, nullable: true, unset: 0 }) || 32;
  const betaSlow = parameters.number("beta_slow", { minimum: 0, nullable: true, unset: 0 }) || 1;
  const truncate = parameters.raw("truncate") === null ? false : parameters.flag("truncate", true);
  if (base <= 1) throw parameters.wrong("rope_theta", "a base above 1 for yarn, which divides by its logarithm");

  const turnsAt = (turns: number) => (dims * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const first = Math.max(truncate ? Math.floor(turnsAt(betaFast)) : turnsAt(betaFast), 0);
  let last = Math.min(truncate ? Math.ceil(turnsAt(betaSlow)) : turnsAt(betaSlow), dims - 1);
  if (first === last) last += 0.001;
  const inverseFrequencies = wavelengths(base, dims).map((wavelength, i) => {
    const ramp = Math.min(Math.max(round(round(i - round(first)) / round(last - first)), 0), 1);
    const keep = round(1 - ramp);
    const divided = round(1 / round(round(factor) * wavelength));
    return round(round(divided * round(1 - keep)) + round(round(1 / wavelength) * keep));
  });
  return {
    rotary: { inverseFrequencies, amplitude: yarnAmplitude(parameters, factor) },
    maxPositions: stretched(positions, factor, original),
  };
};

function yarnAmplitude(parameters: ConfigReader, factor: number): number {
  const scale = parameters.number("mscale", { minimum: 0, nullable: true, unset: 0 });
  const scaleAllDim = parameters.number("mscale_all_dim", { minimum: 0, nullable: true, unset: 0 });
  const of = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const inferred = scale > 0 && scaleAllDim > 0 ? of(scale) / of(scaleAllDim) : of(1);
  return parameters.number("attention_factor", { above: 0, nullable: true, unset: inferred });
}

/**
 * LongRoPE (Ding et al. 2024, arXiv:2402.13753): each frequency divided by a factor of its own, of which there is a list for sequences up to
 * the original length and one for longer ones.
 */
const longrope: RopeType = (parameters, context) => {
  const { base, dims, positions } = context;
  const original = context.originalPositions();
  const factor = parameters.number("factor", { above: 0, maximum: 1e6, nullable: true, unset: positions / original });
  const inferred = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  const amplitude = parameters.number("attention_factor", { above: 0, nullable: true, unset: inferred });
  if (!Number.isFinite(amplitude)) throw parameters.wrong("original_max_position_embeddings", "a length above 1");
  const frequencies = (key: string) => {
    const factors = parameters.numbers(key, { above: 0, length: dims / 2 });
    return wavelengths(base, dims).map((wavelength, i) => round(1 / round(round(factors[i] as number) * wavelength)));
  };
  const long = { originalPositions: original, inverseFrequencies: frequencies("long_factor"), amplitude };
  return {
    rotary: { inverseFrequencies: frequencies("short_factor"), amplitude, long },
    maxPositions: positions,
  };
};

/** HunYuan's: the base grows once and for all, by alpha^(dims / (dims - 2)). What else its configs say is without effect. */
export const ntkAlpha: RopeType = (parameters, { base, dims, positions }) => {
  const alpha = parameters.number("alpha", { above: 0 });
  for (const key of ["beta_fast", "beta_slow", "factor", "mscale", "mscale_all_dim"]) parameters.raw(key);
  const grown = base * alpha ** (dims / (dims - 2));
  return {
    rotary: { inverseFrequencies: plainFrequencies({ base: grown, dims }), amplitude: 1 },
    maxPositions: positions,
  };
};

export const ropeTypes = { default: plain, linear, dynamic, llama3, yarn, longrope } as const satisfies Record<
  string,
  RopeType
>;
