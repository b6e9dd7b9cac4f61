import assert from "node:assert/strict";
import { test } from "node:test";
import { processorShare } from "../../../dist/base/machine.js";
import { paceOf } from "../../../dist/serving/worker/pace.js";

function intervalMs(running: number, plan: Parameters<typeof paceOf>[0]): number {
  const { chunkIntervalMs } = paceOf(plan, () => running);
  return typeof chunkIntervalMs === "function" ? chunkIntervalMs() : Number.NaN;
}

test("streams share the chunks of a second, but none waits longer than 200 ms for that", () => {
  const plan = { streamIntervalMs: 20, streamChunksPerSecond: 250 };
  assert.equal(intervalMs(1, plan), 20);
  assert.equal(intervalMs(5, plan), 20);
  assert.equal(intervalMs(16, plan), 64);
  assert.equal(intervalMs(1000, plan), 200);
});

test("a longer interval of the settings counts", () => {
  assert.equal(intervalMs(1000, { streamIntervalMs: 500, streamChunksPerSecond: 250 }), 500);
});

test("the chunks of a second grow with the worker's processors", () => {
  assert.equal(intervalMs(10, { streamIntervalMs: 0 }), 80 / processorShare());
});
