import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PoolObserver } from "../../../dist/serving/model_pool.js";
import type { Worker } from "../../../dist/serving/worker/worker.js";
import { demoModel, hasCode } from "../../support/fixtures.js";
import { endless } from "../../support/requests.js";
import { generate, makeRegistry, messages, until, withModel } from "./worker_pools.js";

describe("the engine of a worker", () => {
  test("tells how far it is while it loads", async () => {
    const registry = makeRegistry();
    const { pool } = await registry.register({ location: demoModel });
    const seen: (string | undefined)[] = [];
    const ready = pool.replicas.scaleTo(1);
    const { worker } = pool.replicas.all[0] as { worker: Worker };
    const { onProgress } = worker;
    worker.onProgress = (progress) => {
      onProgress(progress);
      seen.push(pool.progress?.phase);
    };
    await ready;
    assert.equal(seen[0], "load");
    assert.equal(pool.progress, undefined);
    await registry.dispose(1000);
  });

  const outcomes: string[] = [];
  const observer: PoolObserver = {
    generationStarted: () => {
      let tokens = 0;
      return {
        dispatched() {},
        prompt() {},
        tokens: (count) => {
          tokens += count;
        },
        finished: (reason) => void outcomes.push(reason === "length" ? `${tokens} tokens` : reason),
      };
    },
  };

  test("generates, alone and among others, the same; calls that are cancelled end", async () => {
    await withModel(
      demoModel,
      {},
      async (pool) => {
        const alone = await generate(pool, "The whale", 12);
        assert.ok(alone.length > 10);
        const controller = new AbortController();
        const late: unknown[] = [];
        const reservation = pool.reserve();
        const options = { maxNewTokens: 400, ignoreEos: true };
        const given = {
          reservation,
          signal: controller.signal,
          // At the first part there are many to come, however fast the machine.
          onPart: (parts: unknown[]) => {
            late.push(...parts);
            controller.abort();
          },
        };
        const cancelled = pool.call("generate", { prompt: { text: "It" }, options }, given);
        const many = Promise.all(Array.from({ length: 6 }, () => generate(pool, "The whale", 12)));
        await assert.rejects(cancelled, hasCode("ERR_ABORTED"));
        reservation.release();
        // What the worker had sent by then reaches nobody.
        late.length = 0;
        assert.deepEqual(new Set(await many), new Set([alone]));
        await until(() => pool.replicas.ready[0]?.workCount === 0);
        assert.deepEqual(late, []);
        assert.equal(pool.pending, 0);
        await until(() => outcomes.length === 8);
        assert.deepEqual(outcomes.sort(), [...Array.from({ length: 7 }, () => "12 tokens"), "abort"]);
        assert.deepEqual(pool.engine?.tasks, ["generate", "embed"]);
      },
      {},
      observer,
    );
  });

  test("gets no more than fits: the queue is full, or the request can never fit", async () => {
    await withModel(
      demoModel,
      {},
      async (pool) => {
        const reservations = Array.from({ length: 6 }, () => pool.reserve());
        assert.throws(() => pool.reserve(), { code: "queue_full" });
        assert.throws(() => pool.reserve(7), { code: "too_many_sequences", status: 400 });
        for (const reservation of [...reservations, ...reservations]) reservation.release();
        assert.equal(pool.pending, 0);
        await assert.rejects(generate(pool, "whale ".repeat(2000), 5), (error: Error & { details: unknown }) => {
          assert.match(error.message, /This model's maximum context length is 512 tokens\. However/);
          assert.deepEqual(error.details, { promptTokens: 2002, contextTokens: 512 });
          return hasCode("ERR_CONTEXT_LENGTH")(error);
        });
        pool.drain();
        assert.throws(() => pool.reserve(), { code: "shutting_down" });
      },
      { maxConcurrentRequests: 2 },
    );
  });

  test("of a worker that was killed is back at once: only what it did is lost", async () => {
    await withModel(demoModel, {}, async (pool) => {
      const argument = { prompt: { text: "The whale" }, options: { maxNewTokens: 400, ignoreEos: true } };
      const kill = () => {
        const pid = pool.replicas.ready[0]?.pid;
        if (pid !== undefined) process.kill(pid, "SIGKILL");
      };
      // On a busy machine the worker may be done when its first part is read: then its successor is killed.
      const lost = endless(async () => {
        const reservation = pool.reserve();
        const given = { reservation, signal: new AbortController().signal, onPart: kill };
        await pool.call("generate", argument, given).finally(() => reservation.release());
      });
      await assert.rejects(lost, { code: "worker_died", message: "Worker died." });
      const startedAt = performance.now();
      assert.ok((await generate(pool, "The whale", 4)).length > 0);
      messages.push(`back after ${performance.now() - startedAt} ms`);
    });
  });

  test("is of processes, one a rank, with torchrun.nproc-per-node: the same text", async () => {
    let alone = "";
    await withModel(demoModel, {}, async (pool) => {
      alone = await generate(pool, "The whale", 12);
    });
    const engineOptions = { tpSize: 2 };
    await withModel(
      demoModel,
      { "torchrun.nproc-per-node": 2, parallelType: "tp" },
      async (pool) => assert.equal(await generate(pool, "The whale", 12), alone),
      { engineOptions },
    );
    await withModel(demoModel, {}, async (pool) => assert.equal(await generate(pool, "The whale", 12), alone), {
      engineOptions,
    });
  });
});
