import assert from "node:assert/strict";
import { describeModel } from "../../dist/models/index.js";
import type { RankPlan } from "../../dist/native/binding.js";
import { loadNative } from "../../dist/native/load.js";
import type { FeedForwardSpec, ModelSpec } from "../../dist/native/spec.js";
import { type Config, smallest } from "../models/helpers.js";

// Specs, and what the native side answers to them with one value changed.

export const binding = loadNative();
/** The least that a mixture of experts says. */
export const mixture: FeedForwardSpec = {
  ...{ kind: "experts", count: 4, perToken: 2, size: 12, activation: "silu", gated: true },
  router: { scoring: "softmax", normalise: true },
};
// By way of JSON: an object that stands in two places would be changed in both.
const specOf = (config: Config): ModelSpec => JSON.parse(JSON.stringify(describeModel(config).spec));
export const llama = specOf(smallest.llama);
/** With a table of rows of distances, which layers need whose positions are relative. */
export const tabled: ModelSpec = { ...llama, relativeTable: { rows: 4, rowOf: [3, 0, 2] } };
export const opt = specOf(smallest.opt);
export const encoder = changed(llama, "kinds.0.attention.mask", { kind: "full" }) as ModelSpec;

export const qkNorm = { span: "head", norm: { kind: "rms", epsilon: 1e-6 } };
export const temperature = { scale: 0.1, period: 8, offset: 1 };
const long = { originalPositions: 8, inverseFrequencies: [1, 0.5], amplitude: 1.5 };
/** With norms of queries and keys, a temperature and frequencies of long sequences. */
export const normed = [
  ["kinds.0.attention.qkNorm", qkNorm],
  ["kinds.0.attention.temperature", temperature],
  ["rotaryTables.0.long", long],
].reduce<object>((spec, [path, value]) => changed(spec, path as string, value), llama) as ModelSpec;

export function planOf(spec: unknown): RankPlan {
  return {
    ...{ spec: spec as ModelSpec, dtype: "float32", tpSize: 1, firstRank: 0, devices: ["cpu"] },
    communicationDtype: "float32",
    ...{ threads: 1, maxSequenceTokens: 16, maxBatchTokens: 16 },
  };
}

/** A copy with one value changed; undefined takes the key away. */
export function changed(object: object, path: string, value: unknown): object {
  const copy = structuredClone(object) as Record<string, unknown>;
  const keys = path.split(".");
  let at = copy;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  if (value === undefined) delete at[keys.at(-1) as string];
  else at[keys.at(-1) as string] = value;
  return copy;
}

/** What the native side answers to a spec with one value changed: null, or why no backend computes it. */
export const ask = (path: string, value: unknown, base: ModelSpec = llama) =>
  binding.unsupported(planOf(changed(base, path, value)));

export function assertCrosses(path: string, value: unknown, base: ModelSpec = llama): void {
  const answer = ask(path, value, base);
  assert.ok(answer === null || /does not compute/.test(answer), `${path}: ${answer}`);
}

export function assertRefused(path: string, value: unknown, expected: RegExp, base: ModelSpec = llama): void {
  const place = path.replace(/\.(\d+)(?=\.|$)/g, "[$1]");
  assert.throws(
    () => ask(path, value, base),
    (error: Error & { code: string }) => {
      assert.equal(error.code, "ERR_NATIVE", error.message);
      assert.ok(error.message.startsWith(`plan.spec.${place}`), `${error.message} names plan.spec.${place}`);
      assert.match(error.message, expected);
      return true;
    },
  );
}
