import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { noSentenceSettings } from "../../dist/engine/sentence_settings.js";
import type { Engine } from "../../dist/index.js";
import { planEngine } from "../../dist/loading/engine_plan.js";
import { planMemory } from "../../dist/loading/memory_plan.js";
import type { ModelPlan } from "../../dist/loading/model_plan.js";
import { openEngine } from "../../dist/loading/open_engine.js";
import { resolveInitOptions } from "../../dist/loading/options.js";
import { alone, placeLocally } from "../../dist/loading/placement.js";
import { startLocally } from "../../dist/loading/start.js";
import { describeModel } from "../../dist/models/index.js";
import type { CudaReport, NativeBinding } from "../../dist/native/binding.js";
import { smallest } from "../models/helpers.js";
import { cudaDevice, cudaReport, type FakeEngine, fakeBinding, recordingLogger } from "../support/fake_binding.js";
import { hasCode } from "../support/fixtures.js";

// What the engine does with what a CUDA device, and the native side at large, tells it. The native side is a fake.

const model: ModelPlan = {
  spec: describeModel({ ...smallest.opt, vocab_size: 100 }).spec,
  labels: { task: "causal-lm", names: [], problemType: undefined },
  weights: null,
  adapter: undefined,
  dtype: "float16",
  tpSize: 1,
  maxSequenceTokens: 2048,
  minSequenceTokens: 1,
  tokenizer: undefined,
  tokenizerFiles: undefined,
  sentenceSettings: noSentenceSettings,
  generationDefaults: { eosTokenIds: [], bosTokenId: undefined, padTokenId: undefined },
  shards: undefined,
};

/** As initInference() does with a model that is planned. */
function startOn(binding: NativeBinding, report: CudaReport, options: object = {}, place = alone): Promise<Engine> {
  const resolved = resolveInitOptions({ device: "cuda", ...options });
  return startLocally(
    model,
    placeLocally(resolved, model.tpSize, place, () => report),
    resolved,
    binding,
  );
}

async function start(
  report: CudaReport,
  options: object = {},
): Promise<{ engine: Engine; native: FakeEngine; lines: string[] }> {
  const { binding, engines } = fakeBinding(report);
  const logger = recordingLogger();
  const engine = await startOn(binding, report, { logger, ...options });
  return { engine, native: engines[0] as FakeEngine, lines: logger.lines };
}

const oneGpu = cudaReport([cudaDevice(0)]);
const fault = {
  kind: "failed",
  code: "ERR_CUDA",
  message: "project: cudaErrorIllegalAddress, an illegal memory access was encountered",
} as const;

describe("an engine on a CUDA device", () => {
  test("gets the device in its plan, and names it", async () => {
    const { engine, native, lines } = await start(cudaReport([cudaDevice(0, { usable: false }), cudaDevice(1)]));
    assert.equal(native.plan.devices[0], "cuda:1");
    assert.deepEqual(engine.module.devices, ["cuda:1"]);
    assert.deepEqual(
      engine.stats().memory.map(({ device }) => device),
      ["cuda:1"],
    );
    assert.equal(lines.length, 1);
    assert.match(lines[0] as string, /^info: Loaded opt on cuda:1: .*as float16, KV cache [^,]*, sequences of up to/);
    await engine.dispose();
  });

  test("beside other processes with the whole model: the device of its local rank, not everybody's first", async () => {
    const report = cudaReport([cudaDevice(0), cudaDevice(1)]);
    for (const localRank of [0, 1]) {
      const { binding, engines } = fakeBinding(report);
      const engine = await startOn(binding, report, {}, { localRank, localWorldSize: 2 });
      assert.deepEqual(engines[0]?.plan.devices, [`cuda:${localRank}`]);
      await engine.dispose();
    }
  });

  test("on the CPU and on the emulator likewise", async () => {
    for (const [device, plan] of [
      ["cpu", "cpu"],
      ["cuda-emulator", "cuda:0"],
    ]) {
      const { engine, native } = await start(cudaReport([cudaDevice(0)], { emulated: true }), { device });
      assert.equal(native.plan.devices[0], plan);
      assert.deepEqual(engine.module.devices, [device]);
      await engine.dispose();
    }
  });

  test("plans its KV cache with the device's memory", async () => {
    // 1.001 GB of the fake's weights and activations; a page is 1 MB, a sequence of full length 128 pages.
    const { engine, native } = await start(cudaReport([cudaDevice(0, { freeBytes: 4e9 })]));
    const free = 4e9 - 256 * 2 ** 20 - 0.02 * 4e9 - 1.001e9;
    assert.equal(native.plan.kvCachePages, Math.floor((free * 0.25) / 1e6));
    await engine.dispose();
  });

  test("is refused with need and have where that is too little", async () => {
    const expected =
      /needs 1\.02 GB \(weights 1\.00 GB.*, but 712 MB are available on cuda:0 \(1\.00 GB free, less 288 MB for CUDA itself\)\./;
    await assert.rejects(
      start(cudaReport([cudaDevice(0, { freeBytes: 1e9 })])),
      hasCode("ERR_OUT_OF_MEMORY", expected),
    );
    await assert.rejects(start(oneGpu, { kvCacheBytes: 1e12 }), hasCode("ERR_OUT_OF_MEMORY", /on cuda:0/));
  });
});

describe("a failure of the native engine", () => {
  test("ends what waits with itself, and what comes later with what happened", async () => {
    const { engine, native } = await start(oneGpu);
    const { signal } = new AbortController();
    const generating = engine.generate([1, 2, 3], { signal });
    const batch = engine.generate([[1], [2]]);
    const forward = engine.forward({ inputIds: [[1, 2]] });
    const stream = engine.stream([5]);
    const chunk = stream.next();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(native.submitted.length, 5);
    native.emit({ kind: "token", id: native.submitted[0] as number, token: 7 }, fault);
    for (const pending of [generating, batch, forward, chunk])
      await assert.rejects(pending, hasCode("ERR_CUDA", /^project: cudaErrorIllegalAddress/));

    assert.equal(engine.disposed, true);
    const dead = (error: Error) =>
      hasCode(
        "ERR_DISPOSED",
        /^The engine has failed for good: project: cudaErrorIllegalAddress.*\(ERR_CUDA\).*new one/,
      )(error) && hasCode("ERR_CUDA")(error.cause);
    await assert.rejects(engine.generate([1]), dead);
    await assert.rejects(engine.stream([1]).next(), dead);
    await assert.rejects(engine.forward({ inputIds: [[1]] }), dead);
    assert.throws(() => engine.stats(), dead);
    assert.equal(native.submitted.length, 5, "nothing was asked of it any more");
    assert.deepEqual(native.cancelled, []);

    await Promise.all([engine.dispose(), engine.dispose()]);
    assert.equal(native.closed, 1);
    await assert.rejects(engine.generate([1]), dead, "still says why");
  });

  test("a stream gives the tokens that came before it, then fails", async () => {
    const { engine, native } = await start(oneGpu);
    const stream = engine.stream([5]);
    const first = stream.next();
    await new Promise((resolve) => setImmediate(resolve));
    const id = native.submitted[0] as number;
    native.emit({ kind: "token", id, token: 7 });
    assert.deepEqual((await first).value?.ids, [7]);
    native.emit({ kind: "token", id, token: 8 }, fault);
    assert.deepEqual((await stream.next()).value?.ids, [8]);
    await assert.rejects(stream.next(), hasCode("ERR_CUDA"));
    await engine.dispose();
  });

  test("a request that is on its way meanwhile is told as well", async () => {
    const { engine, native } = await start(oneGpu);
    native.emit({ kind: "rejected", id: 99, code: "ERR_CUDA", message: "of nobody" });
    const pending = engine.generate([1]);
    setImmediate(() => native.emit(fault, fault));
    await assert.rejects(pending, hasCode("ERR_CUDA"));
    await engine.dispose();
  });

  test("while it loads ends the loading, and nothing stays behind", async () => {
    const { binding, engines } = fakeBinding(oneGpu);
    const failing = {
      ...binding,
      createEngine: ((plan, onEvents) => {
        const native = binding.createEngine(plan, () => {});
        setImmediate(() => onEvents([fault]));
        return native;
      }) as typeof binding.createEngine,
    };
    await assert.rejects(startOn(failing, oneGpu), hasCode("ERR_CUDA", /^project: cudaErrorIllegalAddress/));
    assert.equal(engines[0]?.closed, 1);
  });

  test("a new engine can be made afterwards", async () => {
    const { binding, engines } = fakeBinding(oneGpu);
    const first = await startOn(binding, oneGpu);
    engines[0]?.emit(fault);
    await first.dispose();
    const second = await startOn(binding, oneGpu);
    const pending = second.generate([1], { maxNewTokens: 1 });
    await new Promise((resolve) => setImmediate(resolve));
    const id = engines[1]?.submitted[0] as number;
    engines[1]?.emit({ kind: "token", id, token: 3 }, { kind: "done", id, reason: "length" });
    assert.deepEqual((await pending).ids, [3]);
    await second.dispose();
  });
});

test("a plan that the native side refuses leaves no listener open", async () => {
  const { binding } = fakeBinding();
  const closed: number[] = [];
  const refusing: NativeBinding = {
    ...binding,
    createEngine: () => {
      throw Object.assign(new Error("spec.layers: expected something else"), { code: "ERR_NATIVE" });
    },
    closeListener: (descriptor) => void closed.push(descriptor),
  };
  const options = resolveInitOptions({ device: "cpu", threads: 1 });
  const placement = placeLocally(options, 1, alone, () => oneGpu);
  const local = planEngine(model, planMemory(model, placement, options, binding), undefined, options);
  const group = { listener: 7, leaderHost: "::1", leaderPort: 1, key: new Uint8Array(32), silenceLimitMs: 1000 };
  for (const plan of [local, { ...local, group }, { ...local, group: { ...group, listener: -1 } }])
    await assert.rejects(openEngine(plan, model, ["cpu"], options, refusing), /expected something else/);
  assert.deepEqual(closed, [7]);
});
