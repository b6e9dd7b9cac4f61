import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveGenerationOptions } from "../../dist/engine/generation_options.js";
import { nextSeed } from "../../dist/engine/seed.js";
import { manualSeed } from "../../dist/index.js";
import { hasCode } from "../support/fixtures.js";

const take = (count: number) => Array.from({ length: count }, nextSeed);

test("without manualSeed seeds are random, with it they are a stream that begins anew", () => {
  assert.notEqual(nextSeed(), nextSeed());
  manualSeed(0);
  // The first numbers of splitmix64, as published with it.
  assert.deepEqual(take(3), [0xe220a8397b1dcdafn, 0x6e789e6aa1b965f4n, 0x06c45d188009454fn]);
  manualSeed(0);
  assert.equal(resolveGenerationOptions({ seed: 7 }).seed, 7n, "a seed of its own takes none");
  assert.equal(resolveGenerationOptions({}).seed, 0xe220a8397b1dcdafn);
  manualSeed(1);
  assert.notEqual(nextSeed(), 0xe220a8397b1dcdafn);
});

test("seeds as torch takes them", () => {
  const first = (seed: number | bigint) => {
    manualSeed(seed);
    return nextSeed();
  };
  assert.equal(first(40), first(40n));
  assert.equal(first(-1), first(2n ** 64n - 1n));
  assert.equal(first(-(2n ** 63n)), first(2n ** 63n));
  assert.equal(first(2 ** 60), first(2n ** 60n));
  const wrong: unknown[] = [
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 64,
    2n ** 64n,
    -(2n ** 63n) - 1n,
    "40",
    null,
    undefined,
  ];
  for (const seed of wrong) {
    assert.throws(
      () => manualSeed(seed as never),
      hasCode("ERR_INVALID_ARGUMENT", /seed to be an integer from -2\^63/),
    );
  }
});
