import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Engine, type GenerationChunk, type InitOptions, initInference, sampleSeed } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { compareSamples } from "../support/samples.js";

const llama = fixture("golden", "llama");
const warm = { temperature: 1.3, seed: 5, maxNewTokens: 14, ignoreEos: true };

function pagesUsed(engine: Engine): number {
  return engine.stats().kvCache.pagesUsed;
}

describe("samples are those of calls of their own", () => {
  // A rotary base that changes with a sample's length, and tokens that follow a long context.
  for (const name of ["llama", "opt", "llama_dynamic", "phi3_longrope", "mistral"]) {
    test(name, async () => {
      const variants: InitOptions[] = [{}, { maxBatchTokens: 5 }, { tpSize: 2, dtype: "fp32" }];
      for (const options of variants) {
        await using engine = await initInference(fixture("golden", name), { device: "cpu", ...options });
        await compareSamples(engine);
      }
    });
  }

  test("in a cache that holds few of them at a time", async () => {
    await using engine = await initInference(llama, { device: "cpu", kvCacheBytes: 400_000 });
    const { pagesTotal } = engine.stats().kvCache;
    const promptTokens = 16 * (pagesTotal - 3) + 5;
    const prompt = Array.from(
      { length: Math.min(promptTokens, engine.contextTokens - 40) },
      (_, i) => (i * 7 + 1) % 50,
    );
    const options = { ...warm, maxNewTokens: 35 };
    const { choices = [] } = await engine.generate(prompt, { ...options, n: 9 });
    for (const [k, { ids }] of choices.entries())
      assert.deepEqual(ids, (await engine.generate(prompt, { ...options, seed: sampleSeed(5, k) })).ids);
    assert.equal(pagesUsed(engine), 0);
  });
});

test("a result has all choices, and counts the prompt once", async () => {
  await using engine = await initInference(demoModel, { device: "cpu" });
  const options = { ...warm, ignoreEos: false, logprobs: 1, n: 3 };
  const result = await engine.generate("Alice was", options);
  const { choices = [], usage, timings } = result;
  assert.equal(choices.length, 3);
  const [first] = choices;
  assert.deepEqual(first, { ...first, text: result.text, ids: result.ids, finishReason: result.finishReason });
  assert.equal(new Set(choices.map(({ text }) => text)).size, 3);
  for (const { ids, logprobs } of choices) assert.equal(logprobs?.length, ids.length);
  const promptTokens = engine.tokenizer?.encode("Alice was").length;
  assert.deepEqual(usage, { ...usage, promptTokens, newTokens: choices.reduce((sum, { ids }) => sum + ids.length, 0) });
  assert.ok(timings.totalMs >= timings.firstTokenMs);
  assert.equal(engine.stats().tokens.prompt, promptTokens);
  assert.equal("choices" in (await engine.generate("Alice was", { ...options, n: 1 })), false);
  const greedy = await engine.generate("Alice was", { maxNewTokens: 5, n: 2 });
  assert.equal(greedy.choices?.[0]?.text, greedy.choices?.[1]?.text);
});

test("stop strings end a sample, and not the others", async () => {
  await using engine = await initInference(demoModel, { device: "cpu" });
  const options = { temperature: 1, seed: 3, maxNewTokens: 40, n: 6, stop: ["e "] };
  const { choices = [] } = await engine.generate("The Queen said", options);
  assert.ok(new Set(choices.map(({ ids }) => ids.length)).size > 1);
  for (const [k, choice] of choices.entries()) {
    const alone = await engine.generate("The Queen said", { ...options, n: 1, seed: sampleSeed(3, k) });
    assert.deepEqual([choice.text, choice.finishReason], [alone.text, alone.finishReason]);
  }
});

describe("streams of samples", () => {
  test("chunks name their sample, and join to the choices", async () => {
    await using engine = await initInference(demoModel, { device: "cpu" });
    const options = { ...warm, ignoreEos: false, logprobs: 0, n: 4 };
    const { choices = [], usage } = await engine.generate("Alice was", options);
    const chunks: GenerationChunk[] = [];
    for await (const chunk of engine.stream("Alice was", options)) chunks.push(chunk);
    for (const [k, choice] of choices.entries()) {
      const own = chunks.filter(({ index }) => index === k);
      assert.equal(own.map(({ text }) => text).join(""), choice.text);
      assert.deepEqual(
        own.flatMap(({ ids }) => ids),
        choice.ids,
      );
      assert.deepEqual(
        own.flatMap(({ logprobs = [] }) => logprobs),
        choice.logprobs,
      );
      assert.equal(own.at(-1)?.finishReason, choice.finishReason);
      assert.equal(own.filter(({ finishReason }) => finishReason !== undefined).length, 1);
    }
    assert.deepEqual(
      chunks.flatMap((chunk) => chunk.usage ?? []),
      [usage],
    );
    assert.deepEqual(chunks.at(-1)?.usage, usage);
    for await (const chunk of engine.stream("Alice was", { maxNewTokens: 1 })) assert.equal("index" in chunk, false);
  });

  test("leaving the loop ends all of them, also those that have not begun", async () => {
    await using engine = await initInference(llama, { device: "cpu", maxBatchTokens: 3 });
    const before = engine.stats().tokens.generated;
    for await (const { ids } of engine.stream([1, 2, 3], { ...warm, maxNewTokens: 100, n: 20 })) if (ids.length) break;
    const { ids } = await engine.generate([1, 2, 3], warm);
    assert.equal(ids.length, 14);
    assert.equal(pagesUsed(engine), 0);
    assert.ok(engine.stats().tokens.generated - before < 20 * 100);
  });

  test("a signal ends all of them", async () => {
    // In small steps: they are not to end by themselves.
    await using engine = await initInference(llama, { device: "cpu", maxBatchTokens: 2 });
    const controller = new AbortController();
    const options = { ...warm, maxNewTokens: 100, n: 60, signal: controller.signal };
    const streaming = (async () => {
      for await (const _ of engine.stream([1, 2, 3], options)) controller.abort();
    })();
    await assert.rejects(streaming, hasCode("ERR_ABORTED"));
    const running = engine.generate([1, 2, 3], { ...options, signal: AbortSignal.timeout(5) });
    await assert.rejects(running, hasCode("ERR_ABORTED"));
    await engine.generate([1], { maxNewTokens: 1 });
    assert.equal(pagesUsed(engine), 0);
    const { requests } = engine.stats();
    assert.deepEqual(requests, { running: 0, waiting: 0 });
  });

  test("dispose() ends all of them", async () => {
    const engine = await initInference(llama, { device: "cpu" });
    const running = engine.generate([1, 2, 3], { ...warm, maxNewTokens: 100, n: 50 });
    const refused = assert.rejects(running, hasCode("ERR_DISPOSED"));
    setImmediate(() => engine.dispose());
    await refused;
  });
});
