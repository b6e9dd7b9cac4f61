import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { type Engine, type InitOptions, initInference } from "../../dist/index.js";
import { device, useEmulator } from "../support/emulator.js";
import { fixture, hasCode } from "../support/fixtures.js";
import { compareWithGolden, cudaTolerance, cudaVariants, readGolden } from "../support/golden.js";
import { coverGoldens } from "../support/golden_cover.js";
import { endRanks, startRanks } from "../support/ranks.js";
import { continueAll, conversationsOf, generateMixed, mostRanksOf } from "../support/requests.js";

// A model divided among emulated GPUs, each of which a thread of this process works with: the sums between them are pushed.

before(
  () => {
    process.env.SHARDSPEED_EMULATOR_DEVICES = "8";
    useEmulator();
  },
  { timeout: 1_800_000 },
);

function open(model: string, tpSize: number, options: InitOptions = {}): Promise<Engine> {
  const config = { dtype: "fp16", tensor_parallel: { tp_size: tpSize } };
  return initInference(model, { config, device, threads: 1, ...options });
}

describe("goldens with tp_size 2", () => {
  for (const name of coverGoldens(cudaVariants, 2))
    test(name, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), {
        ...{ device, dtype: "fp16", relative: cudaTolerance(name), tpSize: 2 },
      }),
    );
});

describe("the same tokens for every tp_size", () => {
  for (const name of coverGoldens(cudaVariants, 4)) {
    test(name, async () => {
      const ids = readGolden(name).prompts[1]?.ids.slice(0, 7) ?? [];
      const options = { maxNewTokens: 5, ignoreEos: true };
      let expected: number[][] | undefined;
      let largest = 1;
      for (const tpSize of [1, 3, 4, 8]) {
        if (tpSize > largest) continue;
        await using engine = await open(fixture("golden", name), tpSize);
        largest = mostRanksOf(engine.module.info);
        assert.equal(engine.module.devices.length, tpSize);
        const results = await Promise.all([
          engine.generate(ids, options),
          engine.generate(ids, { ...options, temperature: 0.8, seed: 3 }),
        ]);
        const found = results.map((result) => result.ids);
        expected ??= found;
        assert.deepEqual(found, expected, `tp_size ${tpSize}`);
      }
    });
  }
});

describe("ranks on devices", () => {
  test("have one each, and their memory is counted", async () => {
    await using engine = await open(fixture("golden", "llama"), 2);
    assert.deepEqual(engine.module.devices, [device, `${device}:1`]);
    assert.deepEqual(
      engine.stats().memory.map((memory) => memory.device),
      engine.module.devices,
    );
  });

  test("many requests at once, in chunks, with steps that are captured and without", async (t) => {
    t.after(() => delete process.env.SHARDSPEED_CUDA_GRAPHS);
    await using engine = await open(fixture("golden", "llama"), 2);
    const expected = await generateMixed(engine, true);
    assert.deepEqual(await generateMixed(engine, false), expected);
    process.env.SHARDSPEED_CUDA_GRAPHS = "0";
    await using plain = await open(fixture("golden", "llama"), 2, { maxBatchTokens: 16 });
    assert.deepEqual(await generateMixed(plain, true), expected);
  });

  test("add up parts of 16 bits where that is asked for, with the same bits in any company", async () => {
    const options = { communicationDtype: "fp16" };
    await using narrow = await open(fixture("golden", "llama"), 2, options);
    const expected = await generateMixed(narrow, true);
    await using small = await open(fixture("golden", "llama"), 2, { ...options, maxBatchTokens: 16 });
    assert.deepEqual(await generateMixed(small, false), expected);
    await using wide = await open(fixture("golden", "llama"), 2);
    assert.notDeepEqual(await generateMixed(wide, true), expected);
    await using alone = await open(fixture("golden", "llama"), 1, options);
    await using plain = await open(fixture("golden", "llama"), 1);
    assert.deepEqual(await generateMixed(alone, true), await generateMixed(plain, true));
  });

  test("add up in fp32 or in the dtype of the weights, and on CPUs in fp32", async () => {
    const refused = (words: RegExp) => hasCode("ERR_CONFIG", words);
    await assert.rejects(
      open(fixture("golden", "llama"), 2, { communicationDtype: "bf16" }),
      refused(/communicationDtype bfloat16, but this engine computes in float16/),
    );
    await assert.rejects(
      open(fixture("golden", "llama"), 2, { communicationDtype: "fp16", device: "cpu" }),
      refused(/communicationDtype float16, but ranks on CPUs add up in float32/),
    );
    await using engine = await open(fixture("golden", "llama"), 2, { communicationDtype: "fp32", device: "cpu" });
    assert.equal(engine.module.devices.length, 2);
  });

  test("that are processes are refused where they would add up differently", async () => {
    const config = { dtype: "fp16", tensor_parallel: { tp_size: 2 } };
    const ranks = await startRanks(2, (rank) => ({
      ...{ models: [fixture("golden", "llama")], tpSize: 2, prompt: [1], maxNewTokens: 1 },
      options: { device, config, ...(rank === 1 ? { communicationDtype: "fp16" } : {}) },
    }));
    try {
      await Promise.all(ranks.map(({ ended }) => ended));
      for (const { events } of ranks) {
        const failure = events.find(({ event }) => event === "failed");
        assert.equal(failure?.code, "ERR_COMM");
        assert.match(failure?.message ?? "", /communication dtype is float32 on rank 0 and float16 on rank 1/);
      }
    } finally {
      await endRanks(ranks);
    }
  });

  test("share prompts that begin alike", async () => {
    await using plain = await open(fixture("golden", "llama"), 2, { prefixCache: false });
    await using caching = await open(fixture("golden", "llama"), 2);
    const conversations = conversationsOf(plain.module.info.vocabSize);
    assert.deepEqual(await continueAll(caching, conversations), await continueAll(plain, conversations));
    assert.ok(caching.stats().prefixCache.hits > 100);
  });

  test("are refused where there are too few", async () => {
    await assert.rejects(
      open(fixture("golden", "gpt2_heads"), 9),
      hasCode("ERR_CUDA", /8 usable CUDA devices.*tp_size 9/),
    );
  });

  test("end together, also while they work", async () => {
    for (const afterMs of [0, 5, 50, 200]) {
      const engine = await open(fixture("golden", "llama"), 2);
      const working = engine.generate([1, 2, 3], { maxNewTokens: 40, ignoreEos: true }).then(
        () => "done",
        ({ code }) => code,
      );
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      await engine.dispose();
      assert.ok(["done", "ERR_DISPOSED"].includes(await working));
    }
  });
});
