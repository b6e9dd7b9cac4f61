import assert from "node:assert/strict";
import { test } from "node:test";
import { resolveGenerationOptions } from "../../dist/engine/generation_options.js";
import { nextSeed } from "../../dist/engine/seed.js";
import { manualSeed, sampleSeed } from "../../dist/index.js";
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

test("the seeds of samples", () => {
  assert.equal(sampleSeed(7, 0), 7n);
  // The first numbers of splitmix64 again.
  assert.deepEqual([sampleSeed(0, 1), sampleSeed(0n, 2)], [0xe220a8397b1dcdafn, 0x6e789e6aa1b965f4n]);
  // Sums wrap around: 2^64 - 0x9e3779b97f4a7c15, and once the step, is 0.
  assert.equal(sampleSeed(0x61c8864680b583ebn, 2), sampleSeed(0, 1));
  const wrong: [unknown, unknown][] = [
    [-1, 0],
    [1.5, 0],
    [2n ** 64n, 0],
    [0, -1],
    [0, 0.5],
  ];
  for (const [seed, sample] of wrong)
    assert.throws(() => sampleSeed(seed as number, sample as number), hasCode("ERR_INVALID_ARGUMENT"));
});
