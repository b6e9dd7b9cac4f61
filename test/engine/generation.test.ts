import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { type Engine, type GenerationOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { endless, makePoisonedModel } from "../support/requests.js";

describe("generation", () => {
  let engine: Engine;
  before(async () => {
    engine = await initInference(demoModel, { threads: 2 });
  });
  after(() => engine.dispose());

  test("a stream's chunks join to what generate returns", async () => {
    const options = { maxNewTokens: 40 };
    const result = await engine.generate("The whale", options);
    let text = "";
    const ids: number[] = [];
    let finishReason: string | undefined;
    for await (const chunk of engine.stream("The whale", options)) {
      assert.equal(finishReason, undefined, "nothing comes after the last chunk");
      text += chunk.text;
      ids.push(...chunk.ids);
      finishReason = chunk.finishReason;
      assert.deepEqual(chunk.usage, finishReason && result.usage, "on the last chunk");
    }
    assert.equal(text, result.text);
    assert.deepEqual(ids, result.ids);
    assert.equal(finishReason, result.finishReason);
    assert.deepEqual(result.usage, { promptTokens: 2, newTokens: result.ids.length, cachedTokens: 0 });
    assert.ok(result.timings.firstTokenMs > 0 && result.timings.totalMs >= result.timings.firstTokenMs);
  });

  test("the same seed gives the same tokens, another seed others", async () => {
    const sample = async (seed: number | bigint) =>
      (await engine.generate("Call me", { maxNewTokens: 30, temperature: 1, seed })).ids.join();
    const first = await sample(7);
    assert.equal(await sample(7), first);
    assert.notEqual(await sample(8), first);
    assert.notEqual(await sample(7n + (1n << 40n)), first, "the high half of the seed counts");
  });

  test("topK 1 and a tiny topP are greedy, whatever the temperature", async () => {
    const greedy = (await engine.generate("Call me", { maxNewTokens: 20 })).ids;
    for (const options of [{ topK: 1 }, { topP: 1e-9 }, { minP: 1 }]) {
      const { ids } = await engine.generate("Call me", { maxNewTokens: 20, temperature: 1.5, seed: 3, ...options });
      assert.deepEqual(ids, greedy, JSON.stringify(options));
    }
  });

  test("filters keep samples within the likeliest tokens", async () => {
    const { logprobs } = await engine.generate("It was", {
      maxNewTokens: 60,
      temperature: 1.3,
      topK: 5,
      seed: 1,
      logprobs: 5,
    });
    for (const { id, top } of logprobs ?? assert.fail("logprobs are there"))
      assert.ok(top.some((one) => one.id === id));
  });

  test("log-probabilities are those of the model's distribution", async () => {
    const prompt = engine.tokenizer?.encode("The sea") as number[];
    const { ids, logprobs } = await engine.generate(prompt, {
      maxNewTokens: 6,
      temperature: 0.7,
      seed: 4,
      logprobs: 3,
    });
    const { logits } = await engine.forward({ inputIds: [[...prompt, ...ids]] });
    const vocab = logits.dims[2];
    for (const [i, entry] of (logprobs ?? []).entries()) {
      const row = logits.data.subarray((prompt.length - 1 + i) * vocab, (prompt.length + i) * vocab);
      const logSum = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
      assert.ok(Math.abs(entry.logprob - ((row[ids[i] as number] as number) - logSum)) < 1e-4);
      const best = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, 3);
      assert.deepEqual(
        entry.top.map(({ id }) => id),
        best,
      );
    }
    assert.equal(logprobs?.length, 6);
    assert.equal((await engine.generate(prompt, { maxNewTokens: 1 })).logprobs, undefined);
  });

  test("penalties change repetitive text", async () => {
    const distinct = async (options: GenerationOptions) =>
      new Set((await engine.generate("I am", { maxNewTokens: 80, ...options })).ids).size;
    const plain = await distinct({});
    assert.ok((await distinct({ repetitionPenalty: 1.5 })) > plain);
    assert.ok((await distinct({ presencePenalty: 2 })) > plain);
    assert.ok((await distinct({ frequencyPenalty: 2 })) > plain);
  });

  test("stop strings end the text before them", async () => {
    const whole = await engine.generate("The whale", { maxNewTokens: 60 });
    const stop = whole.text.slice(20, 27);
    const cut = await engine.generate("The whale", { maxNewTokens: 60, stop: ["never there", stop] });
    assert.equal(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
    assert.equal(cut.finishReason, "stop");
    assert.equal(cut.stopReason, stop);
    assert.equal(whole.stopReason, undefined);
    assert.ok(cut.ids.length < whole.ids.length);
  });

  test("stop tokens end the sequence, not before minNewTokens", async () => {
    const greedy = (await engine.generate("The whale", { maxNewTokens: 30, ignoreEos: true })).ids;
    const stopToken = greedy[4] as number;
    const stopped = await engine.generate("The whale", { maxNewTokens: 30, stopTokenIds: [stopToken] });
    assert.equal(stopped.finishReason, "stop");
    assert.equal(stopped.stopReason, stopToken);
    let last: { stopReason?: string | number } = {};
    for await (const chunk of engine.stream("The whale", { maxNewTokens: 30, stopTokenIds: [stopToken] })) last = chunk;
    assert.equal(last.stopReason, stopToken);
    assert.deepEqual(stopped.ids, greedy.slice(0, greedy.indexOf(stopToken) + 1));
    const later = await engine.generate("The whale", { maxNewTokens: 30, minNewTokens: 12, stopTokenIds: [stopToken] });
    assert.ok(later.ids.length >= 12 && !later.ids.slice(0, 12).includes(stopToken));
    const stopTokenIds = Array.from({ length: engine.module.info.vocabSize }, (_, id) => id);
    for (const sampling of [{}, { temperature: 1, seed: 1 }]) {
      const all = await engine.generate("The whale", { maxNewTokens: 30, minNewTokens: 7, stopTokenIds, ...sampling });
      assert.equal(all.ids.length, 7, "every token is a stop token");
      assert.equal(all.finishReason, "stop");
    }
  });

  test("log-probabilities carry the text and bytes of their tokens", async () => {
    const { ids, text, logprobs } = await engine.generate("The whale", {
      maxNewTokens: 12,
      logprobs: 2,
      ignoreEos: true,
    });
    const tokenizer = engine.tokenizer ?? assert.fail("the demo model has a tokenizer");
    assert.equal(logprobs?.map(({ token }) => token).join(""), text);
    for (const [i, { id, bytes, top }] of (logprobs ?? []).entries()) {
      assert.equal(id, ids[i]);
      assert.deepEqual(bytes, [...(tokenizer.tokenBytes(id) ?? [])]);
      assert.deepEqual(top[0]?.token, tokenizer.decode([top[0]?.id as number]));
    }
  });

  test("a rate is stated where tokens came after the first", async () => {
    const one = await engine.generate("The whale", { maxNewTokens: 1 });
    assert.ok(!("tokensPerSecond" in one.timings));
    const more = await engine.generate("The whale", { maxNewTokens: 40, ignoreEos: true });
    assert.ok((more.timings.tokensPerSecond as number) > 0);
  });

  test("prompts of all kinds in one array", async () => {
    const prompts = ["The whale", [5, 6], Int32Array.of(7, 8)] as const;
    const together = await engine.generate(prompts, { maxNewTokens: 3, ignoreEos: true });
    assert.equal(together.length, 3);
    for (const [i, prompt] of prompts.entries()) {
      assert.deepEqual((await engine.generate(prompt, { maxNewTokens: 3, ignoreEos: true })).ids, together[i]?.ids);
    }
    const either = prompts[0] as string | string[];
    const result = await engine.generate(either, { maxNewTokens: 1 });
    assert.ok(!Array.isArray(result));
  });

  test("an engine prints in a line", () => {
    assert.equal(inspect(engine), "Engine { opt, float16, cpu, up to 512 tokens }");
  });

  test("an array of prompts gives the results in its order", async () => {
    const prompts = ["The whale", "Call me", "Elizabeth could not help"];
    const alone = [];
    for (const prompt of prompts) alone.push((await engine.generate(prompt, { maxNewTokens: 12 })).text);
    const together = await engine.generate(prompts, { maxNewTokens: 12 });
    assert.deepEqual(
      together.map(({ text }) => text),
      alone,
    );
    const ids = prompts.map((prompt) => engine.tokenizer?.encode(prompt) as number[]);
    assert.deepEqual(
      (await engine.generate(ids, { maxNewTokens: 12 })).map(({ text }) => text),
      alone,
    );
  });

  test("forward() treats padding on either side as if it were not there", async () => {
    const short = [5, 6, 7];
    const long = [9, 10, 11, 12, 13];
    const vocab = engine.module.info.vocabSize;
    const alone = (await engine.forward({ inputIds: [short] })).logits.data;
    const { logits } = await engine.forward({
      inputIds: [[1, 1, ...short], [...short, 1, 1], long],
      attentionMask: [
        [0, 0, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
      ],
    });
    assert.deepEqual(logits.dims, [3, 5, vocab]);
    const row = (batch: number, position: number, count: number) =>
      logits.data.subarray((batch * 5 + position) * vocab, (batch * 5 + position + count) * vocab);
    assert.deepEqual(row(0, 2, 3), alone);
    assert.deepEqual(row(1, 0, 3), alone);
    assert.ok(row(0, 0, 2).every((logit) => logit === 0));
  });

  test("leaving a stream frees its sequence", async () => {
    for await (const chunk of engine.stream("The", { maxNewTokens: 400, ignoreEos: true })) {
      if (chunk.ids.length > 0) break;
    }
    await engine.generate("The", { maxNewTokens: 1 });
    const { requests, kvCache } = engine.stats();
    assert.deepEqual(requests, { running: 0, waiting: 0 });
    assert.equal(kvCache.pagesUsed, 0);
  });

  test("a signal ends a generation with ERR_ABORTED and its reason", async () => {
    const controller = new AbortController();
    const reason = new Error("no longer wanted");
    const { signal } = controller;
    const running = endless(() => engine.generate("The", { maxNewTokens: 400, ignoreEos: true, signal }));
    setTimeout(() => controller.abort(reason), 20);
    await assert.rejects(running, (error: Error) => hasCode("ERR_ABORTED")(error) && error.cause === reason);
    await assert.rejects(engine.generate("The", { signal: AbortSignal.abort() }), hasCode("ERR_ABORTED"));
    await assert.rejects(engine.generate("The", { signal: AbortSignal.abort() }), { name: "AbortError" });
  });

  test("bad requests are refused before any work", async () => {
    // What the tests before this one cancelled may still be in a step.
    while (engine.stats().requests.running > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const stepsBefore = engine.stats().steps;
    const cases: [unknown, unknown, string, RegExp][] = [
      [[], {}, "ERR_INVALID_ARGUMENT", /at least one token/],
      [[4096], {}, "ERR_INVALID_ARGUMENT", /prompt\[0\] to be a token id from 0 to 4095, found 4096/],
      [[-1], {}, "ERR_INVALID_ARGUMENT", /prompt\[0\]/],
      [[1.5], {}, "ERR_INVALID_ARGUMENT", /prompt\[0\]/],
      [undefined, {}, "ERR_INVALID_ARGUMENT", /prompt/],
      [7, {}, "ERR_INVALID_ARGUMENT", /prompt/],
      ["a", { maxTokens: 3 }, "ERR_INVALID_ARGUMENT", /maxNewTokens/],
      ["a", { temperature: -1 }, "ERR_INVALID_ARGUMENT", /temperature/],
      ["a", { maxNewTokens: 512 }, "ERR_CONTEXT_LENGTH", /512/],
      [new Array(512).fill(5), {}, "ERR_CONTEXT_LENGTH", /512/],
    ];
    for (const [prompt, options, code, message] of cases) {
      await assert.rejects(engine.generate(prompt as string, options as GenerationOptions), hasCode(code, message));
      await assert.rejects(
        engine.stream(prompt as string, options as GenerationOptions).next(),
        hasCode(code, message),
      );
    }
    await assert.rejects(engine.generate(["a", [-1]]), hasCode("ERR_INVALID_ARGUMENT", /prompt\[1\]\[0\]/));
    await assert.rejects(engine.forward({ inputIds: [[1, 2], [3]] }), hasCode("ERR_INVALID_ARGUMENT", /inputIds\[1\]/));
    await assert.rejects(
      engine.forward({ inputIds: [[1]], attentionMask: [[0]] }),
      hasCode("ERR_INVALID_ARGUMENT", /attentionMask\[0\]/),
    );
    assert.equal(engine.stats().steps, stepsBefore);
  });

  test("a prompt may fill the context but for one token, and generation ends there", async () => {
    const { ids, finishReason } = await engine.generate(new Array(511).fill(5), { ignoreEos: true });
    assert.equal(ids.length, 1);
    assert.equal(finishReason, "length");
    const open = await engine.generate(new Array(500).fill(5), { ignoreEos: true });
    assert.equal(open.ids.length, 12, "the context bounds the default");
  });
});

test("a topP too small for fp32 is greedy, and typed arrays are prompts", async () => {
  await using engine = await initInference(demoModel);
  const prompt = engine.tokenizer?.encode("Call me") as number[];
  const { ids } = await engine.generate(prompt, { maxNewTokens: 8 });
  const tiny = await engine.generate(Int32Array.from(prompt), { maxNewTokens: 8, temperature: 1, topP: 1e-300 });
  assert.deepEqual(tiny.ids, ids);
});

test("text that cannot fit is refused before it is encoded", async () => {
  await using engine = await initInference(demoModel);
  await assert.rejects(engine.generate("a ".repeat(5_000_000)), hasCode("ERR_CONTEXT_LENGTH", /10000000 characters/));
});

test("NaN in the weights fails the request that meets it, and the engine goes on", async (t) => {
  const { folder, remove } = makePoisonedModel();
  t.after(remove);
  await using engine = await initInference(folder);
  for (const options of [{}, { temperature: 1, topP: 0.9, logprobs: 3 }]) {
    await assert.rejects(engine.generate([5, 6], options), hasCode("ERR_NUMERIC", /infinity or NaN/));
  }
  for (const inputIds of [
    [[5, 6]],
    [
      [5, 6],
      [7, 8],
    ],
  ]) {
    await assert.rejects(
      engine.forward({ inputIds }),
      hasCode("ERR_NUMERIC", /infinity or NaN as a logit behind 1 tokens/),
    );
  }
  assert.equal(engine.stats().kvCache.pagesUsed, 0);
  assert.equal(engine.disposed, false);
});

test("one signal serves many calls without a warning", async () => {
  await using engine = await initInference(fixture("golden", "opt"));
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  process.on("warning", listen);
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 30 }, () => engine.generate([5], { maxNewTokens: 3, signal })));
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", listen);
  assert.deepEqual(warnings, []);
});

test("a model without a tokenizer runs on ids", async () => {
  await using engine = await initInference(fixture("golden", "opt"));
  assert.equal(engine.tokenizer, undefined);
  const { text, ids } = await engine.generate([5, 6, 7], { maxNewTokens: 4, ignoreEos: true });
  assert.equal(text, "");
  assert.equal(ids.length, 4);
  await assert.rejects(engine.generate("text"), hasCode("ERR_TOKENIZER", /golden\/opt has none of tokenizer\.json/));
  await assert.rejects(engine.generate([5], { stop: "x" }), hasCode("ERR_TOKENIZER"));
});

test("an empty text begins with the model's first token", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-begin-"));
  t.after(() => rm(folder, { recursive: true }));
  await cp(demoModel, folder, { recursive: true });
  const file = path.join(folder, "tokenizer.json");
  const { post_processor: _, ...tokenizer } = JSON.parse(await readFile(file, "utf8"));
  await writeFile(file, JSON.stringify(tokenizer));
  const options = { maxNewTokens: 5, ignoreEos: true };
  await using engine = await initInference(folder);
  assert.deepEqual(engine.tokenizer?.encode(""), []);
  const { bos_token_id: first } = JSON.parse(await readFile(path.join(folder, "config.json"), "utf8"));
  const { ids, usage } = await engine.generate("", options);
  assert.deepEqual(ids, (await engine.generate([first], options)).ids);
  assert.equal(usage.promptTokens, 1);
  await assert.rejects(engine.generate([[]], options), hasCode("ERR_INVALID_ARGUMENT", /at least one token/));
});

test("long texts that come at once give way to each other and to other work", async () => {
  await using engine = await initInference(demoModel);
  const text = "The whale, the whale! ".repeat(2_000);
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const refused = Array.from({ length: 4 }, () => assert.rejects(engine.generate(text), hasCode("ERR_CONTEXT_LENGTH")));
  await Promise.all(refused);
  counting = false;
  // Each of them takes some ten slices of two milliseconds; without slices there would be one turn.
  assert.ok(turns >= 8, `${turns} turns of the event loop`);
});

test("dtype and tpSize are options of initInference too, which do not contradict the config", async () => {
  const options = { dtype: "fp32", tpSize: 2, device: "cpu" };
  await using engine = await initInference(demoModel, options);
  assert.equal(engine.module.dtype, "float32");
  assert.deepEqual(engine.module.devices, ["cpu", "cpu"]);
  await using same = await initInference(demoModel, { ...options, config: { tensor_parallel: { tp_size: 2 } } });
  assert.equal(same.module.devices.length, 2);
  const config = { tensor_parallel: { tp_size: 1 } };
  await assert.rejects(
    initInference(demoModel, { ...options, config }),
    hasCode("ERR_CONFIG", /tpSize 2 in the options/),
  );
});
