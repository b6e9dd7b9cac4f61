import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Engine, type InitOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture } from "../support/fixtures.js";
import { generateMixed, repeatingPrompts } from "../support/requests.js";

// Drafts must be invisible: tokens and log-probabilities are those of a run without, and only the number of steps differs.

const speculation = { method: "ngram", draftTokens: 12, minMatch: 1, maxMatch: 3 } as const;

async function whatItSays(engine: Engine) {
  const prompts = repeatingPrompts(engine.module.info.vocabSize);
  const options = { maxNewTokens: 30, ignoreEos: true, logprobs: 2 };
  const results = await Promise.all([
    ...prompts.map((prompt) => engine.generate(prompt, options)),
    ...prompts.map((prompt, seed) => engine.generate(prompt, { ...options, seed, temperature: 0.4, topP: 0.9 })),
    ...prompts.map((prompt) => engine.generate(prompt, { ...options, repetitionPenalty: 1.05, frequencyPenalty: 0.1 })),
  ]);
  return { mixed: await generateMixed(engine, true), results: results.map(({ ids, logprobs }) => ({ ids, logprobs })) };
}

describe("the same tokens and log-probabilities with drafts", () => {
  for (const model of [fixture("golden", "opt"), fixture("golden", "llama"), demoModel]) {
    test(model.split("/").at(-1) as string, async () => {
      const variants: InitOptions[] = [{}, { maxBatchTokens: 13 }, { tpSize: 2, dtype: "fp32" }];
      for (const options of variants) {
        await using plain = await initInference(model, { device: "cpu", ...options });
        await using drafting = await initInference(model, { device: "cpu", ...options, speculation });
        assert.deepEqual(await whatItSays(drafting), await whatItSays(plain), JSON.stringify(options));
        const { drafts, draftTokens, acceptedTokens, acceptedAt } = drafting.stats().speculation;
        assert.ok(drafts > 0 && acceptedTokens > 0 && draftTokens > acceptedTokens, "some are accepted, some are not");
        assert.equal(
          acceptedAt.reduce((sum, count) => sum + count, 0),
          acceptedTokens,
        );
        assert.equal(drafting.stats().kvCache.pagesUsed, 0);
        assert.deepEqual(plain.stats().speculation, { drafts: 0, draftTokens: 0, acceptedTokens: 0, acceptedAt: [] });
      }
    });
  }

  test("and a call may do without", async () => {
    await using engine = await initInference(fixture("golden", "llama"), { speculation });
    const [prompt] = repeatingPrompts(engine.module.info.vocabSize) as [number[]];
    const options = { maxNewTokens: 30, ignoreEos: true };
    const { ids } = await engine.generate(prompt, { ...options, noSpeculation: true });
    assert.equal(engine.stats().speculation.drafts, 0);
    const { steps } = engine.stats();
    assert.deepEqual((await engine.generate(prompt, options)).ids, ids);
    assert.ok(engine.stats().steps - steps < steps, "several tokens in a step");
    assert.ok(engine.stats().speculation.drafts > 0);
  });

  test("a stream has several tokens in a chunk, and stop strings end it where they would", async () => {
    await using plain = await initInference(demoModel);
    await using drafting = await initInference(demoModel, { speculation });
    const prompt = "I am sure I do not know. I am sure I do not know. I am sure";
    const { text } = await plain.generate(prompt, { maxNewTokens: 40 });
    const stop = text.slice(20, 24);
    const expected = await plain.generate(prompt, { maxNewTokens: 40, stop });
    let found = "";
    let largest = 0;
    for await (const chunk of drafting.stream(prompt, { maxNewTokens: 40, stop })) {
      found += chunk.text;
      largest = Math.max(largest, chunk.ids.length);
    }
    assert.equal(found, expected.text);
    assert.equal(expected.finishReason, "stop");
    assert.ok(largest > 1);
  });
});
