import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Engine, type InitOptions, initInference } from "../../dist/index.js";
import { pageTokens } from "../../dist/native/limits.js";
import { loadNative } from "../../dist/native/load.js";
import { run } from "../cli/command.js";
import { device, runWithEmulator, useEmulator } from "../support/emulator.js";
import { recordingLogger } from "../support/fake_binding.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { compareDemoModel, compareWithGolden, cudaTolerance, cudaVariants, readGolden } from "../support/golden.js";
import { coverGoldens } from "../support/golden_cover.js";
import {
  continueAll,
  conversationsOf,
  generateMixed,
  makePoisonedModel,
  mixedPrompts,
  repeatingPrompts,
  scorePrompts,
} from "../support/requests.js";
import { compareSamples } from "../support/samples.js";

// The CUDA backend, kernels and host code, compiled against an emulator of the CUDA runtime and run through the whole package:
// what the CPU engine must do, it must do. No time is measured here; what an emulator needs says nothing of a GPU.

const halfAnHour = 1_800_000;
before(useEmulator, { timeout: halfAnHour });

const opt = fixture("golden", "opt");
const llama = fixture("golden", "llama");

function open(model: string, options: InitOptions = {}): Promise<Engine> {
  return initInference(model, { device, threads: 1, ...options });
}

// Activations and the KV cache are rounded to the dtype: a tenth of the digits of fp16 are left with bf16.
const fp16 = { device, dtype: "fp16", relative: 3e-3 };
const bf16 = { device, dtype: "bf16", relative: 1e-2 };

describe("goldens in fp16", () => {
  for (const name of coverGoldens(cudaVariants))
    test(name, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), { ...fp16, relative: cudaTolerance(name) }),
    );
});

describe("goldens stored as bf16", () => {
  for (const name of cudaVariants.filter((one) => readGolden(one).weightsDtype === "bfloat16"))
    test(name, () => compareWithGolden(fixture("golden", name), fixture("golden", name), bf16));
});

// Other forms are read by the same code for all backends.
test("a checkpoint in another form", () => compareWithGolden(fixture("forms", "opt_bin_views"), opt, fp16));

test("the demo model writes the golden texts", () => compareDemoModel(device, "fp16", 2e-2));

describe("devices and element types", () => {
  test("the emulator is a device of its own name, and neither auto nor cuda", async () => {
    const logger = recordingLogger();
    await using engine = await initInference(opt, { logger });
    assert.deepEqual(engine.module.devices, ["cpu"]);
    assert.match(logger.lines[0] as string, /^info: Device auto: .*emulator/);
    for (const name of ["cuda", "cuda:0"])
      await assert.rejects(initInference(opt, { device: name }), hasCode("ERR_CUDA", /emulator/));
    await using emulated = await open(opt);
    assert.deepEqual(emulated.module.devices, [device]);
    assert.equal(emulated.stats().memory[0]?.device, device);
  });

  test("what is stored as fp32 is computed in fp16, with a line; fp32 by the config is refused", async () => {
    const logger = recordingLogger();
    await using engine = await open(fixture("golden", "llama_fp32"), { logger });
    assert.equal(engine.module.dtype, "float16");
    assert.equal(logger.lines.filter((line) => /^warn: .*float16 is used/.test(line)).length, 1);
    await assert.rejects(open(opt, { config: { dtype: "fp32" } }), hasCode("ERR_CONFIG", /float16 or bfloat16/));
    await using stored = await open(fixture("golden", "llama_bf16"));
    assert.equal(stored.module.dtype, "bfloat16");
  });

  test("from the command line", async () => {
    const golden = readGolden("opt").prompts[1];
    const ids = ["--prompt-ids", golden?.ids.join(",") as string, "-n", "6", "--ignore-eos"];
    const { status, stdout, stderr } = await run(["generate", opt, ...ids, "--device", device]);
    assert.equal(status, 0, stderr);
    assert.equal(stdout, `${golden?.greedy.slice(0, 6).join(" ")}\n`);
    const { cuda } = JSON.parse((await run(["doctor", "--json"])).stdout);
    assert.deepEqual([cuda.built, cuda.emulated, cuda.usable, cuda.devices.length], [true, true, false, 1]);
    assert.match((await run(["doctor"])).stdout, /^CUDA +no: .*emulator/m);
  });
});

describe("same tokens and logits whatever the company and chunking", () => {
  for (const name of ["opt", "gpt2", "llama", "llama_mqa", "llama_dynamic", "mixtral"]) {
    test(name, async () => {
      let expected: Awaited<ReturnType<typeof generateMixed>> | undefined;
      let expectedLogits: Float32Array | undefined;
      // Dynamic frequencies have every token computed again at every step: small chunks of that take long.
      const chunks = name === "llama_dynamic" ? [512] : [512, 7, 16];
      for (const options of chunks.map((maxBatchTokens) => ({ maxBatchTokens }))) {
        await using engine = await open(fixture("golden", name), options);
        const inputIds = [mixedPrompts(engine.module.info.vocabSize)[7] as number[]];
        const { logits } = await engine.forward({ inputIds });
        expectedLogits ??= logits.data;
        assert.deepEqual(logits.data, expectedLogits, `logits with ${JSON.stringify(options)}`);
        // Alone once: what is the same in company under every chunking needs no second comparison.
        for (const together of expected ? [true] : [false, true]) {
          const found = await generateMixed(engine, together);
          expected ??= found;
          assert.deepEqual(found, expected, `${JSON.stringify(options)}, ${together ? "together" : "alone"}`);
        }
      }
    });
  }

  test("log-probabilities of prompts", async () => {
    let expected: Awaited<ReturnType<typeof scorePrompts>> | undefined;
    for (const maxBatchTokens of [512, 7]) {
      await using engine = await open(llama, { maxBatchTokens });
      for (const together of expected ? [true] : [false, true]) {
        const found = await scorePrompts(engine, together);
        expected ??= found;
        assert.deepEqual(found, expected, `${maxBatchTokens}, ${together ? "together" : "alone"}`);
      }
    }
  });

  test("with a KV cache that holds one or two of them", async () => {
    await using roomy = await open(llama);
    const expected = await generateMixed(roomy, false);
    const { memory, kvCache } = roomy.stats();
    const pageBytes = (memory[0]?.kvCacheBytes as number) / kvCache.pagesTotal;
    await using tight = await open(llama, { kvCacheBytes: 5 * pageBytes, maxBatchTokens: 24 });
    assert.equal(tight.stats().kvCache.pagesTotal, 5);
    assert.equal(tight.contextTokens, 5 * pageTokens);
    assert.deepEqual(await generateMixed(tight, true), expected);
    assert.ok(tight.stats().preemptions > 0, "pages ran out on the way");
    assert.equal(tight.stats().kvCache.pagesUsed, 0);
  });

  test("with steps that are captured and replayed, and without", async (t) => {
    t.after(() => delete process.env.SHARDSPEED_CUDA_GRAPHS);
    await using replaying = await open(llama);
    const expected = await generateMixed(replaying, true);
    process.env.SHARDSPEED_CUDA_GRAPHS = "0";
    await using plain = await open(llama);
    assert.deepEqual(await generateMixed(plain, true), expected);
  });

  test("with steps that are enqueued before the tokens of those ahead are known, and without", async (t) => {
    t.after(() => delete process.env.SHARDSPEED_CUDA_AHEAD);
    await using ahead = await open(llama);
    const expected = await generateMixed(ahead, true);
    process.env.SHARDSPEED_CUDA_AHEAD = "0";
    await using waiting = await open(llama);
    assert.deepEqual(await generateMixed(waiting, true), expected);
    assert.deepEqual(waiting.stats().kvCache.pagesUsed, 0);
  });

  test("samples and beams of a prompt, whose pages are copied on the device", async () => {
    for (const model of [opt, llama]) {
      await using engine = await open(model);
      await compareSamples(engine, [1, 16, 21]);
      const search = async (one: Engine) =>
        (await one.generate([5, 9, 4, 33, 2], { numBeams: 3, n: 3, maxNewTokens: 14, logprobs: 0 })).choices;
      const found = await search(engine);
      // In steps of which none has all beams.
      await using narrow = await open(model, { maxBatchTokens: 2 });
      assert.deepEqual(await search(narrow), found);
      assert.equal(narrow.stats().kvCache.pagesUsed, 0);
    }
  });

  test("with drafts, which are computed as generated tokens are", async () => {
    for (const model of [opt, llama]) {
      const say = async (engine: Engine) => {
        const prompts = repeatingPrompts(engine.module.info.vocabSize);
        const repeating = await engine.generate(prompts, { maxNewTokens: 30, ignoreEos: true, logprobs: 1 });
        const described = repeating.map(({ ids, logprobs }) => ({ ids, logprobs }));
        return { described, mixed: await generateMixed(engine, true) };
      };
      await using plain = await open(model);
      const expected = await say(plain);
      const speculation = { method: "ngram", draftTokens: 5, minMatch: 1, maxMatch: 3, adaptive: false } as const;
      await using drafting = await open(model, { speculation });
      assert.deepEqual(await say(drafting), expected);
      const { draftTokens, acceptedTokens } = drafting.stats().speculation;
      assert.ok(acceptedTokens > 0 && draftTokens > acceptedTokens);
      // A model that drafts stays on the CPU.
      await using drafted = await open(model, { speculation: { method: "draft", model, adaptive: false } });
      assert.deepEqual(await say(drafted), expected);
      assert.ok(drafted.stats().speculation.acceptedTokens > 0);
    }
  });

  test("with a warm and a cold prefix cache", async () => {
    await using plain = await open(llama, { prefixCache: false });
    const conversations = conversationsOf(plain.module.info.vocabSize);
    const expected = await continueAll(plain, conversations);
    const { memory, kvCache } = plain.stats();
    const pageBytes = (memory[0]?.kvCacheBytes as number) / kvCache.pagesTotal;
    const drafts = { method: "ngram", draftTokens: 4, minMatch: 1, maxMatch: 3 } as const;
    for (const variant of [{ maxBatchTokens: 24 }, { kvCacheBytes: 6 * pageBytes }, { speculation: drafts }]) {
      await using caching = await open(llama, variant);
      assert.deepEqual(await continueAll(caching, conversations), expected, JSON.stringify(variant));
      assert.ok(caching.stats().prefixCache.hits > 0);
      assert.equal(caching.stats().kvCache.pagesUsed, 0);
    }
  });

  test("many requests at once are all answered", async () => {
    await using engine = await open(opt, { maxBatchTokens: 64 });
    const lengths = Array.from({ length: 60 }, (_, n) => 1 + (n % 5));
    const results = await Promise.all(
      lengths.map((maxNewTokens, n) => engine.generate([3 + n], { maxNewTokens, ignoreEos: true })),
    );
    assert.deepEqual(
      results.map(({ ids }) => ids.length),
      lengths,
    );
  });
});

describe("sampling on the device", () => {
  test("the same seed gives the same tokens, another seed others", async () => {
    await using engine = await open(opt);
    const sample = async (seed: number | bigint) =>
      (await engine.generate([5, 6], { maxNewTokens: 20, temperature: 1, seed, ignoreEos: true })).ids.join();
    const first = await sample(7);
    assert.equal(await sample(7), first);
    assert.notEqual(await sample(8), first);
    assert.notEqual(await sample(7n + (1n << 40n)), first, "the high half of the seed counts");
  });

  test("lists of tokens, biases, and words are followed as on the CPU", async () => {
    await using device = await open(demoModel);
    await using host = await initInference(demoModel, { device: "cpu", dtype: "fp32" });
    const list = [9, 11, 300, 301, 302, 700];
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, id) => [id, id === 1234 ? 100 : -100]));
    const word = host.tokenizer?.encode("the", { addSpecialTokens: false }) as number[];
    for (const [options, check] of [
      [{ allowedTokenIds: list, temperature: 5, seed: 2 }, (ids: number[]) => ids.every((id) => list.includes(id))],
      [{ allowedTokenIds: [9], stopTokenIds: [9], minNewTokens: 3 }, (ids: number[]) => String(ids) === "9"],
      [{ logitBias: { 17: 100 } }, (ids: number[]) => ids.every((id) => id === 17)],
      // More than the device has room for.
      [{ logitBias: many }, (ids: number[]) => ids.every((id) => id === 1234)],
      [{ allowedTokenIds: [...word, 5], badWords: ["the"] }, (ids: number[]) => ids.every((id) => id === 5)],
    ] as const) {
      for (const engine of [device, host]) {
        const { ids } = await engine.generate([3, 5], { maxNewTokens: 6, ignoreEos: true, ...options });
        assert.ok(ids.length > 0 && check(ids), JSON.stringify(ids));
      }
    }
    const nothing = device.generate([3, 5], { maxNewTokens: 2, allowedTokenIds: word, badWords: ["the"] });
    await assert.rejects(nothing, hasCode("ERR_INVALID_ARGUMENT", /allow none behind 2 tokens/));
    assert.equal((await device.generate([3, 5], { maxNewTokens: 2, ignoreEos: true })).ids.length, 2);
  });

  test("formats are kept to as on the CPU", async () => {
    await using device = await open(demoModel);
    for (const [format, pattern] of [
      [{ type: "regex", pattern: "[a-c]{2}(, [a-c]{2}){2}" }, /^[a-c]{2}(, [a-c]{2}){2}$/],
      [{ type: "choice", choices: ["yes", "no"] }, /^(yes|no)$/],
    ] as const) {
      const results = await device.generate(["It is", "He"], { format, temperature: 2, seed: 4, maxNewTokens: 20 });
      for (const { text, finishReason } of results) {
        assert.equal(finishReason, "stop");
        assert.match(text, pattern);
      }
    }
  });

  test("topK 1, a tiny topP and minP 1 are greedy; filters keep samples within the likeliest", async () => {
    await using engine = await open(llama);
    const prompt = [5, 6, 7];
    const greedy = (await engine.generate(prompt, { maxNewTokens: 12, ignoreEos: true })).ids;
    const hot = { maxNewTokens: 12, temperature: 1.5, seed: 3, ignoreEos: true };
    for (const options of [{ topK: 1 }, { topP: 1e-9 }, { minP: 1 }])
      assert.deepEqual((await engine.generate(prompt, { ...hot, ...options })).ids, greedy, JSON.stringify(options));
    const { logprobs } = await engine.generate(prompt, { ...hot, topK: 5, logprobs: 5 });
    assert.equal(logprobs?.length, 12);
    for (const { id, top } of logprobs ?? []) assert.ok(top.some((one) => one.id === id));
  });

  test("log-probabilities are those of forward()", async () => {
    await using engine = await open(llama);
    const prompt = [9, 40, 2, 11, 30];
    const options = { maxNewTokens: 6, temperature: 0.7, seed: 4, logprobs: 20, ignoreEos: true };
    const { ids, logprobs } = await engine.generate(prompt, options);
    const { logits } = await engine.forward({ inputIds: [[...prompt, ...ids]] });
    const vocab = logits.dims[2];
    for (const [i, entry] of (logprobs ?? assert.fail("logprobs are there")).entries()) {
      const row = logits.data.subarray((prompt.length - 1 + i) * vocab, (prompt.length + i) * vocab);
      const logSum = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
      assert.ok(Math.abs(entry.logprob - ((row[ids[i] as number] as number) - logSum)) < 1e-4);
      const best = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number) || a - b).slice(0, 20);
      assert.deepEqual(
        entry.top.map(({ id }) => id),
        best,
      );
      for (const { id, logprob } of entry.top) assert.ok(Math.abs(logprob - ((row[id] as number) - logSum)) < 1e-4);
    }
  });

  test("penalties change repetitive text", async () => {
    await using engine = await open(opt);
    const distinct = async (options: object) =>
      new Set((await engine.generate([5], { maxNewTokens: 40, ignoreEos: true, ...options })).ids).size;
    const plain = await distinct({});
    for (const options of [{ repetitionPenalty: 1.8 }, { presencePenalty: 2 }, { frequencyPenalty: 2 }])
      assert.ok((await distinct(options)) > plain, JSON.stringify(options));
  });
});

describe("requests", () => {
  test("forward() treats padding on either side as if it were not there", async () => {
    await using engine = await open(opt);
    const short = [5, 6, 7];
    const vocab = engine.module.info.vocabSize;
    const alone = (await engine.forward({ inputIds: [short] })).logits.data;
    const { logits } = await engine.forward({
      inputIds: [
        [1, 1, ...short],
        [...short, 1, 1],
        [9, 10, 11, 12, 13],
      ],
      attentionMask: [
        [0, 0, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
      ],
    });
    const row = (batch: number, position: number, count: number) =>
      logits.data.subarray((batch * 5 + position) * vocab, (batch * 5 + position + count) * vocab);
    assert.deepEqual(row(0, 2, 3), alone);
    assert.deepEqual(row(1, 0, 3), alone);
    assert.ok(row(0, 0, 2).every((logit) => logit === 0));
  });

  test("stop strings and stop tokens end the text, the latter not before minNewTokens", async () => {
    await using engine = await open(demoModel);
    const whole = await engine.generate("The whale", { maxNewTokens: 24, ignoreEos: true });
    const stop = whole.text.slice(10, 16);
    const cut = await engine.generate("The whale", { maxNewTokens: 24, ignoreEos: true, stop: ["never there", stop] });
    assert.equal(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
    assert.equal(cut.finishReason, "stop");
    const stopToken = whole.ids[4] as number;
    const stopped = await engine.generate("The whale", { maxNewTokens: 24, stopTokenIds: [stopToken] });
    assert.equal(stopped.finishReason, "stop");
    assert.deepEqual(stopped.ids, whole.ids.slice(0, whole.ids.indexOf(stopToken) + 1));
    const options = { maxNewTokens: 24, minNewTokens: 12, stopTokenIds: [stopToken] };
    const later = await engine.generate("The whale", options);
    assert.ok(later.ids.length >= 12 && !later.ids.slice(0, 12).includes(stopToken));
  });

  test("cancelled and aborted sequences leave the others as they are", async () => {
    await using engine = await open(opt);
    const expected = (await engine.generate([5, 6], { maxNewTokens: 30, ignoreEos: true })).ids;
    const controller = new AbortController();
    const options = { maxNewTokens: 100, ignoreEos: true, signal: controller.signal };
    const noise = [7, 8, 9].map((id) => engine.generate([id], options).catch((error) => error.code));
    const kept = engine.generate([5, 6], { maxNewTokens: 30, ignoreEos: true });
    for await (const { ids } of engine.stream([5], { maxNewTokens: 100, ignoreEos: true })) if (ids.length > 0) break;
    controller.abort();
    assert.deepEqual((await kept).ids, expected);
    for (const code of await Promise.all(noise)) assert.equal(code, "ERR_ABORTED");
    await engine.generate([5], { maxNewTokens: 1 });
    assert.deepEqual(engine.stats().requests, { running: 0, waiting: 0 });
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
  });

  test("NaN in the weights fails the request that meets it, and the engine goes on", async (t) => {
    const { folder, remove } = makePoisonedModel();
    t.after(remove);
    await using engine = await open(folder);
    for (const options of [{}, { temperature: 1, topP: 0.9, logprobs: 3 }])
      await assert.rejects(engine.generate([5, 6], options), hasCode("ERR_NUMERIC", /infinity or NaN/));
    assert.equal(engine.stats().kvCache.pagesUsed, 0);
    assert.equal(engine.disposed, false);
  });
});

describe("memory and ends", () => {
  const freeBytes = () => loadNative().cudaReport(0).devices[0]?.freeBytes as number;

  test("an engine takes what its statistics say, and dispose() gives all of it back", async () => {
    await (await open(opt)).dispose(); // what CUDA itself keeps is taken once
    const free = freeBytes();
    for (const model of [opt, llama]) {
      const engine = await open(model);
      await engine.generate([5, 6], { maxNewTokens: 3, ignoreEos: true });
      const { weightBytes, kvCacheBytes, activationBytes } = engine.stats().memory[0] ?? assert.fail("one rank");
      const taken = free - freeBytes();
      assert.ok(taken >= weightBytes + kvCacheBytes, `${taken} of ${weightBytes} and ${kvCacheBytes}`);
      assert.ok(taken <= weightBytes + kvCacheBytes + activationBytes + 32e6, `${taken}, ${activationBytes}`);
      await engine.dispose();
      assert.equal(freeBytes(), free);
    }
  });

  test("dispose() ends what runs with ERR_DISPOSED", async () => {
    const engine = await open(opt);
    const running = engine.generate([5], { maxNewTokens: 100, ignoreEos: true });
    const rejected = assert.rejects(running, hasCode("ERR_DISPOSED"));
    await engine.dispose();
    await rejected;
    await assert.rejects(engine.generate([5]), hasCode("ERR_DISPOSED"));
  });

  test("two engines at once do not disturb each other", async () => {
    await using first = await open(opt);
    await using second = await open(llama);
    const options = { maxNewTokens: 16, ignoreEos: true };
    const alone = [await first.generate([5, 6], options), await second.generate([5, 6], options)];
    const together = await Promise.all([first.generate([5, 6], options), second.generate([5, 6], options)]);
    assert.deepEqual(
      together.map(({ ids }) => ids),
      alone.map(({ ids }) => ids),
    );
  });

  test("a device with little memory: refused with need and free, or cut to what fits", () => {
    const { before, tooMuch, chosen, after } = runWithEmulator("small_device", [opt], {
      SHARDSPEED_EMULATOR_MEMORY: String(400e6),
    }) as Record<string, { code?: string; message?: string; tokens?: number }>;
    assert.ok((before as number) <= 400e6);
    assert.equal(tooMuch?.code, "ERR_OUT_OF_MEMORY");
    assert.match(
      tooMuch?.message as string,
      /needs 1\.10 TB .*but [\d.]+ [kM]?B are available on cuda-emulator \([\d.]+ MB free, less [\d.]+ MB for CUDA itself\)/,
    );
    assert.equal(chosen?.tokens, 4);
    assert.equal(after, before);
  });

  test("a device that fails: what waits hears why, what comes later too, and a new engine works", () => {
    const answer = runWithEmulator("failing_device", [opt], { SHARDSPEED_EMULATOR_FAULT: "60" });
    const { heard, later, disposed, ids } = answer as {
      heard: { code: string; message: string }[];
      later: { code: string; message: string };
      disposed: boolean;
      ids: number[];
    };
    for (const { code, message } of heard) {
      assert.equal(code, "ERR_CUDA", message);
      assert.equal(message, heard[0]?.message);
    }
    assert.match(heard[0]?.message as string, /^\S.*: cudaError\w+/);
    assert.equal(later.code, "ERR_DISPOSED");
    assert.ok(later.message.includes(heard[0]?.message as string), later.message);
    assert.equal(disposed, true);
    assert.equal(ids.length, 8);
  });

  for (const how of ["exit", "throw", "SIGTERM"]) {
    test(`a process that ends by ${how} in mid-stream does not crash`, async () => {
      const script = fileURLToPath(new URL("../support/exiting_process.js", import.meta.url));
      const child = spawn(process.execPath, [script, demoModel, how, device], { stdio: ["ignore", "pipe", "pipe"] });
      let stderr = "";
      child.stderr.on("data", (data) => {
        stderr += data;
      });
      child.stdout.once("data", () => how === "SIGTERM" && child.kill("SIGTERM"));
      const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
        child.on("exit", (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
      });
      if (how === "SIGTERM") assert.equal(signal, "SIGTERM", stderr);
      else assert.equal(code, { exit: 3, throw: 1 }[how], `${signal} ${stderr}`);
    });
  }
});
