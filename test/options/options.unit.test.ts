import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { Logger } from "../../dist/base/logger.js";
import { loadGenerationDefaults } from "../../dist/engine/generation_config.js";
import { checkTokenIds, resolveGenerationOptions } from "../../dist/engine/generation_options.js";
import { resolveInitOptions } from "../../dist/loading/options.js";

const invalid = (message: RegExp) => ({ name: "ShardspeedError", code: "ERR_INVALID_ARGUMENT", message });

test("token ids are those of the vocabulary", () => {
  checkTokenIds([0, 99], 100, "ids");
  for (const id of [100, -1, 0.5, "1", null, Number.NaN])
    assert.throws(() => checkTokenIds([5, id], 100, "ids"), invalid(/ids\[1\] to be a token id from 0 to 99/));
});

test("dtype and tpSize of initInference", () => {
  assert.deepEqual([resolveInitOptions({}).dtype, resolveInitOptions({}).tpSize], [undefined, undefined]);
  assert.equal(resolveInitOptions({ dtype: "torch.bfloat16" }).dtype, "torch.bfloat16");
  for (const dtype of ["int8", "fp8", "", 16, null])
    assert.throws(() => resolveInitOptions({ dtype }), invalid(/Expected dtype to be "fp32", "fp16" or "bf16"/));
  for (const tpSize of [0, 65, 1.5, "2"]) assert.throws(() => resolveInitOptions({ tpSize }), invalid(/tpSize/));
});

test("generationDefaults takes what is unset from the model", () => {
  const defaults = (sampling: object) => ({ eosTokenIds: [], bosTokenId: undefined, padTokenId: undefined, sampling });
  const sampled = defaults({ doSample: true, temperature: 0.6, topP: 0.9, repetitionPenalty: 1.1, maxNewTokens: 40 });
  const take = (options: object, of = sampled) => {
    const { temperature, topK, topP, repetitionPenalty, maxNewTokens, maxNewTokensGiven, minNewTokens } =
      resolveGenerationOptions(options, of);
    return [temperature, topK, topP, repetitionPenalty, maxNewTokens, maxNewTokensGiven, minNewTokens];
  };
  const greedy = [0, 0, 1, 1, 256, false, 0];
  assert.deepEqual(take({}), greedy);
  assert.deepEqual(take({ generationDefaults: "none" }), greedy);
  const model = { generationDefaults: "model" };
  assert.deepEqual(take(model), [0.6, 50, 0.9, 1.1, 40, false, 0]);
  assert.deepEqual(take({ ...model, temperature: 0, topK: 3, maxNewTokens: 5 }), [0, 3, 0.9, 1.1, 5, true, 0]);
  const held = defaults({ temperature: 0.6, topK: 5, minNewTokens: 9 });
  assert.deepEqual(take(model, held), [0, 0, 1, 1, 256, false, 9], "greedy without do_sample");
  assert.deepEqual(take({ ...model, maxNewTokens: 4 }, held), [0, 0, 1, 1, 4, true, 4]);
  assert.throws(() => take(model, defaults({ doSample: true, topP: 2 })), invalid(/topP of generation_config\.json/));
  assert.throws(() => take({ generationDefaults: "config" }), invalid(/generationDefaults/));
});

describe("generation options", () => {
  test("defaults", () => {
    const { seed, ...resolved } = resolveGenerationOptions(undefined);
    assert.deepEqual(resolved, {
      maxNewTokens: 256,
      maxNewTokensGiven: false,
      minNewTokens: 0,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      n: 1,
      beamSearch: undefined,
      stop: [],
      stopTokenIds: [],
      logitBias: [],
      allowedTokenIds: undefined,
      badWords: [],
      keepSpecialTokens: false,
      noSpeculation: false,
      cacheSalt: "",
      format: undefined,
      logprobs: undefined,
      promptLogprobs: undefined,
      signal: undefined,
    });
    assert.ok(seed >= 0n && seed < 2n ** 64n);
    assert.notEqual(resolveGenerationOptions({}).seed, seed);
    assert.deepEqual({ ...resolveGenerationOptions({ topK: undefined }), seed }, { ...resolved, seed });
  });

  const good: [object, object][] = [
    [{ maxNewTokens: 1 }, { maxNewTokens: 1, maxNewTokensGiven: true }],
    [{ maxNewTokens: 5, minNewTokens: 5 }, { minNewTokens: 5 }],
    [
      { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.05 },
      { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.05 },
    ],
    [
      { repetitionPenalty: 1.2, presencePenalty: -2, frequencyPenalty: 2 },
      { repetitionPenalty: 1.2, presencePenalty: -2, frequencyPenalty: 2 },
    ],
    [{ seed: 0 }, { seed: 0n }],
    [{ seed: Number.MAX_SAFE_INTEGER }, { seed: 2n ** 53n - 1n }],
    [{ seed: 2n ** 64n - 1n }, { seed: 2n ** 64n - 1n }],
    [{ stop: "." }, { stop: ["."] }],
    [{ stop: ["\n", "😀", "\n"] }, { stop: ["\n", "😀"] }],
    [{ stop: [] }, { stop: [] }],
    [
      { logitBias: { 3: -100, 2147483647: 100 } },
      {
        logitBias: [
          [3, -100],
          [2147483647, 100],
        ],
      },
    ],
    [{ logitBias: new Map([[3, 0.5]]) }, { logitBias: [[3, 0.5]] }],
    [{ logitBias: {} }, { logitBias: [] }],
    [{ allowedTokenIds: [4, 2, 4] }, { allowedTokenIds: [4, 2] }],
    [{ badWords: "a" }, { badWords: ["a"] }],
    [{ badWords: [" a", "b", "b"] }, { badWords: [" a", "b"] }],
    [{ format: { type: "regex", pattern: "a" } }, { format: '{"type":"regex","pattern":"a"}' }],
    [{ logprobs: false }, { logprobs: undefined }],
    [{ logprobs: true }, { logprobs: 0 }],
    [{ logprobs: 20 }, { logprobs: 20 }],
    [{ promptLogprobs: true }, { promptLogprobs: 0, maxNewTokens: 256 }],
    [
      { promptLogprobs: 20, maxNewTokens: 0 },
      { promptLogprobs: 20, maxNewTokens: 0, maxNewTokensGiven: true },
    ],
    [{}, { n: 1 }],
    [{ n: 128 }, { n: 128 }],
    [{ numBeams: 1 }, { beamSearch: undefined }],
    [
      { numBeams: 4, lengthPenalty: -2, earlyStopping: "never", n: 4 },
      { beamSearch: { beams: 4, lengthPenalty: -2, earlyStopping: "never" } },
    ],
    [{ numBeams: 2 }, { beamSearch: { beams: 2, lengthPenalty: 1, earlyStopping: false } }],
    [{ lengthPenalty: 2, earlyStopping: true }, { beamSearch: undefined }],
  ];
  for (const [options, expected] of good) {
    test(`${show(options)} is taken`, () => {
      const before = show(options);
      const resolved = resolveGenerationOptions(options) as unknown as Record<string, unknown>;
      for (const [name, value] of Object.entries(expected)) assert.deepEqual(resolved[name], value);
      assert.equal(show(options), before);
    });
  }

  const wrong: Record<string, unknown[]> = {
    maxNewTokens: [0, -1, 1.5, "5", null, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31],
    minNewTokens: [-1, 0.5, 257],
    temperature: [-0.1, Number.NaN, Number.POSITIVE_INFINITY, "1", null],
    topK: [-1, 1.5, true],
    logitBias: [
      null,
      1,
      [1],
      { a: 1 },
      { "-1": 1 },
      { "01": 1 },
      { 1.5: 1 },
      { 2147483648: 1 },
      { 3: 101 },
      { 3: "1" },
    ],
    allowedTokenIds: [[], [-1], [0.5], ["1"], 3, null, [2 ** 31]],
    badWords: ["", ["a", ""], [1], null, ["\ud800"], new Array(1001).fill("a")],
    format: [null, "json_object", {}, { type: "text" }, { type: "choice", choices: [] }, new Map()],
    topP: [0, 1.01, -1, Number.NaN],
    minP: [-0.1, 1.1],
    repetitionPenalty: [0, -1, Number.POSITIVE_INFINITY],
    presencePenalty: [2.1, -2.1],
    frequencyPenalty: [3, "0"],
    n: [0, 129, 1.5, "2", null],
    seed: [-1, 1.5, 2 ** 53, -1n, 2n ** 64n, "7"],
    stop: ["", [""], ["a", 1], 5, null, "\ud83d"],
    stopTokenIds: [5, [-1], [1.5], ["1"], [2 ** 31]],
    ignoreEos: [1, "true", null],
    logprobs: [-1, 21, 1.5, "5", null],
    promptLogprobs: [-1, 21, 1.5, "5", null],
    signal: [{}, "x", null, 5],
    numBeams: [0, 129, 1.5, "1"],
    lengthPenalty: ["1", Number.NaN, Number.POSITIVE_INFINITY, null],
    earlyStopping: ["true", 1, null, "always"],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      test(`${name}: ${show(value)} is not, and the error names it`, () => {
        assert.throws(() => resolveGenerationOptions({ [name]: value }), invalid(new RegExp(name)));
      });
    }
  }

  test("a beam search takes no more texts than beams, samples nothing and knows no stop strings", () => {
    for (const other of [{ n: 5 }, { temperature: 0.1 }, { stop: "a" }])
      assert.throws(() => resolveGenerationOptions({ numBeams: 4, ...other }), invalid(/^Found numBeams 4 and /));
  });

  const misspelled: [string, string][] = [
    ["maxTokens", "maxNewTokens"],
    ["max_new_tokens", "maxNewTokens"],
    ["maxNewToken", "maxNewTokens"],
    ["temprature", "temperature"],
    ["top_k", "topK"],
    ["topp", "topP"],
    ["repetition_penalty", "repetitionPenalty"],
    ["stop_token_ids", "stopTokenIds"],
    ["num_beams", "numBeams"],
    ["ignoreEOS", "ignoreEos"],
    ["stops", "stop"],
  ];
  for (const [found, meant] of misspelled) {
    test(`${found}: did you mean ${meant}?`, () => {
      assert.throws(
        () => resolveGenerationOptions({ [found]: 1 }),
        invalid(new RegExp(`"${found}".*Did you mean ${meant}\\?`)),
      );
    });
  }

  test("an unknown name is called an unknown generation option", () => {
    assert.throws(() => resolveGenerationOptions({ best: 2 }), invalid(/^Unknown generation option "best"\. /));
    assert.throws(() => resolveInitOptions({ n: 2 }), invalid(/^Unknown initInference option "n"\. /));
    assert.throws(() => resolveGenerationOptions(5), invalid(/^Expected the generation options to be an object/));
  });

  test("a name that is like none lists them all", () => {
    assert.throws(() => resolveGenerationOptions({ bananas: 1 }), invalid(/"bananas".*maxNewTokens.*numBeams/));
  });

  for (const options of [null, 5, "x", [], [1]]) {
    test(`${show(options)} is no options object`, () => {
      assert.throws(() => resolveGenerationOptions(options), invalid(/options/));
    });
  }

  test("end-of-sequence tokens of the model stop too, unless they are to be ignored", () => {
    const defaults = { eosTokenIds: [2, 3], bosTokenId: 1, padTokenId: undefined };
    assert.deepEqual(resolveGenerationOptions({ stopTokenIds: [7, 2] }, defaults).stopTokenIds, [7, 2, 3]);
    assert.deepEqual(resolveGenerationOptions({ stopTokenIds: [7], ignoreEos: true }, defaults).stopTokenIds, [7]);
    assert.deepEqual(defaults.eosTokenIds, [2, 3]);
  });

  test("a signal is passed on", () => {
    const { signal } = new AbortController();
    assert.equal(resolveGenerationOptions({ signal }).signal, signal);
  });
});

describe("init options", () => {
  const logger = (lines: string[]): Logger => ({
    debug() {},
    info: (line) => lines.push(line),
    warn() {},
    error() {},
  });

  test("defaults, without a word", () => {
    const lines: string[] = [];
    const resolved = resolveInitOptions({ logger: logger(lines) });
    assert.equal(resolved.device, "auto");
    assert.equal(resolved.threads, undefined); // the processors, divided among ranks
    assert.equal(resolved.maxBatchTokens, 512);
    assert.equal(resolved.kvCacheBytes, undefined);
    assert.equal(resolved.config, undefined);
    assert.equal(resolved.communicationDtype, "float32");
    assert.deepEqual(lines, []);
    assert.equal(resolveInitOptions(undefined).device, "auto");
  });

  test("what is given is taken", () => {
    const lines: string[] = [];
    const onProgress = () => {};
    const options = {
      device: "cpu",
      threads: 3,
      maxBatchTokens: 1,
      kvCacheBytes: 2 ** 30,
      speculation: { method: "ngram", draftTokens: 5, minMatch: 10 },
      config: { dtype: "fp32" },
      checkpoint: "checkpoints.json",
      baseDir: "weights",
      onProgress,
      logger: logger(lines),
    };
    const resolved = resolveInitOptions(options);
    assert.deepEqual(
      [resolved.threads, resolved.maxBatchTokens, resolved.kvCacheBytes, resolved.config, resolved.onProgress],
      [3, 1, 2 ** 30, options.config, onProgress],
    );
    assert.deepEqual([resolved.checkpoint, resolved.baseDir], ["checkpoints.json", "weights"]);
    assert.deepEqual(resolved.speculation, {
      method: "ngram",
      draftTokens: 5,
      minMatch: 10,
      maxMatch: 10,
      adaptive: true,
    });
    assert.deepEqual(resolveInitOptions({ speculation: { method: "ngram" } }).speculation, {
      ...{ method: "ngram", draftTokens: 24, minMatch: 3, maxMatch: 8, adaptive: true },
    });
    assert.deepEqual(resolveInitOptions({ speculation: { method: "draft", model: "small" } }).speculation, {
      ...{ method: "draft", model: "small", draftTokens: 8, adaptive: true },
    });
    assert.equal(resolveInitOptions({ speculation: false }).speculation, undefined);
    for (const [name, dtype] of Object.entries({ fp16: "float16", bfloat16: "bfloat16", "torch.float": "float32" }))
      assert.equal(resolveInitOptions({ communicationDtype: name }).communicationDtype, dtype);
    assert.deepEqual(lines, []);
  });

  const wrong: Record<string, unknown[]> = {
    device: ["gpu", "cuda:", "cuda:x", "CPU", 0, null],
    threads: [0, 1025, 1.5, "2"],
    communicationDtype: ["int8", "fp8", 16, null],
    maxBatchTokens: [0, -1, "512", 65_536],
    kvCacheBytes: [0, -1, 1.5, Number.POSITIVE_INFINITY],
    config: [5, null, []],
    onProgress: [5, {}],
    signal: [{}],
    logger: [5, {}, { info() {} }],
    checkpoint: ["", 5, [], null],
    baseDir: [5, {}, "a\0b"],
  };
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) {
      test(`${name}: ${show(value)} is not taken, and the error names it`, () => {
        assert.throws(() => resolveInitOptions({ [name]: value }), invalid(new RegExp(name)));
      });
    }
  }

  test("misspelled names", () => {
    assert.throws(() => resolveInitOptions({ numThreads: 2 }), invalid(/Did you mean threads\?/));
    assert.throws(() => resolveInitOptions({ max_batch_tokens: 2 }), invalid(/Did you mean maxBatchTokens\?/));
  });
});

describe("ids of generation_config.json", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-defaults-"));
  });
  after(() => rm(folder, { recursive: true }));
  const load = async (generation: string | undefined, config: string | undefined) => {
    for (const [name, text] of [
      ["generation_config.json", generation],
      ["config.json", config],
    ] as const) {
      if (text === undefined) await rm(path.join(folder, name), { force: true });
      else await writeFile(path.join(folder, name), text);
    }
    return loadGenerationDefaults(folder);
  };

  test("generation_config.json comes before config.json", async () => {
    assert.deepEqual(
      await load(
        '{"eos_token_id": [5, 6], "pad_token_id": 0, "do_sample": true, "temperature": 0.7}',
        '{"eos_token_id": 2, "bos_token_id": 1}',
      ),
      {
        eosTokenIds: [5, 6],
        bosTokenId: 1,
        padTokenId: 0,
        sampling: { doSample: true, temperature: 0.7 },
      },
    );
    const { sampling } = await load(
      undefined,
      '{"top_k": 7, "top_p": null, "repetition_penalty": "x", "min_new_tokens": 2}',
    );
    assert.deepEqual(sampling, { topK: 7, minNewTokens: 2 }, "config.json where there is no generation_config.json");
    assert.equal((await load("{}", '{"top_k": 7}')).sampling, undefined);
    assert.deepEqual((await load('{"eos_token_id": null}', '{"eos_token_id": 2}')).eosTokenIds, []);
    assert.deepEqual((await load(undefined, '{"eos_token_id": 2}')).eosTokenIds, [2]);
    assert.deepEqual((await load(undefined, '{"eos_token_id": -1}')).eosTokenIds, []);
    assert.deepEqual(await load(undefined, undefined), {
      eosTokenIds: [],
      bosTokenId: undefined,
      padTokenId: undefined,
    });
  });

  for (const text of ["{", "[]", '{"eos_token_id": "2"}', '{"eos_token_id": [1.5]}']) {
    test(`${text} is an error that names the file`, async () => {
      await assert.rejects(load(text, "{}"), { code: "ERR_CHECKPOINT", message: /generation_config\.json/ });
    });
  }
});

function show(value: unknown): string {
  return (
    JSON.stringify(value, (_, part) =>
      typeof part === "bigint" ? `${part}n` : typeof part === "number" ? String(part) : part,
    ) ?? "undefined"
  );
}
