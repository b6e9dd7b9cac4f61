import assert from "node:assert/strict";
import { test } from "node:test";
import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";
import { observePool } from "../../../dist/serving/pool_metrics.js";
import type { Replica } from "../../../dist/serving/replicas.js";

function replica(id: string): Replica {
  return { id, state: "ready", worker: undefined, incarnation: 1, startedAt: Date.now(), error: undefined };
}

test("a generation counts for its worker's place, which the next worker takes when that has left", async () => {
  const metrics = new ServerMetrics({ version: "0", device: "cpu", disableSystemMetrics: true });
  metrics.modelRegistered("m");
  const observer = observePool(metrics, { name: "m", version: "1.0" });
  const [first, second, third] = [replica("9000"), replica("9001"), replica("9002")];
  const generate = (by: Replica) => {
    const meter = observer.generationStarted?.({ receivedAt: performance.now(), maxTokens: 5 });
    meter?.dispatched(by, performance.now());
    meter?.prompt(3);
    meter?.tokens(2);
    meter?.finished("length");
  };
  observer.workerReady?.(first);
  observer.workerReady?.(second);
  generate(second);
  observer.workerLeft?.(first);
  observer.workerReady?.(third);
  generate(third);
  generate(third);
  const { body } = await metrics.render(undefined, ["vllm:generation_tokens_total"]);
  const counted = [...body.matchAll(/engine="(\d)"\} (\d+)/g)].map(([, engine, tokens]) => [engine, tokens]);
  assert.deepEqual(counted.sort(), [
    ["0", "4"],
    ["1", "2"],
  ]);
  // Of another version: the workers of this one stay.
  observer.workerStateChanged?.(second);
  metrics.modelRegistered("m");
  const states = (await metrics.render(undefined, ["shardspeed_workers"])).body;
  assert.match(states, /state="ready"\} 1$/m);
  metrics.close();
});
