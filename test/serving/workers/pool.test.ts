import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readMachineLimits } from "../../../dist/base/machine.js";
import { packArchive } from "../../../dist/index.js";
import type { PoolObserver } from "../../../dist/serving/model_pool.js";
import type { HandlerMeasure } from "../../../dist/serving/worker/handler_metrics.js";
import { hasCode } from "../../support/fixtures.js";
import { ask, echo, folder, generate, makeRegistry, messages, never, withModel } from "./worker_pools.js";

describe("a handler in a worker", () => {
  test("answers, refuses and streams; nothing is left of the worker", async () => {
    await withModel(echo, {}, async (pool) => {
      assert.equal(await ask(pool, "!text"), "plain text");
      assert.equal(await ask(pool, "!cuda-error"), "507 Out of resources");
      const seen: string[] = [];
      const request = { id: "s", parts: [{ name: "body", contentType: "text/plain", value: "!stream" }], headers: {} };
      const answer = await pool.predict(request, { signal: never, onPart: ({ body }) => seen.push(String(body)) });
      assert.deepEqual([...seen, String(answer.response.body)], ["part0 ", "part1 ", "part2 ", "end"]);
      assert.equal(pool.engine, undefined);
      await assert.rejects(generate(pool, "a", 1), hasCode("ERR_UNSUPPORTED_MODEL"));
    });
    assert.deepEqual(
      readdirSync(tmpdir()).filter((name) => name.startsWith("shardspeed-worker-")),
      [],
    );
  });

  test("gets batches of what came meanwhile, and of what comes within the delay", async () => {
    await withModel(echo, { batchSize: 4, maxBatchDelay: 300 }, async (pool) => {
      const answers = await Promise.all(["a", "b", "c"].map((text) => ask(pool, text)));
      assert.deepEqual(
        answers.map((answer) => JSON.parse(answer).batch),
        [3, 3, 3],
      );
      const five = await Promise.all(["a", "b", "c", "d", "e"].map((text) => ask(pool, text)));
      assert.deepEqual(
        five.map((answer) => JSON.parse(answer).batch),
        [4, 4, 4, 4, 1],
      );
    });
  });

  test("may overlap with continuousBatching, on several workers", async () => {
    await withModel(echo, { continuousBatching: true, minWorkers: 2 }, async (pool) => {
      const slow = ask(pool, "!sleep 0.4");
      const pids = await Promise.all([ask(pool, "!pid"), ask(pool, "!pid"), ask(pool, "!pid")]);
      assert.equal(new Set(pids).size, 2);
      assert.equal(await slow, "slept");
    });
  });

  test("a full queue refuses, and a client that goes leaves it", async () => {
    await withModel(echo, { jobQueueSize: 2 }, async (pool) => {
      const running = ask(pool, "!sleep 0.3");
      const controller = new AbortController();
      const gone = ask(pool, "gone", controller.signal);
      const waiting = ask(pool, "!text");
      await assert.rejects(ask(pool, "too many"), { code: "queue_full", status: 503 });
      controller.abort();
      await assert.rejects(gone, hasCode("ERR_ABORTED"));
      assert.equal(pool.waitingRequests, 1);
      assert.deepEqual(await Promise.all([running, waiting]), ["slept", "plain text"]);
    });
  });

  test("that runs is told that its client has gone", async () => {
    await withModel(echo, {}, async (pool) => {
      const controller = new AbortController();
      const gone = ask(pool, "!cancelled", controller.signal);
      await sleep(50);
      messages.length = 0;
      controller.abort();
      await assert.rejects(gone, hasCode("ERR_ABORTED"));
      assert.equal(await ask(pool, "!text"), "plain text");
      assert.ok(messages.includes("echo: cancelled"), messages.join("\n"));
    });
  });

  test("is ended where it does not answer in time, and another is started", async () => {
    await withModel(echo, { responseTimeout: 1 }, async (pool) => {
      const [spun, text] = await Promise.allSettled([ask(pool, "!spin 60"), ask(pool, "!text")]);
      assert.equal(spun.status === "rejected" && spun.reason.message, "Worker died.");
      assert.equal(text.status === "fulfilled" && text.value, "plain text");
    });
  });

  test("that ends its process loses its own request only", async () => {
    const deaths: string[] = [];
    const observer = { workerDied: (_: unknown, error: Error) => void deaths.push(error.message) };
    await withModel(
      echo,
      {},
      async (pool) => {
        const [exited, text] = await Promise.allSettled([ask(pool, "!exit"), ask(pool, "!text")]);
        assert.equal(exited.status === "rejected" && exited.reason.code, "worker_died");
        assert.equal(text.status === "fulfilled" && text.value, "plain text");
        assert.deepEqual(deaths, ["The worker process exited with code 3."]);
      },
      {},
      observer,
    );
  });
});

test("a worker counts what its server does, whoever sets it: the request, the model's file, the key models", async () => {
  const file = path.join(folder, "telling.mjs");
  writeFileSync(
    file,
    `export class Telling {
      initialize(context) { this.context = context; }
      handle(data) {
        const { modelYamlConfig, systemProperties } = this.context;
        return data.map(() => JSON.stringify([systemProperties.get("batch_size"), modelYamlConfig]));
      }
    }`,
  );
  const configFile = path.join(folder, "telling.yaml");
  writeFileSync(configFile, "maxBatchDelay: 7\nresponseTimeout: 70\nhandler:\n  own: 1\n");
  const packed = { modelName: "telling", version: "1.0", handler: file, configFile, exportPath: folder };
  const { path: location } = await packArchive(packed);
  const registry = makeRegistry({
    server: { responseTimeout: 20, maxBatchDelay: 20, startupTimeout: 99 },
  });
  const defaults = { batchSize: 3, maxBatchDelay: 30, continuousBatching: true };
  const { pool } = await registry.register({ location, defaults, settings: { responseTimeout: 10 } });
  await pool.replicas.scaleTo(1);
  const [batchSize, yaml] = JSON.parse(await ask(pool, "a"));
  await registry.dispose(1000);
  assert.deepEqual([batchSize, pool.settings.batchSize], [3, 3]);
  assert.deepEqual([yaml.maxBatchDelay, pool.settings.maxBatchDelayMs], [7, 7]);
  assert.deepEqual([yaml.responseTimeout, pool.settings.responseTimeoutMs], [10, 10_000]);
  assert.deepEqual([yaml.continuousBatching, pool.settings.overlaps], [true, true]);
  assert.deepEqual([yaml.startupTimeout, yaml.handler], [undefined, { own: 1 }], "not what is set for all models");
});

test("metrics of a handler come with the pulses of its worker, the last ones when it stops", async () => {
  const file = path.join(folder, "measuring.mjs");
  const source = `
    export class Measuring {
      initialize() {}
      handle(data, { metrics }) {
        for (let i = 0; i < 3; i++) metrics.addCounter("Seen", 2, 0);
        metrics.addSize("Heap", 5, 0, "MB", [{ name: "Place", value: "here" }]);
        return data.map(() => "done");
      }
    }`;
  writeFileSync(file, source);
  const packed = { modelName: "measuring", version: "1.0", handler: file, exportPath: folder };
  const { path: location } = await packArchive(packed);
  const measures: HandlerMeasure[] = [];
  const observer: PoolObserver = { workerPulse: (_, pulse) => void measures.push(...(pulse.measures ?? [])) };
  await withModel(location, {}, async (pool) => assert.equal(await ask(pool, "a"), "done"), {}, observer);
  const own = measures.filter(({ name }) => name !== "PredictionTime");
  assert.equal(measures.length - own.length, 1, "the service measures its batches");
  assert.deepEqual(own, [
    { name: "Seen", type: "counter", value: 6, dimensions: [] },
    { name: "Heap", type: "gauge", value: 5, dimensions: [{ name: "Place", value: "here" }] },
  ]);
});

test("workers share the processors; one alone has them all", async () => {
  const file = path.join(folder, "sharing.mjs");
  const source = "export const handle = (data) => data?.map(() => process.env.SHARDSPEED_PROCESSORS ?? 'all');";
  writeFileSync(file, source);
  const packed = { modelName: "sharing", version: "1.0", handler: `${file}:handle`, exportPath: folder };
  const { path: location } = await packArchive(packed);
  const registry = makeRegistry();
  const one = await registry.register({ location });
  await one.pool.replicas.scaleTo(1);
  assert.equal(await ask(one.pool, "a"), "all");
  const { pool } = await registry.register({ location, name: "other", settings: { minWorkers: 3 } });
  await pool.replicas.scaleTo(3);
  const share = Math.max(1, Math.floor(readMachineLimits().processors / 4));
  assert.equal(await ask(pool, "a"), String(share), "of three, beside the one of the other model");
  await registry.dispose(1000);
});

test("a worker that floods its outputs is cut short: the server's memory does not grow, and others are answered", async () => {
  const file = path.join(folder, "flooding.mjs");
  const source = `
    const block = "flood flood flood\\n".repeat(50_000);
    export class Flooding {
      initialize() {}
      async handle(data, context) {
        const write = (output) => new Promise((resolve) => output.write(block, resolve));
        for (let i = 0; i < 200; i++) await write(i % 2 === 0 ? process.stdout : process.stderr);
        for (let i = 0; i < 20_000; i++) context.logger.info("said");
        return data.map(() => "done");
      }
    }`;
  writeFileSync(file, source);
  const exportPath = mkdtempSync(path.join(folder, "flooding-"));
  const packed = await packArchive({ modelName: "flooding", version: "1.0", handler: file, exportPath });
  const lines: string[] = [];
  const take = (message: string) => void lines.push(message);
  const options = { logger: { debug: take, info: take, warn: take, error: take } };
  await withModel(echo, {}, async (other) => {
    await withModel(
      packed.path,
      {},
      async (pool) => {
        const before = process.memoryUsage.rss();
        let isDone = false;
        const done = ask(pool, "a").finally(() => {
          isDone = true;
        });
        let answered = 0;
        for (; !isDone; answered++) assert.equal(await ask(other, "!text"), "plain text");
        assert.equal(await done, "done");
        assert.ok(answered > 0);
        const grown = process.memoryUsage.rss() - before;
        assert.ok(grown < 100 * 2 ** 20, `180 MB were written, and the server grew by ${grown} bytes`);
      },
      options,
    );
  });
  const counted = lines.flatMap((line) => /: (\d+) lines of the worker/.exec(line)?.[1] ?? []);
  const left = counted.reduce((sum, number) => sum + Number(number), 0);
  const passed = lines.filter((line) => /: (flood flood flood|said)$/.test(line)).length;
  assert.equal(passed + left, 200 * 50_000 + 20_000, "each line is in the log or counted");
  assert.ok(passed < 100_000, `${passed} lines were passed on`);
});
