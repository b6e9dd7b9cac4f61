import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Engine, type GenerationOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";

// Which tokens may come next: logitBias, allowedTokenIds and badWords through the whole package.

const llama = fixture("golden", "llama");
const prompt = [3, 5, 7];

async function idsOf(engine: Engine, options: GenerationOptions): Promise<number[]> {
  return (await engine.generate(prompt, { maxNewTokens: 24, ignoreEos: true, ...options })).ids;
}

describe("allowed tokens and biases", () => {
  test("only allowed tokens come, greedy and sampled", async () => {
    await using engine = await initInference(llama);
    const allowedTokenIds = [9, 17, 40, 41];
    for (const options of [{}, { temperature: 3, seed: 1 }, { temperature: 1, topK: 2, minP: 0.01, seed: 2 }]) {
      const ids = await idsOf(engine, { ...options, allowedTokenIds });
      assert.equal(ids.length, 24);
      assert.deepEqual(
        ids.filter((id) => !allowedTokenIds.includes(id)),
        [],
      );
    }
    assert.deepEqual(new Set(await idsOf(engine, { allowedTokenIds: [12] })), new Set([12]));
  });

  test("every greedy token is the likeliest of the allowed, by forward's logits with the biases added", async () => {
    await using engine = await initInference(llama);
    const { vocabSize } = engine.module.info;
    const allowedTokenIds = Array.from({ length: vocabSize >> 1 }, (_, i) => 2 * i);
    const logitBias = { 2: 0.75, 6: -1.5, 10: 2, 11: 50 };
    const ids = await idsOf(engine, { allowedTokenIds, logitBias });
    const { logits } = await engine.forward({ inputIds: [[...prompt, ...ids]] });
    for (const [n, id] of ids.entries()) {
      const at = (prompt.length - 1 + n) * vocabSize;
      const scoreOf = (token: number) =>
        Math.fround((logits.data[at + token] as number) + (logitBias[token as keyof typeof logitBias] ?? 0));
      const best = allowedTokenIds.reduce((a, b) => (scoreOf(b) > scoreOf(a) ? b : a));
      assert.equal(id, best, `token ${n}`);
    }
    assert.deepEqual(await idsOf(engine, { allowedTokenIds, logitBias: new Map(entriesOf(logitBias)) }), ids);
  });

  test("log-probabilities stay those of the model", async () => {
    await using engine = await initInference(llama);
    const plain = await engine.generate(prompt, { maxNewTokens: 1, logprobs: 20 });
    const [first] = plain.logprobs ?? [];
    const second = first?.top[1];
    const biased = await engine.generate(prompt, {
      maxNewTokens: 1,
      logprobs: 20,
      logitBias: { [second?.id as number]: 100 },
    });
    assert.equal(biased.ids[0], second?.id);
    assert.equal(biased.logprobs?.[0]?.logprob, second?.logprob);
    assert.deepEqual(biased.logprobs?.[0]?.top, first?.top);
  });

  test("the same tokens for every tp_size", async () => {
    const found: number[][] = [];
    for (const tpSize of [1, 2]) {
      await using engine = await initInference(llama, { tpSize });
      const options = { allowedTokenIds: [1, 2, 4, 8, 16, 32], logitBias: { 4: 1, 8: -2 }, temperature: 1.5, seed: 4 };
      found.push(await idsOf(engine, options));
    }
    assert.deepEqual(found[1], found[0]);
  });

  test("constraints go ahead of the least number of new tokens", async () => {
    await using engine = await initInference(llama);
    const options = { allowedTokenIds: [9], stopTokenIds: [9], minNewTokens: 5, maxNewTokens: 8, ignoreEos: true };
    const { ids, finishReason } = await engine.generate(prompt, options);
    assert.deepEqual([ids, finishReason], [[9], "stop"]);
    const both = await engine.generate(prompt, { ...options, allowedTokenIds: [9, 10], logitBias: { 9: 100 } });
    assert.deepEqual([both.ids, both.finishReason], [[10, 10, 10, 10, 10, 9], "stop"]);
  });

  test("ids that the model does not have are refused, and what allows no token fails alone", async () => {
    await using engine = await initInference(demoModel);
    const { vocabSize } = engine.module.info;
    for (const options of [{ allowedTokenIds: [1, vocabSize] }, { logitBias: { [vocabSize]: 1 } }])
      await assert.rejects(
        idsOf(engine, options),
        hasCode("ERR_INVALID_ARGUMENT", new RegExp(`from 0 to ${vocabSize - 1}`)),
      );
    const word = engine.tokenizer?.encode("the", { addSpecialTokens: false }) as number[];
    assert.equal(word.length, 1);
    const company = idsOf(engine, {});
    const blocked = idsOf(engine, { allowedTokenIds: word, badWords: ["the"] });
    await assert.rejects(blocked, hasCode("ERR_INVALID_ARGUMENT", /allow none behind 3 tokens/));
    assert.deepEqual(await company, await idsOf(engine, {}));
  });
});

function entriesOf(biases: Record<number, number>): [number, number][] {
  return Object.entries(biases).map(([id, bias]) => [Number(id), bias]);
}

describe("bad words", () => {
  test("words of one and of several tokens do not come", async () => {
    await using engine = await initInference(demoModel);
    const options = { maxNewTokens: 40, ignoreEos: true };
    const { text } = await engine.generate("It is a truth", options);
    const words = [...new Set(text.match(/[A-Za-z]{3,}/g) ?? [])].slice(0, 6);
    assert.ok(words.length >= 3, text);
    const forms = words.map((word) => engine.tokenizer?.encode(` ${word}`, { addSpecialTokens: false }) as number[]);
    const without = await engine.generate("It is a truth", { ...options, badWords: words });
    assert.notEqual(without.text, text);
    for (const [i, form] of forms.entries()) {
      const found = without.ids.some((_, n) => form.every((id, k) => without.ids[n + k] === id));
      assert.ok(!found, `${words[i]} in ${without.text}`);
    }
  });

  test("a word that the prompt begins is not completed", async () => {
    await using engine = await initInference(demoModel);
    const { tokenizer } = engine;
    const free = await engine.generate("It is a truth", { maxNewTokens: 3, ignoreEos: true });
    const last = tokenizer?.encode("It is a truth") ?? [];
    const word = tokenizer?.decode([last.at(-1) as number, free.ids[0] as number]) as string;
    const encoded = tokenizer?.encode(word, { addSpecialTokens: false });
    assert.deepEqual(encoded, [last.at(-1), free.ids[0]], "the word is these two tokens");
    const held = await engine.generate("It is a truth", { maxNewTokens: 3, ignoreEos: true, badWords: [word] });
    assert.notEqual(held.ids[0], free.ids[0]);
  });

  test("need a tokenizer", async () => {
    await using engine = await initInference(llama);
    assert.equal(engine.tokenizer, undefined);
    await assert.rejects(idsOf(engine, { badWords: ["a"] }), hasCode("ERR_TOKENIZER", /logitBias/));
  });

  test("nobody sees the company, chunks, threads or a cache that is too small", async () => {
    const prompts = ["It is a truth", "The sea was", "Call me", "He said that the whale", "She"];
    const badWords = ["the", "said", "whale", ", and", "of the"];
    const run = async (engine: Engine, together: boolean) => {
      const all: Promise<number[]>[] = [];
      for (const [n, text] of prompts.entries()) {
        const how = n % 2 === 0 ? {} : { temperature: 1.1, seed: n };
        const one = engine
          .generate(text, { maxNewTokens: 30, ignoreEos: true, badWords, ...how })
          .then(({ ids }) => ids);
        if (!together) await one;
        all.push(one);
      }
      return Promise.all(all);
    };
    await using engine = await initInference(demoModel);
    const expected = await run(engine, false);
    assert.deepEqual(await run(engine, true), expected);
    const { pagesTotal } = engine.stats().kvCache;
    const pageBytes = (engine.stats().memory[0]?.kvCacheBytes as number) / pagesTotal;
    const few = { threads: 1, maxBatchTokens: 5, kvCacheBytes: 4 * pageBytes };
    await using tight = await initInference(demoModel, few);
    assert.deepEqual(await run(tight, true), expected);
    assert.ok(tight.stats().preemptions > 0);
  });
});
