import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type InitOptions, initInference } from "../../dist/index.js";
import { pageTokens } from "../../dist/native/limits.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { endless, generateMixed, mixedPrompts } from "../support/requests.js";

// Continuous batching must be invisible: what a sequence gives alone is what it gives in any company.

const models = [fixture("golden", "opt"), fixture("golden", "gpt2"), fixture("golden", "llama"), demoModel];

describe("same tokens and logits whatever the company, chunking and threads", () => {
  for (const model of models) {
    test(model.split("/").slice(-1)[0] as string, async () => {
      const variants: InitOptions[] = [
        { threads: 1 },
        { threads: 2 },
        { threads: 3, maxBatchTokens: 7 },
        { threads: 2, maxBatchTokens: 16 },
      ];
      let expected: Awaited<ReturnType<typeof generateMixed>> | undefined;
      let expectedLogits: Float32Array | undefined;
      for (const options of variants) {
        await using engine = await initInference(model, options);
        const inputIds = [mixedPrompts(engine.module.info.vocabSize)[7] as number[]];
        const { logits } = await engine.forward({ inputIds });
        expectedLogits ??= logits.data;
        assert.deepEqual(logits.data, expectedLogits, `logits with ${JSON.stringify(options)}`);
        for (const together of [false, true]) {
          const found = await generateMixed(engine, together);
          expected ??= found;
          assert.deepEqual(found, expected, `${JSON.stringify(options)}, ${together ? "together" : "alone"}`);
        }
      }
    });
  }

  test("with a KV cache that holds one or two of them", async () => {
    await using roomy = await initInference(fixture("golden", "llama"));
    const expected = await generateMixed(roomy, false);
    const { pagesTotal } = roomy.stats().kvCache;
    const pageBytes = (roomy.stats().memory[0]?.kvCacheBytes as number) / pagesTotal;
    await using tight = await initInference(fixture("golden", "llama"), {
      kvCacheBytes: 5 * pageBytes,
      maxBatchTokens: 24,
    });
    assert.equal(tight.stats().kvCache.pagesTotal, 5);
    assert.equal(tight.contextTokens, 5 * pageTokens);
    assert.deepEqual(await generateMixed(tight, true), expected);
    assert.ok(tight.stats().preemptions > 0, "pages ran out on the way");
    assert.equal(tight.stats().kvCache.pagesUsed, 0);
    await assert.rejects(tight.generate(new Array(5 * pageTokens).fill(3)), hasCode("ERR_CONTEXT_LENGTH"));
  });
});

test("hundreds of requests at once are all answered, in order of their coming where there is no room", async () => {
  await using engine = await initInference(fixture("golden", "opt"), { maxBatchTokens: 64 });
  const finished: number[] = [];
  await Promise.all(
    Array.from({ length: 300 }, async (_, n) => {
      const { ids } = await engine.generate([3 + (n % 200)], { maxNewTokens: 1 + (n % 9), ignoreEos: true });
      assert.equal(ids.length, 1 + (n % 9));
      finished.push(n);
    }),
  );
  assert.equal(finished.length, 300);
  assert.ok(finished.indexOf(0) < finished.indexOf(297), "first come, first served");
  assert.equal(
    engine.stats().tokens.generated,
    Array.from({ length: 300 }, (_, n) => 1 + (n % 9)).reduce((a, b) => a + b),
  );
});

test("cancelled and aborted sequences leave the others as they are", async () => {
  await using engine = await initInference(demoModel);
  const expected = (await engine.generate("The sea", { maxNewTokens: 40 })).ids;
  const controller = new AbortController();
  const { signal } = controller;
  const noise = Array.from({ length: 6 }, (_, n) =>
    endless(() => engine.generate(`Call me ${n}`, { maxNewTokens: 300, ignoreEos: true, signal })).catch(
      (error) => error.code,
    ),
  );
  const kept = engine.generate("The sea", { maxNewTokens: 40 });
  setTimeout(() => controller.abort(), 30);
  assert.deepEqual((await kept).ids, expected);
  for (const code of await Promise.all(noise)) assert.equal(code, "ERR_ABORTED");
});

test("the JavaScript thread goes round its loop while the engine is inside a step", async () => {
  // How quickly it goes round is for the bench to say: other work on the machine would make a limit here fail at random.
  await using engine = await initInference(demoModel, { threads: 1, maxBatchTokens: 64, prefixCache: false });
  const prompt = new Array(511).fill(5);
  // The statistics count steps that have ended. Where two turns of the loop find the same number while the sequence runs,
  // the loop went round inside a step. A busy machine may let none do so in a prompt: then another one is computed.
  let turnsInside = 0;
  for (let prompts = 0; prompts < 1000 && turnsInside < 10; prompts++) {
    let seen = -1;
    let isDone = false;
    const turn = () => {
      if (isDone) return;
      const { steps, requests } = engine.stats();
      if (requests.running === 1 && steps === seen) turnsInside++;
      seen = requests.running === 1 ? steps : -1;
      setImmediate(turn);
    };
    setImmediate(turn);
    await engine.generate(prompt, { maxNewTokens: 1 });
    isDone = true;
  }
  assert.ok(turnsInside >= 10, `the loop went round ${turnsInside} times inside of steps`);
});
