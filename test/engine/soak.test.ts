import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Engine,
  type GenerationOptions,
  type GenerationResult,
  initInference,
  type Prompt,
} from "../../dist/index.js";
import { demoModel } from "../support/fixtures.js";

// Random requests that mix the features of an engine, some of which leave at random. Whoever stays gets what the same request gets alone from an
// engine without any of what saves time, and in the end all pages are free again.
//   SHARDSPEED_SOAK_REQUESTS=2000 node test/run.mjs engine/soak

const requests = Number(process.env.SHARDSPEED_SOAK_REQUESTS ?? 300);
const atOnce = 24;

/** Uniform numbers from 0 to 1 (mulberry32, Tommy Ettinger 2017). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Request {
  prompt: Prompt;
  options: GenerationOptions;
}

const beginning =
  "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do. ";
const repeating = "the cat sat on the mat, the cat sat on the mat, the cat sat on ";

/** One request of each kind, each with a prompt and a seed of its own. */
function requestsOf(random: () => number): Request[] {
  const prompts = [beginning, beginning.repeat(2), repeating, repeating.repeat(3), `${beginning}${repeating}`, "So"];
  const kinds: GenerationOptions[] = [
    {},
    { temperature: 0.9, topP: 0.95 },
    { temperature: 1.3, repetitionPenalty: 1.2, logprobs: 2 },
    { temperature: 1, n: 3 },
    { numBeams: 3, n: 2 },
    { promptLogprobs: 2, temperature: 0.7 },
    { logitBias: { 20: 4, 21: -100 }, badWords: [" the"], temperature: 0.8 },
    { format: { type: "regex", pattern: "[a-z]{3,9}( [a-z]{2,7})*\\." }, temperature: 1.5 },
    { format: { type: "json_schema", schema: { type: "array", items: { type: "integer" } } }, temperature: 2 },
    { stop: ["e ", "at"], temperature: 0.5 },
    { noSpeculation: true, cacheSalt: "own" },
  ];
  return kinds.flatMap((options) =>
    [0, 1, 2].map(() => {
      const cut = Math.floor(random() * 40);
      const prompt = prompts[Math.floor(random() * prompts.length)] as string;
      return {
        prompt: prompt.slice(0, Math.max(2, prompt.length - cut)),
        options: { maxNewTokens: 4 + Math.floor(random() * 28), seed: Math.floor(random() * 1e6), ...options },
      };
    }),
  );
}

/** All that a result says of the text, and nothing of how it came. */
function said({ text, ids, finishReason, logprobs, promptLogprobs, choices, score }: GenerationResult): object {
  return { text, ids, finishReason, logprobs, promptLogprobs, choices, score };
}

async function soak(engine: Engine, kinds: readonly Request[], expected: readonly object[]): Promise<number> {
  const random = randomOf(7);
  let left = requests;
  let aborted = 0;
  const client = async () => {
    while (left-- > 0) {
      const kind = Math.floor(random() * kinds.length);
      const { prompt, options } = kinds[kind] as Request;
      const controller = new AbortController();
      const leaves = random() < 0.3;
      if (leaves) setTimeout(() => controller.abort(), random() * 40);
      try {
        const result = await engine.generate(prompt, { ...options, signal: controller.signal });
        assert.deepEqual(said(result), expected[kind], JSON.stringify({ prompt, options }));
      } catch (error) {
        if (!controller.signal.aborted || (error as { code?: string }).code !== "ERR_ABORTED") throw error;
        aborted++;
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, client));
  return aborted;
}

test("random requests that mix all features and leave at random", async (t) => {
  const kinds = requestsOf(randomOf(3));
  for (const tpSize of [1, 2]) {
    const shared = { device: "cpu", dtype: "fp32", tpSize } as const;
    const expected: object[] = [];
    {
      await using plain = await initInference(demoModel, { ...shared, prefixCache: false });
      for (const { prompt, options } of kinds) expected.push(said(await plain.generate(prompt, options)));
    }
    // Room for a few sequences: pages are given back, and found pages are lost.
    const speculation = { method: "ngram", adaptive: false } as const;
    await using engine = await initInference(demoModel, {
      ...shared,
      speculation,
      maxBatchTokens: 48,
      kvCacheBytes: 3e6,
    });
    const aborted = await soak(engine, kinds, expected);
    const { kvCache, requests: open, prefixCache, speculation: drafts, preemptions } = engine.stats();
    assert.deepEqual([kvCache.pagesUsed, open], [0, { running: 0, waiting: 0 }]);
    const counts = { aborted, preemptions, prefixHits: prefixCache.hits, acceptedTokens: drafts.acceptedTokens };
    for (const [name, count] of Object.entries(counts)) assert.ok(count > 0, `${name} of tp_size ${tpSize}`);
    t.diagnostic(`tp_size ${tpSize}: ${requests} requests, ${JSON.stringify(counts)}`);
  }
});
