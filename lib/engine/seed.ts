import { randomBytes } from "node:crypto";
import { invalidArgument } from "../base/errors.js";

const words = 2n ** 64n;
/** 2^64 divided by the golden ratio: the counter's step in splitmix64 (Steele, Lea and Flood 2014). */
const step = 0x9e3779b97f4a7c15n;

/** State of the stream of seeds; undefined until manualSeed. */
let state: bigint | undefined;

/**
 * Makes sampling reproducible, like torch.manual_seed: from now on, each call without a `seed` takes the next seed of one sequence, in the order of
 * the calls. It applies to this thread; a worker thread has its own sequence.
 *
 * @param seed An integer from -2^63 to 2^64 - 1, as a number or a bigint; negative ones count from 2^64 down, as in torch.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT
 */
export function manualSeed(seed: number | bigint): void {
  const value = typeof seed === "bigint" || Number.isInteger(seed) ? BigInt(seed) : undefined;
  if (value === undefined || value < -(2n ** 63n) || value >= words) {
    throw invalidArgument("seed", "an integer from -2^63 to 2^64 - 1", seed);
  }
  state = BigInt.asUintN(64, value);
}

/** The seed for a call without one: from 0 to 2^64 - 1. */
export function nextSeed(): bigint {
  if (state === undefined) return randomBytes(8).readBigUInt64LE();
  state = BigInt.asUintN(64, state + step);
  return mix(state);
}

/**
 * The seed of one of the samples that a call with `n` above 1 makes: with it `n: 1` gives that sample. Sample 0 has the call's own seed. The seed of
 * sample k is what splitmix64 makes of seed + k * 0x9e3779b97f4a7c15, modulo 2^64.
 *
 * @param seed The call's: an integer from 0 to 2^53 - 1, or a bigint below 2^64.
 * @param sample Its index among the choices.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT
 */
export function sampleSeed(seed: number | bigint, sample: number): bigint {
  const value = readSeed(seed);
  if (!Number.isSafeInteger(sample) || sample < 0) throw invalidArgument("sample", "an integer of at least 0", sample);
  return sample === 0 ? value : mix(BigInt.asUintN(64, value + BigInt(sample) * step));
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT */
export function readSeed(value: unknown): bigint {
  const isSeed =
    typeof value === "bigint" ? value >= 0n && value < words : Number.isSafeInteger(value) && (value as number) >= 0;
  if (isSeed) return BigInt(value as number | bigint);
  throw invalidArgument("seed", "an integer from 0 to 2^53 - 1, or a bigint from 0 to 2^64 - 1", value);
}

function mix(counter: bigint): bigint {
  let mixed = counter;
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
  return mixed ^ (mixed >> 31n);
}
