import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Engine, type GenerationOptions, type InitOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { continueAll, conversationsOf } from "../support/requests.js";

// The prefix cache must be invisible: tokens and log-probabilities are those of a run without, whatever is in it.

const llama = fixture("golden", "llama");
const opt = fixture("golden", "opt");

/** A cache of so many pages: the demo models' pages are all of the same size. */
async function openTight(model: string, pages: number, options: InitOptions): Promise<Engine> {
  await using roomy = await initInference(model, { device: "cpu", ...options });
  const { memory, kvCache } = roomy.stats();
  const bytes = memory.reduce((sum, { kvCacheBytes }) => sum + kvCacheBytes, 0) / kvCache.pagesTotal;
  return initInference(model, { device: "cpu", kvCacheBytes: pages * bytes, ...options });
}

/** What somebody asks: the beginning of a text that others ask about too, and more. */
interface Asked {
  text: number;
  alike: number;
  own: number[];
  newTokens: number;
  salt: string;
  sampled: boolean;
  /** After how many chunks its reader leaves; 0: it stays. */
  leaves: number;
}

const asked = fc.record({
  text: fc.integer({ min: 0, max: 1 }),
  alike: fc.integer({ min: 0, max: 40 }),
  own: fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 12 }),
  newTokens: fc.integer({ min: 1, max: 20 }),
  salt: fc.constantFrom("", "", "", "a"),
  sampled: fc.boolean(),
  leaves: fc.constantFrom(0, 0, 0, 1, 3),
});

function promptOf({ text, alike, own }: Asked): number[] {
  return [...Array.from({ length: alike }, (_, i) => (i * 11 + text * 5 + 3) % 61), ...own];
}

async function ask(engine: Engine, one: Asked, seed: number, forSalt = true) {
  const options: GenerationOptions = {
    ...{ maxNewTokens: one.newTokens, ignoreEos: true, logprobs: 1, seed },
    ...(one.sampled ? { temperature: 0.9, topP: 0.95 } : {}),
    ...(forSalt ? { cacheSalt: one.salt } : {}),
  };
  const said: unknown[] = [];
  let chunks = 0;
  for await (const { ids, logprobs } of engine.stream(promptOf(one), options)) {
    for (const [i, id] of ids.entries()) said.push([id, logprobs?.[i]?.logprob, logprobs?.[i]?.top]);
    if (++chunks === one.leaves) break;
  }
  return said;
}

describe("a warm cache", () => {
  const variants: [string, string, InitOptions][] = [
    ["llama", llama, {}],
    ["opt in small steps", opt, { maxBatchTokens: 9 }],
    ["llama on two ranks", llama, { tpSize: 2 }],
    ["llama with drafts", llama, { speculation: { method: "ngram", draftTokens: 6, minMatch: 1, maxMatch: 3 } }],
  ];
  for (const [name, model, options] of variants) {
    test(`gives the tokens and log-probabilities of a cold one: ${name}`, async () => {
      await using plain = await initInference(model, { device: "cpu", ...options, prefixCache: false });
      await using caching = await openTight(model, 9, options);
      let preemptions = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(asked, { minLength: 2, maxLength: 10 }), async (all) => {
          const found = await Promise.all(all.map((one, i) => ask(caching, one, i)));
          for (const [i, one] of all.entries()) {
            const expected = await ask(plain, { ...one, leaves: 0 }, i);
            // Who leaves has the beginning.
            assert.deepEqual(found[i], one.leaves === 0 ? expected : expected.slice(0, found[i]?.length));
          }
          // What was cancelled leaves at the next step.
          while (caching.stats().requests.running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
          assert.equal(caching.stats().kvCache.pagesUsed, 0);
          preemptions = caching.stats().preemptions;
        }),
        { numRuns: 25, seed: 7 },
      );
      assert.ok(caching.stats().prefixCache.hits > 500);
      assert.ok(preemptions > 0);
      assert.deepEqual(plain.stats().prefixCache, { queries: 0, hits: 0, pages: 0 });
    });
  }

  test("serves the turns of conversations", async () => {
    await using plain = await initInference(demoModel, { prefixCache: false });
    await using caching = await initInference(demoModel);
    const conversations = conversationsOf(1000);
    assert.deepEqual(await continueAll(caching, conversations), await continueAll(plain, conversations));
  });
});

describe("what is found", () => {
  const prompt = Array.from({ length: 40 }, (_, i) => i % 23);

  test("is told by results, chunks and counters", async () => {
    await using engine = await initInference(llama);
    assert.deepEqual(engine.stats().prefixCache, { queries: 0, hits: 0, pages: 0 });
    const first = await engine.generate(prompt, { maxNewTokens: 10, ignoreEos: true });
    assert.deepEqual(first.usage, { promptTokens: 40, newTokens: 10, cachedTokens: 0 });
    assert.deepEqual(engine.stats().prefixCache, { queries: 40, hits: 0, pages: 3 });
    const longer = [...prompt, ...first.ids];
    const second = await engine.generate(longer, { maxNewTokens: 2, ignoreEos: true });
    assert.deepEqual(second.usage, { promptTokens: 50, newTokens: 2, cachedTokens: 48 });
    assert.deepEqual(engine.stats().prefixCache, { queries: 90, hits: 48, pages: 3 });
    const chunks = [];
    for await (const chunk of engine.stream(longer, { maxNewTokens: 3, ignoreEos: true })) chunks.push(chunk);
    assert.equal(chunks[0]?.cachedTokens, 48);
    assert.equal(chunks.filter(({ cachedTokens }) => cachedTokens !== undefined).length, 1);
    assert.deepEqual(chunks.at(-1)?.usage, { promptTokens: 50, newTokens: 3, cachedTokens: 48 });
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
  });

  test("is never all of a prompt: its last token is computed", async () => {
    await using engine = await initInference(llama);
    await engine.generate(prompt, { maxNewTokens: 1 });
    for (const [length, cached] of [
      [32, 16],
      [33, 32],
      [16, 0],
      [17, 16],
    ] as const) {
      const { usage } = await engine.generate(prompt.slice(0, length), { maxNewTokens: 1 });
      assert.equal(usage.cachedTokens, cached, `${length} tokens`);
    }
  });

  test("is what requests of the same salt have computed", async () => {
    await using engine = await initInference(llama);
    const cached = async (cacheSalt?: string) => {
      const { usage } = await engine.generate(prompt, {
        maxNewTokens: 1,
        ...(cacheSalt === undefined ? {} : { cacheSalt }),
      });
      return usage.cachedTokens;
    };
    assert.deepEqual([await cached(), await cached("a"), await cached("b"), await cached("é")], [0, 0, 0, 0]);
    assert.deepEqual([await cached(""), await cached("a"), await cached("b"), await cached("é")], [32, 32, 32, 32]);
  });

  test("is nothing where the cache is switched off", async () => {
    await using engine = await initInference(llama, { prefixCache: false });
    for (let i = 0; i < 2; i++) {
      const { usage } = await engine.generate(prompt, { maxNewTokens: 1 });
      assert.equal(usage.cachedTokens, 0);
    }
  });

  test("is not read for outputs", async () => {
    await using engine = await initInference(llama);
    const before = await engine.forward({ inputIds: [prompt] });
    await engine.generate(prompt, { maxNewTokens: 1 });
    const { queries } = engine.stats().prefixCache;
    assert.deepEqual(await engine.forward({ inputIds: [prompt] }), before);
    assert.equal(engine.stats().prefixCache.queries, queries);
  });

  test("needs a salt that is one", async () => {
    await using engine = await initInference(llama);
    for (const cacheSalt of [5, null, "\ud800", "a".repeat(1025)] as unknown as string[])
      await assert.rejects(engine.generate(prompt, { cacheSalt }), hasCode("ERR_INVALID_ARGUMENT"));
    for (const prefixCache of ["no", 0, null] as unknown as boolean[])
      await assert.rejects(initInference(llama, { prefixCache }), hasCode("ERR_INVALID_ARGUMENT"));
  });
});
