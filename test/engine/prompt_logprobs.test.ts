import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Engine, type GenerationChunk, type InitOptions, initInference } from "../../dist/index.js";
import { pageTokens } from "../../dist/native/limits.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { mixedPrompts, repeatingPrompts, scorePrompts } from "../support/requests.js";

// What they are is compared with transformers beside all else: compareWithGolden() in test/support/golden.ts.

const llama = fixture("golden", "llama");

function open(model: string, options: InitOptions = {}): Promise<Engine> {
  return initInference(model, { device: "cpu", ...options });
}

describe("log-probabilities of a prompt have the same bits", () => {
  for (const name of ["opt", "llama", "llama_dynamic", "mixtral"]) {
    test(`in company, in chunks and for any number of threads: ${name}`, async () => {
      let expected: Awaited<ReturnType<typeof scorePrompts>> | undefined;
      for (const options of [{}, { maxBatchTokens: 1 }, { maxBatchTokens: 7, threads: 1 }, { threads: 3 }]) {
        await using engine = await open(fixture("golden", name), options);
        for (const together of [false, true]) {
          const found = await scorePrompts(engine, together);
          expected ??= found;
          assert.deepEqual(found, expected, `${JSON.stringify(options)}, ${together ? "together" : "alone"}`);
        }
      }
    });
  }

  test("where sequences lose their pages and are computed again", async () => {
    await using roomy = await open(llama);
    const expected = await scorePrompts(roomy, false);
    const { memory, kvCache } = roomy.stats();
    const pageBytes = (memory[0]?.kvCacheBytes as number) / kvCache.pagesTotal;
    await using tight = await open(llama, { kvCacheBytes: 5 * pageBytes, maxBatchTokens: 24 });
    assert.equal(tight.contextTokens, 5 * pageTokens);
    assert.deepEqual(await scorePrompts(tight, true), expected);
    assert.ok(tight.stats().preemptions > 0, "pages ran out on the way");
    assert.equal(tight.stats().kvCache.pagesUsed, 0);
  });

  test("whether drafts are made or not", async () => {
    const scores = async (engine: Engine) =>
      Promise.all(
        repeatingPrompts(engine.module.info.vocabSize).map(async (prompt) => {
          const { ids, promptLogprobs } = await engine.generate(prompt, { maxNewTokens: 20, promptLogprobs: 2 });
          return { ids, promptLogprobs };
        }),
      );
    await using plain = await open(llama);
    await using drafting = await open(llama, { speculation: { method: "ngram" } });
    assert.deepEqual(await scores(drafting), await scores(plain));
    assert.ok(drafting.stats().speculation.drafts > 0);
  });

  test("whatever the options that change what is chosen", async () => {
    await using engine = await open(llama);
    const prompt = mixedPrompts(engine.module.info.vocabSize).at(-1) as number[];
    const { promptLogprobs } = await engine.generate(prompt, { maxNewTokens: 3, promptLogprobs: 4 });
    const other = await engine.generate(prompt, {
      ...{ maxNewTokens: 3, promptLogprobs: 4, temperature: 0.3, repetitionPenalty: 3, logitBias: { 5: 100 } },
      ...{ allowedTokenIds: [5, 6], topK: 1 },
    });
    assert.deepEqual(other.promptLogprobs, promptLogprobs);
  });
});

// Sums over ranks are rounded in another order.
test("they are nearly the same for every tp_size, and the same for each whatever the company", async () => {
  await using whole = await open(llama);
  const expected = await scorePrompts(whole, false);
  await using engine = await open(llama, { tpSize: 2, threads: 1 });
  const alone = await scorePrompts(engine, false);
  assert.deepEqual(await scorePrompts(engine, true), alone);
  for (const [n, { promptLogprobs }] of alone.entries()) {
    assert.equal(promptLogprobs?.length, expected[n]?.promptLogprobs?.length);
    for (const [i, found] of (promptLogprobs ?? []).entries()) {
      const one = expected[n]?.promptLogprobs?.[i];
      assert.equal(found?.id, one?.id);
      if (found) assert.ok(Math.abs(found.logprob - (one?.logprob as number)) < 1e-4);
    }
  }
});

describe("what a prompt's log-probabilities say", () => {
  test("has an entry for each token, with texts, and goes with the first chunk", async () => {
    await using engine = await open(demoModel);
    const prompt = "It is a truth universally acknowledged";
    const options = { maxNewTokens: 6, promptLogprobs: 3, logprobs: 3 };
    const { promptLogprobs, ...result } = await engine.generate(prompt, options);
    const ids = engine.tokenizer?.encode(prompt) as number[];
    assert.equal(promptLogprobs?.length, ids.length);
    assert.equal(promptLogprobs?.[0], null);
    for (const [i, one] of promptLogprobs?.entries() ?? []) {
      if (one === null) continue;
      assert.equal(one.id, ids[i]);
      assert.equal(one.token, engine.tokenizer?.decode([ids[i] as number]));
      assert.deepEqual(one.bytes, [...Buffer.from(one.token as string)]);
      assert.equal(one.top.length, 3);
      assert.ok(one.top.every(({ logprob }, k) => k === 0 || logprob <= (one.top[k - 1]?.logprob as number)));
      const place = one.top.findIndex(({ id }) => id === one.id);
      if (place >= 0) assert.deepEqual([place + 1, one.top[place]?.logprob], [one.rank, one.logprob]);
      else assert.ok(one.rank > 3 && one.logprob <= (one.top[2]?.logprob as number));
    }
    const chunks: GenerationChunk[] = [];
    for await (const chunk of engine.stream(prompt, options)) chunks.push(chunk);
    assert.deepEqual(chunks[0]?.promptLogprobs, promptLogprobs);
    assert.ok(chunks.slice(1).every((chunk) => chunk.promptLogprobs === undefined));
    // A text that was generated is read with the same numbers.
    const { promptLogprobs: read } = await engine.generate([...ids, ...result.ids], { ...options, maxNewTokens: 0 });
    assert.deepEqual(
      read?.slice(ids.length).map((one) => one?.logprob),
      result.logprobs?.map(({ logprob }) => logprob),
    );
    const without = await engine.generate(prompt, { maxNewTokens: 6 });
    assert.equal("promptLogprobs" in without, false);
    assert.deepEqual(without.ids, result.ids);
  });

  test("needs no new tokens, and no room for any", async () => {
    await using engine = await open(llama, { maxBatchTokens: 32 });
    const full = Array.from({ length: engine.contextTokens }, (_, i) => i % 50);
    const options = { maxNewTokens: 0, promptLogprobs: true };
    const [whole, one] = await engine.generate([full, [3]], options);
    assert.equal(whole?.promptLogprobs?.length, full.length);
    assert.deepEqual([whole?.ids, whole?.finishReason], [[], "length"]);
    assert.deepEqual(whole?.usage, { promptTokens: full.length, newTokens: 0, cachedTokens: 0 });
    assert.deepEqual(one?.promptLogprobs, [null]);
    assert.deepEqual(whole?.promptLogprobs?.[1]?.top, []);
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
    await assert.rejects(engine.generate([...full, 1], options), hasCode("ERR_CONTEXT_LENGTH"));
    await assert.rejects(engine.generate(full, { promptLogprobs: true }), hasCode("ERR_CONTEXT_LENGTH"));
    await assert.rejects(engine.generate([1], { maxNewTokens: 0 }), hasCode("ERR_INVALID_ARGUMENT", /maxNewTokens/));
  });

  test("a call that is cancelled while its prompt is read gives all back", async () => {
    await using engine = await open(llama, { maxBatchTokens: 1 });
    const prompt = Array.from({ length: engine.contextTokens }, (_, i) => i % 50);
    const controller = new AbortController();
    const cancelled = engine.generate(prompt, { maxNewTokens: 0, promptLogprobs: 20, signal: controller.signal });
    const other = engine.generate([1, 2, 3], { maxNewTokens: 1, promptLogprobs: 1 });
    setImmediate(() => controller.abort());
    await assert.rejects(cancelled, hasCode("ERR_ABORTED"));
    assert.equal((await other).promptLogprobs?.length, 3);
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
  });
});
