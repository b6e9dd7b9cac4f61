import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Engine, initInference } from "../../dist/index.js";
import { recordingLogger } from "../support/fake_binding.js";
import { demoModel, fixture, hasCode, relativeError } from "../support/fixtures.js";
import { compareDemoModel, compareWithGolden, readGolden, variants } from "../support/golden.js";
import { mostRanksOf } from "../support/requests.js";

// Ranks that are threads of this process, on the CPU: one model divided among them gives what one rank gives.

const sizes = [1, 2, 3, 4, 8];

function open(model: string, tpSize: number, options: object = {}): Promise<Engine> {
  return initInference(model, {
    config: { dtype: "fp32", tensor_parallel: { tp_size: tpSize } },
    device: "cpu",
    threads: 1,
    ...options,
  });
}

/** What must not depend on tp_size: greedy and sampled tokens; logits, nearly. */
async function whatItSays(engine: Engine, ids: number[]) {
  const options = { maxNewTokens: 16, ignoreEos: true };
  const [greedy, seeded, { logits }] = await Promise.all([
    engine.generate(ids, options),
    engine.generate(ids, { ...options, temperature: 0.8, topP: 0.95, seed: 11 }),
    engine.forward({ inputIds: [ids] }),
  ]);
  return { greedy: greedy.ids, seeded: seeded.ids, logits: logits.data };
}

describe("the same tokens for every tp_size", () => {
  for (const name of variants) {
    test(name, async () => {
      const ids = readGolden(name).prompts[0]?.ids as number[];
      let expected: Awaited<ReturnType<typeof whatItSays>> | undefined;
      for (const tpSize of sizes) {
        await using engine = await open(fixture("golden", name), 1).then(async (whole) => {
          const fits = tpSize <= mostRanksOf(whole.module.info);
          if (tpSize === 1) return whole;
          await whole.dispose();
          return fits ? open(fixture("golden", name), tpSize) : undefined;
        });
        if (engine === undefined) continue;
        assert.equal(engine.module.devices.length, tpSize);
        const found = await whatItSays(engine, ids);
        expected ??= found;
        const error = relativeError(found.logits, expected.logits);
        assert.ok(error <= 1e-4, `tp_size ${tpSize}: logits differ by ${error}`);
        assert.deepEqual(found.greedy, expected.greedy, `tp_size ${tpSize}: greedy`);
        assert.deepEqual(found.seeded, expected.seeded, `tp_size ${tpSize}: seeded`);
      }
    });
  }
});

describe("goldens with tp_size 2", () => {
  const tpSize = 2;
  for (const name of variants)
    test(name, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), {
        ...{ device: "cpu", dtype: "fp16", relative: 5e-3, tpSize },
      }),
    );
  test("the demo model writes the golden texts", () => compareDemoModel("cpu", "fp16", 0, tpSize));
});

describe("a model in ranks", () => {
  test("says what each rank holds, and gives memory for all", async () => {
    await using whole = await open(demoModel, 1);
    await using engine = await open(demoModel, 2);
    const { spec } = engine.module;
    assert.equal(engine.isDriver, true);
    assert.deepEqual(engine.module.devices, ["cpu", "cpu"]);
    const shapes = new Map(engine.module.tensors.map(({ role, shape }) => [role, shape]));
    const half = Math.floor(spec.heads / 2) * spec.headDim;
    assert.deepEqual(shapes.get("layers.0.attn.q.weight"), [half, spec.hiddenSize]);
    assert.deepEqual(shapes.get("layers.0.attn.q.bias"), [half]);
    assert.deepEqual(shapes.get("layers.0.attn.o.weight"), [spec.hiddenSize, half]);
    assert.deepEqual(shapes.get("layers.0.attn.o.bias"), [spec.hiddenSize]);
    assert.deepEqual(shapes.get("layers.0.attn.norm.weight"), [spec.hiddenSize]);
    const ranks = engine.stats().memory;
    const [alone] = whole.stats().memory;
    assert.equal(ranks.length, 2);
    for (const key of ["weightBytes", "kvCacheBytes"] as const) {
      const sum = ranks.reduce((total, rank) => total + rank[key], 0);
      const perPage = key === "kvCacheBytes" ? engine.stats().kvCache.pagesTotal : 1;
      const alonePerPage = key === "kvCacheBytes" ? whole.stats().kvCache.pagesTotal : 1;
      const ratio = sum / perPage / ((alone?.[key] as number) / alonePerPage);
      assert.ok(ratio >= 1 && ratio < 1.03, `${key}: ${ratio} of one rank's`);
    }
  });

  test("progress counts the bytes of all ranks, once", async () => {
    const seen: { loadedBytes: number; totalBytes: number }[] = [];
    await using whole = await open(demoModel, 1, {
      onProgress: (progress: (typeof seen)[number] & { phase: string }) =>
        progress.phase === "load" && seen.push(progress),
    });
    const alone = seen.splice(0).at(-1);
    await using engine = await open(demoModel, 3, {
      onProgress: (progress: (typeof seen)[number] & { phase: string }) =>
        progress.phase === "load" && seen.push(progress),
    });
    assert.equal(whole.module.info.family, engine.module.info.family);
    const last = seen.at(-1);
    assert.equal(last?.loadedBytes, last?.totalBytes);
    assert.ok(seen.every(({ loadedBytes }, i) => i === 0 || loadedBytes >= (seen[i - 1]?.loadedBytes as number)));
    assert.ok(seen.every(({ totalBytes }) => totalBytes === last?.totalBytes));
    // Norms, and biases behind sums, are on every rank.
    const ratio = (last?.totalBytes as number) / (alone?.totalBytes as number);
    assert.ok(ratio >= 1 && ratio < 1.03, `${ratio}`);
  });

  test("kvCacheBytes is for all ranks together", async () => {
    await using one = await open(demoModel, 1, { kvCacheBytes: 2 ** 22 });
    await using two = await open(demoModel, 2, { kvCacheBytes: 2 ** 22 });
    assert.equal(one.stats().kvCache.pagesTotal, two.stats().kvCache.pagesTotal);
  });

  test("heads that do not divide are dealt out unevenly", async () => {
    const logger = recordingLogger();
    await using engine = await open(fixture("golden", "llama"), 3, { logger });
    assert.equal(engine.module.info.heads % 3 === 0 && engine.module.info.kvHeads % 3 === 0, false);
    assert.ok(logger.lines.some((line) => /^info: .*in 3 ranks/.test(line)));
  });

  test("what cannot be divided is refused before anything is read, with the valid sizes", async () => {
    for (const [name, limit] of [
      ["opt", /\d+ attention heads.*Valid sizes are 1 to \d+/],
      ["llama", /\d+ attention heads/],
    ] as const) {
      await assert.rejects(open(fixture("golden", name), 65), hasCode("ERR_CONFIG", limit));
    }
    await assert.rejects(
      initInference(fixture("golden", "opt"), { config: { mp_size: 1000 }, device: "cpu" }),
      hasCode("ERR_CONFIG", /tp_size 1000/),
    );
  });

  test("dispose and abort while it loads leave nothing behind", async () => {
    for (let round = 0; round < 8; round++) {
      const aborting = new AbortController();
      const opening = open(demoModel, 2 + (round % 3), { signal: aborting.signal });
      setTimeout(() => aborting.abort(), 3 * round);
      await opening.then(
        (engine) => engine.dispose(),
        (error) => assert.equal(error.code, "ERR_ABORTED"),
      );
    }
  });
});
