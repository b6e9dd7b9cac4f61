import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RankPlan } from "../../dist/native/binding.js";
import type { ModelSpec } from "../../dist/native/spec.js";
import { hasCode } from "../support/fixtures.js";
import { assertRefused, binding, changed, llama, normed, opt, planOf } from "./spec_border.js";

// Keys that a spec lacks, keys that nobody knows, and junk in the place of any value.

describe("keys", () => {
  test("every required key is missed", () => {
    for (const base of [llama, opt, normed])
      for (const path of requiredPaths(base)) assertRefused(path, undefined, /is missing/, base);
  });

  test("a key that nobody knows is refused wherever it stands; undefined is as if it were not there", () => {
    for (const base of [llama, opt, normed]) {
      for (const path of objectPaths(base)) {
        assertRefused(
          path === "" ? "telepathy" : `${path}.telepathy`,
          1,
          /is 1, but the engine knows no such key/,
          base,
        );
        const spec = changed(base, path === "" ? "telepathy" : `${path}.telepathy`, null) as Record<string, unknown>;
        assert.throws(() => binding.unsupported(planOf(spec)), hasCode("ERR_NATIVE"));
      }
    }
    assert.equal(binding.unsupported(planOf({ ...llama, telepathy: undefined })), null);
    assert.throws(
      () => binding.unsupported({ ...planOf(llama), telepathy: 1 } as RankPlan),
      hasCode("ERR_NATIVE", /plan\.telepathy/),
    );
  });
});

describe("junk does not crash", () => {
  const junk = [
    undefined,
    null,
    0,
    -1,
    1e308,
    Number.NaN,
    1n,
    "",
    "x",
    true,
    [],
    {},
    () => {},
    Symbol("x"),
    new Date(),
    new Uint8Array(3),
    new Map(),
  ];
  // Objects that fight back.
  const hostile = {
    get spec() {
      throw new Error("a getter that throws");
    },
  };
  const proxy = new Proxy(
    {},
    {
      ownKeys: () => {
        throw new Error("a trap that throws");
      },
      get: () => 1,
    },
  );

  test("as a plan", () => {
    for (const plan of [...junk, hostile, proxy]) {
      for (const call of [binding.unsupported, binding.estimateMemory, binding.shardShapes])
        assert.throws(() => call(plan as unknown as RankPlan), hasCode("ERR_NATIVE"));
      assert.throws(() => binding.createEngine(plan as never, () => {}), hasCode("ERR_NATIVE"));
      assert.throws(() => binding.writeTensors(plan as never), hasCode("ERR_NATIVE"));
    }
    assert.throws(() => binding.unsupported(hostile as unknown as RankPlan), /a getter that throws/);
  });

  test("as any value of a plan", () => {
    const plan = {
      ...planOf(llama),
      weights: null,
      group: null,
      kvCachePages: 4,
      lookup: null,
      prefixCache: true,
      draft: null,
      weighsDrafts: true,
    };
    for (const key of Object.keys(plan)) {
      for (const value of junk) {
        if (value === null && (key === "weights" || key === "group" || key === "lookup" || key === "draft")) continue;
        if (value === undefined && (key === "weights" || key === "group" || key === "lookup" || key === "draft"))
          continue;
        if ((key === "weighsDrafts" || key === "prefixCache") && typeof value === "boolean") continue;
        if (key === "firstRank" || key === "kvCachePages" || key === "threads") if (value === 0) continue;
        assert.throws(
          () => binding.createEngine({ ...plan, [key]: value } as never, () => {}),
          hasCode("ERR_NATIVE"),
          `${key} = ${String(value)}`,
        );
      }
    }
    for (const dtype of ["float16", "bfloat16"] as const) {
      const narrow = { ...plan, dtype, communicationDtype: dtype };
      assert.throws(() => binding.createEngine(narrow, () => {}), /communicationDtype is .*float32 on the CPU/);
      const mixed = { ...narrow, devices: ["cuda:0"], dtype: "float32" as const };
      assert.throws(
        () => binding.createEngine(mixed, () => {}),
        /communicationDtype is .*float32, or the plan's dtype/,
      );
    }
    const { spec } = plan;
    const draft = { ...planOf({ ...spec, vocabSize: spec.vocabSize + 1 }), weights: null, kvCachePages: 4 };
    for (const wrong of [draft, { ...draft, spec, devices: ["cpu", "cpu"], tpSize: 2 }, { ...draft, spec, more: 1 }])
      assert.throws(
        () => binding.createEngine({ ...plan, draft: { draftTokens: 4, model: wrong } }, () => {}),
        hasCode("ERR_NATIVE"),
      );
    for (const callback of junk.filter((value) => typeof value !== "function"))
      assert.throws(() => binding.createEngine(plan, callback as never), hasCode("ERR_NATIVE"));
  });

  test("as any value of a spec", () => {
    for (const base of [llama, opt, normed]) {
      for (const path of [...requiredPaths(base), ...objectPaths(base).filter((one) => one !== "")]) {
        for (const value of junk) {
          try {
            binding.unsupported(planOf(withValue(base, path, value)));
          } catch (error) {
            assert.equal((error as { code: string }).code, "ERR_NATIVE", `${path}: ${error}`);
          }
        }
      }
    }
  });
});

/** As changed(), for values that structuredClone() cannot copy. */
function withValue(base: ModelSpec, path: string, value: unknown): object {
  const copy = structuredClone(base) as unknown as Record<string, unknown>;
  const keys = path.split(".");
  let at = copy;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[keys.at(-1) as string] = value;
  return copy;
}

/** Paths of all values that are there and must be, outside arrays of numbers. */
function requiredPaths(value: unknown, path = ""): string[] {
  const optional = new Set([
    "embedding.positions",
    "embedding.norm",
    "output.norm",
    "kinds.0.attention.qkNorm",
    "kinds.0.attention.temperature",
    "rotaryTables.0.long",
  ]);
  if (typeof value !== "object" || value === null) return [path];
  if (Array.isArray(value) && typeof value[0] !== "object") return [path];
  const below = Object.entries(value).flatMap(([key, child]) => {
    const place = path === "" ? key : `${path}.${key}`;
    return requiredPaths(child, place);
  });
  const itself = path === "" || optional.has(path) || /\.\d+$/.test(path) ? [] : [path];
  return [...itself, ...below];
}

/** Paths of all objects, the whole one first. */
function objectPaths(value: unknown, path = ""): string[] {
  if (typeof value !== "object" || value === null) return [];
  const below = Object.entries(value).flatMap(([key, child]) =>
    objectPaths(child, path === "" ? key : `${path}.${key}`),
  );
  return Array.isArray(value) ? below : [path, ...below];
}
