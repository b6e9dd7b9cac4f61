import assert from "node:assert/strict";
import { type Engine, sampleSeed } from "../../dist/index.js";

/** Samples of prompts of several lengths, some over page borders, against calls of their own; while others run. */
export async function compareSamples(engine: Engine, lengths: readonly number[] = [1, 15, 16, 17, 33]): Promise<void> {
  const { vocabSize } = engine.module.info;
  const options = { maxNewTokens: 12, ignoreEos: true, temperature: 1.2, logprobs: 2, repetitionPenalty: 1.1, seed: 7 };
  const prompts = lengths.map((length) => Array.from({ length }, (_, i) => (i * 31 + length) % vocabSize));
  const results = await Promise.all(
    prompts.map((prompt, i) => engine.generate(prompt, { ...options, n: i % 2 === 0 ? 4 : 3 })),
  );
  for (const [i, { choices = [], usage }] of results.entries()) {
    const prompt = prompts[i] as number[];
    const alone = await Promise.all(
      choices.map((_, k) => engine.generate(prompt, { ...options, seed: sampleSeed(options.seed, k) })),
    );
    for (const [k, { ids, logprobs }] of alone.entries())
      assert.deepEqual({ ids: choices[k]?.ids, logprobs: choices[k]?.logprobs }, { ids, logprobs });
    assert.ok(new Set(choices.map(({ ids }) => ids.join())).size > 1);
    assert.equal(usage.promptTokens, prompt.length);
  }
  assert.equal(engine.stats().kvCache.pagesUsed, 0);
}
