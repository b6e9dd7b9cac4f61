import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { readMachineLimits } from "../../dist/base/machine.js";
import { initInference, type LoadProgress, ShardspeedError } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";

const workerFile = new URL("../support/generating_worker.js", import.meta.url);
const droppingScript = fileURLToPath(new URL("../support/dropping_process.js", import.meta.url));
const exitingScript = fileURLToPath(new URL("../support/exiting_process.js", import.meta.url));

/** The number of this process's threads and open files. */
function resources(): { threads: number; files: number } {
  return { threads: readdirSync("/proc/self/task").length, files: readdirSync("/proc/self/fd").length };
}

describe("loading", () => {
  test("progress counts up to the whole and ends with ready", async () => {
    const seen: LoadProgress[] = [];
    await using engine = await initInference(demoModel, { onProgress: (progress) => seen.push(progress) });
    assert.equal(engine.disposed, false);
    const last = seen.at(-1);
    assert.equal(last?.phase, "ready");
    const loads = seen.filter((progress) => progress.phase === "load");
    assert.ok(loads.length >= 1);
    for (const [i, load] of loads.entries())
      assert.ok(load.loadedBytes >= (loads[i - 1]?.loadedBytes ?? 0) && load.loadedBytes <= load.totalBytes);
    assert.equal(loads.at(-1)?.loadedBytes, loads.at(-1)?.totalBytes);
  });

  test("a signal ends it, and nothing stays behind", async () => {
    await assert.rejects(initInference(demoModel, { signal: AbortSignal.abort() }), hasCode("ERR_ABORTED"));
    const controller = new AbortController();
    const loading = initInference(demoModel, { signal: controller.signal, onProgress: () => controller.abort() });
    await assert.rejects(loading, hasCode("ERR_ABORTED"));
    const before = resources();
    for (let i = 0; i < 5; i++) {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), i);
      await initInference(demoModel, { signal: abort.signal }).then(
        (engine) => engine.dispose(),
        hasCode("ERR_ABORTED"),
      );
    }
    const after = resources();
    assert.ok(after.files <= before.files && after.threads <= before.threads, JSON.stringify({ before, after }));
  });

  test("an error that onProgress throws ends the call with it", async () => {
    for (const phase of ["load", "ready"]) {
      const onProgress = (progress: LoadProgress) => {
        if (progress.phase === phase) throw new RangeError(`thrown at ${phase}`);
      };
      await assert.rejects(initInference(demoModel, { onProgress }), {
        name: "RangeError",
        message: `thrown at ${phase}`,
      });
    }
  });

  test("more memory than there is is refused with need and have", async () => {
    await assert.rejects(
      initInference(demoModel, { kvCacheBytes: 2 ** 52 }),
      hasCode("ERR_OUT_OF_MEMORY", /needs [\d.]+ TB .*but [\d.]+ [kMGT]?B are available/),
    );
    await assert.rejects(
      initInference(demoModel, { kvCacheBytes: 100 }),
      hasCode("ERR_OUT_OF_MEMORY", /kvCacheBytes 100/),
    );
  });

  test("more threads and ranks than processors give a warning that says how many there are", async () => {
    const { processors } = readMachineLimits();
    const warnings = async (options: { threads?: number; config?: object }) => {
      const lines: string[] = [];
      const logger = { debug() {}, info() {}, warn: (line: string) => lines.push(line), error() {} };
      await using _engine = await initInference(demoModel, { device: "cpu", logger, ...options });
      return lines.filter((line) => line.includes("wait for each other"));
    };
    assert.deepEqual(await warnings({}), []);
    assert.deepEqual(await warnings({ threads: processors }), []);
    const [line, ...more] = await warnings({ threads: processors + 1 });
    assert.deepEqual(more, []);
    assert.match(line as string, new RegExp(`^${processors + 1} threads .* ${processors} processors`));
    assert.match(line as string, new RegExp(`Set threads to ${processors},`));
    assert.equal((await warnings({ threads: processors, config: { tensor_parallel: { tp_size: 2 } } })).length, 1);
  });

  test("a weights file that becomes shorter meanwhile is an error", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
    t.after(() => rmSync(folder, { recursive: true }));
    cpSync(demoModel, folder, { recursive: true });
    const onProgress = (progress: LoadProgress) => {
      if (progress.phase === "load") truncateSync(join(folder, "model.safetensors"), 1000);
    };
    // The file may have been read before the first report comes.
    await initInference(folder, { onProgress, threads: 1 }).then(
      (engine) => engine.dispose(),
      hasCode("ERR_CHECKPOINT"),
    );
    await assert.rejects(initInference(folder), hasCode("ERR_CHECKPOINT", /model\.safetensors/));
  });

  test("a logger that throws ends the call, and nothing stays behind", async () => {
    const before = resources();
    const fail = () => {
      throw new Error("no space for logs");
    };
    const logger = { debug() {}, info: fail, warn() {}, error() {} };
    for (let i = 0; i < 3; i++)
      await assert.rejects(initInference(demoModel, { logger, device: "cpu" }), /no space for logs/);
    assert.ok(resources().threads <= before.threads);
  });

  test("wrong folders are named", async () => {
    await assert.rejects(
      initInference("/nowhere/at/all"),
      hasCode("ERR_CHECKPOINT", /nowhere\/at\/all.*no such folder/),
    );
    await assert.rejects(initInference(`${demoModel}/config.json`), hasCode("ERR_CHECKPOINT", /not a folder/));
    await assert.rejects(initInference(fixture("golden")), hasCode("ERR_CHECKPOINT", /config\.json/));
    await assert.rejects(initInference(7 as unknown as string), hasCode("ERR_INVALID_ARGUMENT", /model/));
  });

  test("max_out_tokens bounds the sequence", async () => {
    await using engine = await initInference(demoModel, { config: { max_out_tokens: 40 } });
    assert.equal(engine.contextTokens, 40);
    await assert.rejects(engine.generate(new Array(40).fill(5)), hasCode("ERR_CONTEXT_LENGTH", /40/));
    assert.equal((await engine.generate(new Array(30).fill(5), { ignoreEos: true })).ids.length, 10);
  });
});

describe("dispose", () => {
  test("ends what runs with ERR_DISPOSED, may be called twice, and refuses what comes after", async () => {
    const engine = await initInference(demoModel);
    const running = engine.generate("The", { maxNewTokens: 400, ignoreEos: true });
    const forward = engine.forward({ inputIds: [new Array(400).fill(5)] });
    const rejected = Promise.all([
      assert.rejects(running, hasCode("ERR_DISPOSED")),
      assert.rejects(forward, hasCode("ERR_DISPOSED")),
    ]);
    await Promise.all([engine.dispose(), engine.dispose()]);
    await rejected;
    assert.equal(engine.disposed, true);
    await assert.rejects(engine.generate("The"), hasCode("ERR_DISPOSED"));
    await assert.rejects(engine.forward({ inputIds: [[1]] }), hasCode("ERR_DISPOSED"));
    assert.throws(() => engine.stats(), hasCode("ERR_DISPOSED"));
    await engine.dispose();
  });

  test("20 rounds of load and dispose keep memory, threads and files flat", async () => {
    const round = async () => {
      await using engine = await initInference(demoModel);
      await engine.generate("The whale", { maxNewTokens: 8 });
    };
    for (let i = 0; i < 5; i++) await round();
    globalThis.gc?.();
    const before = { ...resources(), rss: process.memoryUsage.rss() };
    for (let i = 0; i < 20; i++) await round();
    globalThis.gc?.();
    const after = { ...resources(), rss: process.memoryUsage.rss() };
    assert.ok(after.threads <= before.threads, `threads ${before.threads} -> ${after.threads}`);
    assert.ok(after.files <= before.files, `files ${before.files} -> ${after.files}`);
    // One engine of this model holds about 10 MB of weights: twenty that stay would show.
    const grown = (after.rss - before.rss) / 1e6;
    assert.ok(grown < 25, `RSS grew by ${grown.toFixed(1)} MB`);
  });
});

describe("worker threads and exits", () => {
  test("three workers, each with an engine", async () => {
    const answers = await Promise.all(
      [0, 1, 2].map(
        () =>
          new Promise<string>((resolve, reject) => {
            const worker = new Worker(workerFile, { workerData: { model: demoModel, maxNewTokens: 20 } });
            worker.on("message", (message) => message.done && resolve(message.text));
            worker.on("error", reject);
          }),
      ),
    );
    assert.ok(answers[0]?.length);
    assert.ok(answers.every((answer) => answer === answers[0]));
  });

  test("a dropped engine is collected, one that works is not", () => {
    const child = spawnSync(process.execPath, ["--expose-gc", droppingScript, demoModel], { encoding: "utf8" });
    assert.equal(child.status, 0, child.stderr);
    const { before, after, newTokens } = JSON.parse(child.stdout);
    assert.ok(after <= before, `threads ${before} -> ${after}`);
    assert.equal(newTokens, 200);
  });

  test("worker.terminate() while loading and in mid-stream", async () => {
    const before = resources();
    for (let i = 0; i < 10; i++) {
      const worker = new Worker(workerFile, { workerData: { model: demoModel, maxNewTokens: 480 } });
      if (i % 2 === 0) await new Promise((resolve) => worker.once("message", resolve));
      else await new Promise((resolve) => setTimeout(resolve, 100 + 40 * i));
      await worker.terminate();
    }
    assert.ok(resources().threads <= before.threads + 1, "engine threads end with their worker");
  });

  for (const how of ["exit", "idle", "throw", "SIGTERM"]) {
    test(`a process that ends by ${how} in mid-stream does not crash`, async () => {
      const child = spawn(process.execPath, [exitingScript, demoModel, how], { stdio: ["ignore", "pipe", "pipe"] });
      let stderr = "";
      child.stderr.on("data", (data) => {
        stderr += data;
      });
      child.stdout.once("data", () => how === "SIGTERM" && child.kill("SIGTERM"));
      const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
        child.on("exit", (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
      });
      if (how === "SIGTERM") assert.equal(signal, "SIGTERM", stderr);
      else assert.equal(code, { exit: 3, idle: 0, throw: 1 }[how], `${signal} ${stderr}`);
    });
  }

  test("errors are known by their marker in any copy of the package", () => {
    assert.ok(ShardspeedError.isInstance(new ShardspeedError("ERR_CONFIG", "x")));
    assert.ok(!ShardspeedError.isInstance(new Error("x")));
  });
});
