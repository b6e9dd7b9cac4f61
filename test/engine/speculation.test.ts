import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Engine, type InitOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture } from "../support/fixtures.js";
import { generateMixed, makePoisonedModel, repeatingPrompts } from "../support/requests.js";

// Drafts must be invisible: tokens and log-probabilities are those of a run without, and only the number of steps differs.

const speculation = { method: "ngram", draftTokens: 12, minMatch: 1, maxMatch: 3, adaptive: false } as const;
const llama = fixture("golden", "llama");
/** Another model with as many tokens in its vocabulary. */
const qwen = fixture("golden", "qwen2");

const draftedBy = (model: string) => ({ method: "draft", model, draftTokens: 5, adaptive: false }) as const;

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

describe("drafts of a model", () => {
  for (const [model, draft] of [
    [llama, qwen],
    [demoModel, demoModel],
  ] as const) {
    test(`the same tokens and log-probabilities: ${model.split("/").at(-1)} with ${draft.split("/").at(-1)}`, async () => {
      for (const options of [{}, { maxBatchTokens: 13 }, { tpSize: 2, dtype: "fp32" }] satisfies InitOptions[]) {
        await using plain = await initInference(model, { device: "cpu", ...options });
        await using drafting = await initInference(model, {
          ...{ device: "cpu", ...options, speculation: draftedBy(draft) },
        });
        assert.deepEqual(await whatItSays(drafting), await whatItSays(plain), JSON.stringify(options));
        const { speculation, kvCache } = drafting.stats();
        assert.ok(speculation.drafts > 0 && speculation.draftTokens > 0);
        assert.equal(kvCache.pagesUsed, 0);
      }
    });
  }

  test("a model that drafts for itself is always right, sampled and with lists of tokens too", async () => {
    await using engine = await initInference(llama, { device: "cpu", speculation: draftedBy(llama) });
    await whatItSays(engine);
    const { draftTokens, acceptedTokens } = engine.stats().speculation;
    assert.equal(acceptedTokens, draftTokens);
    assert.ok(acceptedTokens > 100);
  });

  test("calls that end early leave room for others", async () => {
    const speculation = draftedBy(llama);
    await using engine = await initInference(llama, { device: "cpu", speculation, kvCacheBytes: 400_000 });
    const prompt = Array.from({ length: 60 }, (_, i) => (i * 7) % 256);
    const options = { maxNewTokens: 60, ignoreEos: true };
    for (let i = 0; i < 25; i++) {
      let seen = 0;
      for await (const { ids } of engine.stream(prompt, { ...options, seed: i, temperature: 1 })) {
        seen += ids.length;
        if (seen > i) break;
      }
    }
    const before = engine.stats().speculation.drafts;
    await engine.generate(prompt, options);
    assert.ok(engine.stats().speculation.drafts > before);
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
    // And an engine may end in the middle of one.
    const cut = assert.rejects(engine.generate(prompt, options), { code: "ERR_DISPOSED" });
    await engine.dispose();
    await cut;
  });

  test("a draft model that computes NaN drafts nothing, and harms nobody", async (t) => {
    const { folder, remove } = makePoisonedModel();
    t.after(remove);
    const opt = fixture("golden", "opt");
    await using plain = await initInference(opt, { device: "cpu" });
    await using drafting = await initInference(opt, { device: "cpu", speculation: draftedBy(folder) });
    assert.deepEqual(await generateMixed(drafting, true), await generateMixed(plain, true));
    assert.equal(drafting.stats().speculation.drafts, 0);
  });

  test("its memory counts", async () => {
    await using plain = await initInference(llama, { device: "cpu", kvCacheBytes: 400_000 });
    await using drafting = await initInference(llama, {
      ...{ device: "cpu", kvCacheBytes: 400_000, speculation: draftedBy(llama) },
    });
    const [alone, both] = [plain, drafting].map((engine) => engine.stats());
    assert.ok(alone && both);
    assert.equal(both.memory[0]?.weightBytes, 2 * (alone.memory[0]?.weightBytes ?? 0));
    assert.equal(both.memory[0]?.activationBytes, 2 * (alone.memory[0]?.activationBytes ?? 0));
    // Both caches together are within what the option gives.
    assert.equal(both.kvCache.pagesTotal, Math.floor(alone.kvCache.pagesTotal / 2));
  });

  test("what cannot draft is refused", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const refuse = async (model: string, draft: string, error: object) => {
      await assert.rejects(initInference(model, { device: "cpu", speculation: draftedBy(draft) }), error);
      await assert.rejects(initInference(model, { device: "cpu", tpSize: 2, speculation: draftedBy(draft) }), error);
    };
    await refuse(llama, join(folder, "nothing"), { code: "ERR_CHECKPOINT", message: /nothing/ });
    await refuse(llama, demoModel, { code: "ERR_CONFIG", message: /4096 tokens, the other 256/ });
    await refuse(llama, fixture("encoders", "bert_masked_lm"), { code: "ERR_CONFIG" });

    cpSync(demoModel, join(folder, "other"), { recursive: true });
    const path = join(folder, "other", "tokenizer.json");
    const tokenizer = JSON.parse(readFileSync(path, "utf8"));
    const [[first, firstId], [second, secondId]] = Object.entries(tokenizer.model.vocab).slice(-2) as [
      [string, number],
      [string, number],
    ];
    Object.assign(tokenizer.model.vocab, { [first]: secondId, [second]: firstId });
    writeFileSync(path, JSON.stringify(tokenizer));
    await refuse(demoModel, join(folder, "other"), {
      code: "ERR_CONFIG",
      message: /token \d+ is ".+" in its tokenizer/,
    });

    for (const file of ["config.json", "model.safetensors"]) copyFileSync(join(llama, file), join(folder, file));
    truncateSync(join(folder, "model.safetensors"), 9000);
    await refuse(llama, folder, { code: "ERR_CHECKPOINT", message: /model\.safetensors/ });
    writeFileSync(join(folder, "config.json"), '{"model_type": ["llama"]}');
    await refuse(llama, folder, { code: /ERR_(CHECKPOINT|UNSUPPORTED_MODEL)/, message: /config\.json/ });

    for (const wrong of [
      { method: "draft" },
      { method: "draft", model: "" },
      { method: "draft", model: "a", minMatch: 3 },
    ])
      await assert.rejects(initInference(llama, { speculation: wrong as never }), { code: "ERR_INVALID_ARGUMENT" });
  });
});
