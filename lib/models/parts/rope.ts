import { isObject } from "../../base/objects.js";
import type { AttentionPositions, RotarySpec } from "../../native/spec.js";
import { ConfigReader, show } from "../config.js";
import { limits } from "../limits.js";

/** What a rope type makes of its parameters. */
interface Rope {
  rotary: RotarySpec;
  /** Longest sequence that the scaling is meant for. */
  maxPositions: number;
}

/** The model's sizes that frequencies depend on, and its base. */
interface RopeContext {
  base: number;
  headDim: number;
  /** config.json's max_position_embeddings. */
  positions: number;
  originalPositions: () => number;
}

type RopeType = (parameters: ConfigReader, context: RopeContext) => Rope;

/*
 * Every step below rounds to fp32 where the reference (transformers, modeling_rope_utils.py) computes in fp32 tensors, so
 * that frequencies agree with it to the last bit or the one before: at position 100 000 an angle has few bits to spare.
 */
const round = Math.fround;

/** base^(2 i / headDim) for i < headDim / 2 (Su et al. 2021, arXiv:2104.09864). */
function wavelengths(base: number, headDim: number): number[] {
  return Array.from({ length: headDim / 2 }, (_, i) => round(round(base) ** round((2 * i) / headDim)));
}

function plainFrequencies({ base, headDim }: RopeContext): number[] {
  return wavelengths(base, headDim).map((wavelength) => round(1 / wavelength));
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
 * base * (factor * length / positions - (factor - 1))^(headDim / (headDim - 2)). The formula has no longest sequence and
 * the reference no limit; eight times the trained length is more than it is good for.
 */
const dynamic: RopeType = (parameters, context) => {
  const { base, headDim, positions } = context;
  const factor = factorOf(parameters);
  if (headDim <= 2)
    throw parameters.wrong("rope_type", `another type for heads of ${headDim}: dynamic divides by head_dim - 2`);
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
  const { base, headDim, positions } = context;
  const original = context.originalPositions();
  if (!parameters.has("factor")) throw parameters.wrong("factor", "a number above 0, or null to derive it");
  const factor = parameters.number("factor", { above: 0, maximum: 1e6, nullable: true, unset: positions / original });
  // Zero stands for the default here, as in the reference.
  const betaFast = parameters.number("beta_fast", { minimum: 0, nullable: true, unset: 0 }) || 32;
  const betaSlow = parameters.number("beta_slow", { minimum: 0, nullable: true, unset: 0 }) || 1;
  const truncate = parameters.raw("truncate") === null ? false : parameters.flag("truncate", true);
  if (base <= 1) throw parameters.wrong("rope_theta", "a base above 1 for yarn, which divides by its logarithm");

  const turnsAt = (turns: number) => (headDim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const first = Math.max(truncate ? Math.floor(turnsAt(betaFast)) : turnsAt(betaFast), 0);
  let last = Math.min(truncate ? Math.ceil(turnsAt(betaSlow)) : turnsAt(betaSlow), headDim - 1);
  if (first === last) last += 0.001;
  const inverseFrequencies = wavelengths(base, headDim).map((wavelength, i) => {
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

const ropeTypes: Readonly<Record<string, RopeType>> = { default: plain, linear, dynamic, llama3, yarn };

/**
 * Rotary positions from config.json, in the form of transformers 5 (`rope_parameters`) or 4 (`rope_theta` at the top,
 * `rope_scaling` with `rope_type` or `type`). `rope_scaling` comes first where both are there, as in the reference.
 */
export function readRope(config: ConfigReader, sizes: { headDim: number; positions: number }): Rope {
  const parameters = readParameters(config);
  const type = readType(parameters);
  const base = readBase(config, parameters);
  checkPartial(config, parameters, type.name);
  return computeRope(config, parameters, type.compute, { base, ...sizes });
}

/**
 * As readRope(), of the first elements of each head: the share `partial_rotary_factor` of them, rounded down, turns.
 *
 * @param options.share Where the config says nothing.
 * @param options.baseKey, shareKey Other names of rope_theta and partial_rotary_factor outside the rope parameters.
 */
export function readPartialRope(
  config: ConfigReader,
  { headDim, positions }: { headDim: number; positions: number },
  options: { share: number; baseKey?: string; shareKey?: string },
): Rope & { turned: AttentionPositions } {
  const { share, baseKey = "rope_theta", shareKey = "partial_rotary_factor" } = options;
  const parameters = readParameters(config);
  const type = readType(parameters);
  const base = readBase(config, parameters, baseKey);
  const range = { above: 0, maximum: 1 };
  const outside = config.number(shareKey, { ...range, unset: share });
  const dims = Math.trunc(headDim * parameters.number("partial_rotary_factor", { ...range, unset: outside }));
  if (dims === 0 || dims % 2 !== 0) {
    const [holder, key] = parameters.has("partial_rotary_factor")
      ? [parameters, "partial_rotary_factor"]
      : [config, shareKey];
    throw holder.wrong(key, `a share of heads of ${headDim} that is an even number of elements, found ${dims}`);
  }
  const rope = computeRope(config, parameters, type.compute, { base, headDim: dims, positions });
  return { ...rope, turned: { kind: "rotary", dims, layout: "half", table: 0 } };
}

/** Frequencies without settings of their own, where positions have no rope parameters (GPT-J). */
export function plainRotary(dims: number): RotarySpec {
  const unused = { positions: 0, originalPositions: () => 0 };
  return { inverseFrequencies: plainFrequencies({ base: 10_000, headDim: dims, ...unused }), amplitude: 1 };
}

function readParameters(config: ConfigReader): ConfigReader {
  const parameters =
    config.section("rope_scaling") ?? config.section("rope_parameters") ?? ConfigReader.empty("rope_parameters");
  for (const key of parameters.keys()) {
    const value = parameters.peek(key);
    if (isObject(value)) {
      throw parameters.wrong(
        key,
        "a plain value: rope parameters of their own for each kind of layer are not computed",
      );
    }
  }
  return parameters;
}

function computeRope(
  config: ConfigReader,
  parameters: ConfigReader,
  compute: RopeType,
  sizes: Omit<RopeContext, "originalPositions">,
): Rope {
  const originalPositions = () => {
    const range = { maximum: limits.positions, unset: sizes.positions };
    const inside = parameters.integer("original_max_position_embeddings", range);
    // The reference lets the one at the top win.
    return config.has("original_max_position_embeddings")
      ? config.integer("original_max_position_embeddings", range)
      : inside;
  };
  const rope = compute(parameters, { ...sizes, originalPositions });
  if (!rope.rotary.inverseFrequencies.every(Number.isFinite)) {
    throw parameters.wrong("rope_theta", "parameters whose frequencies are finite");
  }
  return rope;
}

/**
 * Whole heads that turn by the first rotary table, each element with the one half a head away (Llama, GPT-NeoX).
 *
 * @param key Of config.json, that the width of a head comes from.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL where the elements of a head make no pairs.
 */
export function wholeRotary(config: ConfigReader, key: string, headDim: number): AttentionPositions {
  if (headDim % 2 !== 0) throw config.wrong(key, `heads of even width (rotary positions turn pairs), found ${headDim}`);
  return { kind: "rotary", dims: headDim, layout: "half", table: 0 };
}

function readType(parameters: ConfigReader): { name: string; compute: RopeType } {
  const key = parameters.has("rope_type") || !parameters.has("type") ? "rope_type" : "type";
  const name = parameters.text(key, "default");
  // Many configs give both; where they differ, the one that is left unread gets into the warning.
  if (parameters.peek("type") === name) parameters.raw("type");
  const compute = Object.hasOwn(ropeTypes, name) ? ropeTypes[name] : undefined;
  if (!compute) throw parameters.wrong(key, `one of ${Object.keys(ropeTypes).join(", ")}`);
  return { name, compute };
}

function readBase(config: ConfigReader, parameters: ConfigReader, key = "rope_theta"): number {
  const range = { above: 0, maximum: 1e30 };
  const outside = config.number(key, { ...range, unset: 10_000 });
  const base = parameters.number("rope_theta", { ...range, unset: outside });
  if (base !== outside && config.has(key)) {
    config.notes.push(`${key} = ${outside} gives way to ${base} in the rope parameters, as in transformers`);
  }
  return base;
}

/**
 * Llama turns whole heads: for the default type the reference ignores partial_rotary_factor, for the others it fails.
 * It is ignored here with a warning, or refused.
 */
function checkPartial(config: ConfigReader, parameters: ConfigReader, type: string): void {
  const holder = parameters.has("partial_rotary_factor") ? parameters : config;
  const share = holder.number("partial_rotary_factor", { above: 0, nullable: true, unset: 1 });
  if (share === 1) return;
  if (type !== "default") throw holder.wrong("partial_rotary_factor", `1 with rope type ${type}`);
  config.notes.push(
    `partial_rotary_factor = ${show(share)} is without effect in this architecture, as in transformers`,
  );
}
