import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CallLane } from "../../../dist/serving/call_lane.js";
import type { Worker, WorkListener } from "../../../dist/serving/worker/worker.js";
import { hasCode } from "../../support/fixtures.js";

const settings = { maxConcurrentRequests: 1, maxQueuedSequences: 2, queueTimeoutMs: 0, requestTimeoutMs: 0 };

/** A worker that answers when the test says so. */
class FakeWorker {
  readonly listeners: WorkListener[] = [];
  readonly cancelled: number[] = [];
  hasEnded = false;
  workCount = 0;

  call(_name: string, _argument: unknown, listener: WorkListener): number {
    this.workCount++;
    return this.listeners.push(listener) - 1;
  }

  cancel(id: number): void {
    this.cancelled.push(id);
  }
}

function run(lane: CallLane, signal: AbortSignal) {
  const parts: unknown[] = [];
  const workers: Worker[] = [];
  const call = lane.run(
    "generate",
    {},
    {
      reservation: lane.reserve(1),
      signal,
      onDispatch: (worker) => void workers.push(worker),
      onParts: (some) => void parts.push(...some),
    },
  );
  return { call, parts, workers };
}

describe("a call that is given up", () => {
  test("while it runs is cancelled, and hears of no more parts", async () => {
    const worker = new FakeWorker();
    const lane = new CallLane(settings, () => [worker as unknown as Worker]);
    const controller = new AbortController();
    const { call, parts, workers } = run(lane, controller.signal);
    assert.equal(workers[0], worker);
    worker.listeners[0]?.onParts([1]);
    controller.abort();
    worker.listeners[0]?.onParts([2]);
    worker.listeners[0]?.onResult("late");
    await assert.rejects(call, hasCode("ERR_ABORTED"));
    assert.deepEqual([parts, worker.cancelled], [[1], [0]]);
  });

  test("while it waits reaches no worker", async () => {
    const worker = new FakeWorker();
    const lane = new CallLane(settings, () => [worker as unknown as Worker]);
    const first = run(lane, new AbortController().signal);
    const controller = new AbortController();
    const second = run(lane, controller.signal);
    assert.equal(lane.waiting, 1);
    controller.abort();
    await assert.rejects(second.call, hasCode("ERR_ABORTED"));
    assert.equal(lane.waiting, 0);
    worker.workCount = 0;
    worker.listeners[0]?.onResult("done");
    assert.equal(await first.call, "done");
    assert.deepEqual([worker.listeners.length, second.workers, worker.cancelled], [1, [], []]);
  });
});
