import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { type Engine, initInference } from "../../dist/index.js";
import { runEngineCall } from "../../dist/serving/worker/engine_calls.js";
import { encoderFolder, readEncoder } from "../support/encoders.js";
import { demoModel, hasCode, relativeError } from "../support/fixtures.js";
import { makeSentenceModel, sentenceTokenizer } from "../support/sentence_model.js";

const options = { config: { dtype: "fp32" }, device: "cpu", threads: 2 } as const;
const texts = ["one small cat.", "two dogs, and 3 birds!", "x", "where is it? here: a b c d e f g h"];

async function hiddenRows(engine: Engine, ids: number[]): Promise<Float32Array[]> {
  const { lastHiddenState } = await engine.forward({ inputIds: [ids] });
  const width = lastHiddenState.dims[2] as number;
  return ids.map((_, at) => lastHiddenState.data.slice(at * width, (at + 1) * width));
}

function mean(rows: Float32Array[]): number[] {
  return [...(rows[0] as Float32Array)].map(
    (_, k) => rows.reduce((sum, row) => sum + (row[k] as number), 0) / rows.length,
  );
}

function assertNear(found: Float32Array, expected: readonly number[], what: string): void {
  const error = relativeError(found, Float32Array.from(expected));
  assert.ok(error < 1e-6, `${what}: differs by ${error}`);
}

describe("embeddings", () => {
  test("pool what forward() gives, whatever else is in the batch", async (t) => {
    await using engine = await initInference(makeSentenceModel(t, "bert_base"), options);
    const { tokenizer } = engine;
    assert.ok(tokenizer);
    const together = await engine.embed(texts);
    assert.deepEqual(together.embeddings.dims, [texts.length, 64]);
    const counts = texts.map((text) => tokenizer.encode(text).length);
    const promptTokens = counts.reduce((sum, count) => sum + count, 0);
    assert.deepEqual(together.usage, { promptTokens, totalTokens: promptTokens });
    for (const [i, text] of texts.entries()) {
      const ids = tokenizer.encode(text);
      const rows = await hiddenRows(engine, ids);
      const row = together.embeddings.data.slice(i * 64, (i + 1) * 64);
      assertNear(row, mean(rows), text);
      assert.deepEqual((await engine.embed(text)).embeddings.data, row);
      assert.deepEqual((await engine.embed([ids])).embeddings.data, row);
      const largest = [...mean(rows)].map((_, k) => Math.max(...rows.map((one) => one[k] as number)));
      assertNear((await engine.embed(text, { pooling: "max" })).embeddings.data, largest, "max");
      assert.deepEqual((await engine.embed(text, { pooling: "cls" })).embeddings.data, rows[0]);
      assert.deepEqual((await engine.embed(text, { pooling: "last" })).embeddings.data, rows.at(-1));
      const unit = (await engine.embed(text, { normalize: true })).embeddings.data;
      const length = Math.hypot(...row);
      assertNear(
        unit,
        [...row].map((value) => value / length),
        "normalized",
      );
    }
  });

  test("of a tp_size above 1 are the same", async () => {
    const folder = encoderFolder("mpnet");
    const ids = [
      [0, 5, 6, 2],
      [0, 9, 8, 7, 6, 5, 2],
    ];
    await using one = await initInference(folder, options);
    await using two = await initInference(folder, { ...options, tpSize: 2, threads: 1 });
    const [expected, found] = [await one.embed(ids), await two.embed(ids)];
    assertNear(found.embeddings.data, [...expected.embeddings.data], "two ranks");
  });

  test("of a model that generates text are those of the last token", async () => {
    await using engine = await initInference(demoModel, { ...options, maxBatchTokens: 4 });
    const { data, dims } = (await engine.embed("A small cat")).embeddings;
    assert.deepEqual(dims, [1, engine.module.info.hiddenSize]);
    assert.deepEqual((await engine.embed("A small cat", { pooling: "last" })).embeddings.data, data);
    assert.notDeepEqual((await engine.embed("A small cat", { pooling: "mean" })).embeddings.data, data);
  });
});

describe("a sentence-transformers folder", () => {
  const modules = (...types: string[]) =>
    types.map((type, idx) => ({
      idx,
      name: `${idx}`,
      path: type === "Pooling" ? "1_Pooling" : "",
      type: `sentence_transformers.models.${type}`,
    }));
  const pooling = (changes: object) => ({ word_embedding_dimension: 64, pooling_mode_mean_tokens: false, ...changes });
  const open = async (t: TestContext, files: Record<string, unknown>) =>
    initInference(makeSentenceModel(t, "bert_base", files), options);

  test("says how to pool and whether to normalize", async (t) => {
    await using plain = await open(t, {});
    await using engine = await open(t, {
      "modules.json": modules("Transformer", "Pooling", "Normalize"),
      "1_Pooling/config.json": pooling({ pooling_mode_cls_token: true }),
    });
    const expected = await plain.embed(texts, { pooling: "cls", normalize: true });
    assert.deepEqual(await engine.embed(texts), expected);
    assert.deepEqual(await engine.embed(texts, { pooling: "mean", normalize: false }), await plain.embed(texts));
  });

  test("may join several poolings", async (t) => {
    await using engine = await open(t, {
      "1_Pooling/config.json": pooling({ pooling_mode_max_tokens: true, pooling_mode_cls_token: true }),
    });
    const { data, dims } = (await engine.embed(texts[0] as string)).embeddings;
    assert.deepEqual(dims, [1, 128]);
    // Both are of one pass through the model.
    assert.equal(engine.stats().tokens.prompt, engine.tokenizer?.encode(texts[0] as string).length);
    const parts = await Promise.all(
      (["max", "cls"] as const).map((name) => engine.embed(texts[0] as string, { pooling: name })),
    );
    const joined = parts.flatMap(({ embeddings }) => [...embeddings.data]);
    assert.ok([joined, [...joined.slice(64), ...joined.slice(0, 64)]].some((one) => `${one}` === `${[...data]}`));
  });

  test("has prompts, whose tokens may not count", async (t) => {
    const prompts = { prompts: { query: "query: ", document: "" }, default_prompt_name: null };
    await using engine = await open(t, { "config_sentence_transformers.json": prompts });
    const query = await engine.embed("a cat", { promptName: "query" });
    assert.deepEqual(await engine.embed("a cat", { prompt: "query: " }), query);
    assert.deepEqual(await engine.embed("query: a cat"), query);
    assert.notDeepEqual(await engine.embed("a cat"), query);
    await assert.rejects(
      engine.embed("a cat", { promptName: "passage" }),
      hasCode("ERR_INVALID_ARGUMENT", /query, document/),
    );
    await using without = await open(t, {
      "config_sentence_transformers.json": { ...prompts, default_prompt_name: "query" },
      "1_Pooling/config.json": pooling({ pooling_mode_mean_tokens: true, include_prompt: false }),
    });
    const ids = without.tokenizer?.encode("query: a cat") as number[];
    const prompt = without.tokenizer?.encode("query: ") as number[];
    const rows = await hiddenRows(without, ids);
    assertNear(
      (await without.embed("a cat")).embeddings.data,
      mean(rows.slice(prompt.length - 1)),
      "without its prompt",
    );
    // Token ids are taken as they are: nothing is put ahead of them, and all of them count.
    assertNear((await without.embed([ids])).embeddings.data, mean(rows), "token ids");
  });

  test("has prompts in small letters where texts are read in these", async (t) => {
    await using engine = await open(t, {
      // Capitals are unknown then: a word of them is one token.
      "tokenizer_config.json": { do_lower_case: false },
      "sentence_bert_config.json": { do_lower_case: true },
      "1_Pooling/config.json": pooling({ pooling_mode_mean_tokens: true, include_prompt: false }),
    });
    const expected = await engine.embed("a cat", { prompt: "query: " });
    assert.deepEqual(await engine.embed("a cat", { prompt: "QUERY: " }), expected);
  });

  test("cuts texts where it says how long they may be", async (t) => {
    const long = "a b c d e f g h i j k l m n o p q r s t u v w x y z ".repeat(6);
    await using plain = await open(t, {});
    await assert.rejects(
      plain.embed(long),
      hasCode("ERR_CONTEXT_LENGTH", /158 tokens in texts\[0\].*128.*truncate: true/),
    );
    assert.equal((await plain.embed(long, { truncate: true })).usage.promptTokens, 128);
    await using engine = await open(t, { "sentence_bert_config.json": { max_seq_length: 20, do_lower_case: true } });
    assert.equal((await engine.embed(long.toUpperCase())).usage.promptTokens, 20);
    await assert.rejects(engine.embed(long, { truncate: false }), hasCode("ERR_CONTEXT_LENGTH"));
  });

  test("cuts token ids at the side where the tokenizer cuts texts", async (t) => {
    const ids = Array.from({ length: 9 }, (_, i) => i + 5);
    const limit = { truncate: true, maxTokens: 4 };
    for (const truncation_side of ["left", "right"]) {
      await using engine = await open(t, { "tokenizer_config.json": { truncation_side } });
      const kept = truncation_side === "left" ? ids.slice(-4) : ids.slice(0, 4);
      assert.deepEqual(await engine.embed([ids], limit), await engine.embed([kept]));
      assert.deepEqual(await engine.embed([ids.slice(0, 3)], limit), await engine.embed([ids.slice(0, 3)]));
    }
  });

  test("with modules that nothing here computes is refused by their name", async (t) => {
    await using engine = await open(t, {
      "modules.json": modules("Transformer", "Pooling", "Dense"),
      "1_Pooling/config.json": pooling({ pooling_mode_mean_tokens: true }),
    });
    await assert.rejects(engine.embed("a"), hasCode("ERR_UNSUPPORTED_MODEL", /modules\.json has modules .*: Dense\./));
    assert.ok(await engine.forward({ inputIds: [[2, 3]] }));
    await using nameless = await open(t, { "modules.json": [{ type: { toString: 1 } }] });
    await assert.rejects(nameless.embed("a"), hasCode("ERR_UNSUPPORTED_MODEL", /not computed here: /));
  });

  test("that is damaged names the file", async (t) => {
    for (const [files, message] of [
      [{ "modules.json": { a: 1 } }, /modules\.json: expected an array/],
      [{ "1_Pooling/config.json": {} }, /config\.json: expected one of pooling_mode_cls_token/],
      [{ "1_Pooling/config.json": { pooling_mode: "constructor" } }, /config\.json: expected one of/],
      [{ "1_Pooling/config.json": { pooling_mode: ["cls", { toString: 1 }] } }, /config\.json: expected one of/],
    ] as const)
      await assert.rejects(open(t, files), hasCode("ERR_CHECKPOINT", message));
  });
});

describe("encoders", () => {
  test("generate no text, and say what they do", async () => {
    await using engine = await initInference(encoderFolder("bert_base"), options);
    for (const call of [() => engine.generate([1, 2]), () => engine.module.generate([[1, 2]])])
      await assert.rejects(
        call,
        hasCode("ERR_UNSUPPORTED_MODEL", /bert model for base, which generates no text.*embed/),
      );
    await assert.rejects(engine.classify("a"), hasCode("ERR_UNSUPPORTED_MODEL", /for base, expected one for sequence/));
    await assert.rejects(engine.embed("a"), hasCode("ERR_TOKENIZER", /no tokenizer: pass token ids/));
  });

  test("take what they are given as it is, or say what is wrong", async () => {
    await using engine = await initInference(encoderFolder("bert_base"), options);
    const wrong: [unknown, unknown, RegExp][] = [
      [[], {}, /texts/],
      [[[]], {}, /texts\[0\]/],
      [[[999]], {}, /texts\[0\]/],
      [[[1]], { pooling: "median" }, /pooling/],
      [[[1]], { normalise: true }, /normalise/],
      [7, {}, /texts/],
    ];
    for (const [texts, given, message] of wrong)
      await assert.rejects(engine.embed(texts as string, given as object), hasCode("ERR_INVALID_ARGUMENT", message));
    await assert.rejects(engine.embed([Array(129).fill(1)]), hasCode("ERR_CONTEXT_LENGTH"));
    const signal = AbortSignal.abort();
    await assert.rejects(engine.embed([[1]], { signal }), hasCode("ERR_ABORTED"));
    const types = (row: unknown) => engine.forward({ inputIds: [[1, 2]], tokenTypeIds: [row as number[]] });
    for (const row of [[0], [0, 2], [0, -1], ["0", 1]])
      await assert.rejects(types(row), hasCode("ERR_INVALID_ARGUMENT", /tokenTypeIds\[0\]/));
    assert.notDeepEqual((await types([0, 1])).lastHiddenState, (await types([0, 0])).lastHiddenState);
  });

  test("of one text are as long as the model allows, in a step of their own", async () => {
    await using engine = await initInference(encoderFolder("roberta_masked_lm"), { ...options, maxBatchTokens: 8 });
    assert.equal(engine.contextTokens, 128);
    const ids = Array.from({ length: 128 }, (_, i) => 2 + (i % 200));
    const { logits } = await engine.forward({ inputIds: [ids] });
    assert.deepEqual(logits.dims, [1, 128, 256]);
    assert.ok(engine.stats().steps === 1);
  });

  test("end with the call that a signal ends", async (t) => {
    await using engine = await initInference(makeSentenceModel(t, "bert_base"), options);
    const controller = new AbortController();
    const many = engine.embed(Array<string>(2000).fill("a b c d e f g"), { signal: controller.signal });
    controller.abort();
    await assert.rejects(many, hasCode("ERR_ABORTED"));
    assert.equal((await engine.embed("a")).embeddings.dims[0], 1);
  });
});

describe("classes", () => {
  test("are named by the numbers that id2label has, whatever the order of its keys", async (t) => {
    const folder = makeSentenceModel(t, "bert_classifier", {}, { id2label: { 2: 5, 0: 1, 1: "three" } });
    await using engine = await initInference(folder, options);
    assert.deepEqual(engine.module.info.labels, ["1", "three", "5"]);
    const { logits, label } = await engine.classify("a b c");
    assert.equal(label, engine.module.info.labels?.[logits.indexOf(Math.max(...logits))]);
  });

  test("have a score each, also where two have one name", async (t) => {
    const folder = makeSentenceModel(t, "bert_classifier", {}, { id2label: { 0: "same", 1: "same", 2: "other" } });
    await using engine = await initInference(folder, options);
    const { logits, scores, labels } = await engine.classify("a b c", { topK: 3 });
    const powers = [...logits].map(Math.exp);
    const sum = powers.reduce((total, power) => total + power, 0);
    for (const [i, power] of powers.entries()) assert.ok(Math.abs((scores[i] as number) - power / sum) < 1e-6);
    assert.notEqual(scores[0], scores[1]);
    assert.deepEqual(
      labels.map(({ score }) => score),
      [...scores].sort((one, other) => other - one),
    );
    const { signal } = new AbortController();
    const { results } = await runEngineCall(
      engine,
      "classify",
      { texts: ["a b c"] },
      { signal, pace: {}, emit: () => {} },
    );
    assert.deepEqual(results[0]?.scores, scores, "what a worker answers");
  });

  test("are named, with the scores of transformers' pipeline", async (t) => {
    const id2label = { 0: "bad", 1: "fair", 2: "good" };
    const softmax = (values: number[]) => {
      const powers = values.map(Math.exp);
      const sum = powers.reduce((total, power) => total + power, 0);
      return powers.map((power) => power / sum);
    };
    const scores: Record<string, (values: number[]) => number[]> = {
      single_label_classification: softmax,
      multi_label_classification: (values) => values.map((value) => 1 / (1 + Math.exp(-value))),
      regression: (values) => values,
    };
    for (const [problem_type, scoresOf] of Object.entries(scores)) {
      await using engine = await initInference(
        makeSentenceModel(t, "bert_classifier", {}, { id2label, problem_type }),
        options,
      );
      assert.deepEqual(engine.module.info.labels, ["bad", "fair", "good"]);
      const results = await engine.classify(texts, { topK: 2 });
      assert.equal(results.length, texts.length);
      for (const [i, { label, score, logits, labels }] of results.entries()) {
        const ids = engine.tokenizer?.encode(texts[i] as string) as number[];
        assert.deepEqual(logits, (await engine.forward({ inputIds: [ids] })).logits.data);
        const expected = scoresOf([...logits]);
        const order = [0, 1, 2].sort((one, other) => (expected[other] as number) - (expected[one] as number));
        assert.deepEqual(
          labels.map((one) => one.label),
          order.slice(0, 2).map((index) => Object.values(id2label)[index]),
        );
        assert.deepEqual([label, score], [labels[0]?.label, labels[0]?.score]);
        assert.ok(Math.abs(score - (expected[order[0] as number] as number)) < 1e-6);
      }
      assert.deepEqual(await engine.classify(texts[0] as string), {
        ...results[0],
        labels: results[0]?.labels.slice(0, 1),
      });
    }
  });

  test("of pairs read both texts, each with its type", async (t) => {
    await using engine = await initInference(makeSentenceModel(t, "bert_classifier"), options);
    const { tokenizer } = engine;
    assert.ok(tokenizer);
    const pair = tokenizer.encodePair("a b", "c d e");
    assert.deepEqual(tokenizer.batchDecode([pair.inputIds]), ["[CLS] a b [SEP] c d e [SEP]"]);
    assert.deepEqual(pair.tokenTypeIds, [0, 0, 0, 0, 1, 1, 1, 1]);
    const { logits } = await engine.classify({ text: "a b", textPair: "c d e" });
    const inputs = { inputIds: [pair.inputIds], tokenTypeIds: [pair.tokenTypeIds] };
    assert.deepEqual(logits, (await engine.forward(inputs)).logits.data);
    assert.deepEqual(tokenizer.encodePair("a b c d e f", "g h", { maxLength: 8 }).inputIds.length, 8);
    assert.deepEqual(
      tokenizer.decode(tokenizer.encodePair("a b c d e f", "g h", { maxLength: 8 }).inputIds),
      "[CLS] a b c [SEP] g h [SEP]",
    );
    for (const text of [7, { text: "a" }, { text: "a", textPair: 1 }, null])
      await assert.rejects(engine.classify(text as unknown as string), hasCode("ERR_INVALID_ARGUMENT", /texts\[0\]/));
    for (const given of [{ maxLength: 0 }, { maxLength: "5" }, { maxLength: Number.NaN }, { maxlength: 8 }, null])
      assert.throws(
        () => tokenizer.encodePair("a", "b", given as object),
        hasCode("ERR_INVALID_ARGUMENT", /encodePair|maxLength/),
      );
    for (const call of [
      () => tokenizer.encodePair("a", "b", { maxLength: 2 }),
      () => tokenizer.encodePair("", "", { maxLength: 2 }),
    ])
      assert.throws(call, hasCode("ERR_INVALID_ARGUMENT", /maxLength to be at least 3.*pair of texts, found 2/));
    assert.deepEqual(tokenizer.encodePair("a", "b", { maxLength: 3 }).inputIds, [2, 3, 3]);
  });

  test("of long pairs give way to other work, and are what encodePair() makes of them", async (t) => {
    await using engine = await initInference(makeSentenceModel(t, "bert_classifier"), options);
    const { tokenizer } = engine;
    assert.ok(tokenizer);
    const [text, textPair] = ["a b c ".repeat(5000), "d e f ".repeat(5000)];
    const { inputIds, tokenTypeIds } = tokenizer.encodePair(text, textPair, { maxLength: 128 });
    assert.deepEqual(await tokenizer.encodePairAsync(text, textPair), tokenizer.encodePair(text, textPair));
    const expected = await engine.forward({ inputIds: [inputIds], tokenTypeIds: [tokenTypeIds] });
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    t.after(() => clearInterval(timer));
    let turnsOfEncoding = 0;
    const { encodePairAsync } = tokenizer;
    tokenizer.encodePairAsync = async (...given) => {
      const before = turns;
      const pair = await encodePairAsync.apply(tokenizer, given);
      turnsOfEncoding = turns - before;
      return pair;
    };
    const { logits } = await engine.classify({ text, textPair }, { truncate: true });
    assert.deepEqual(logits, expected.logits.data);
    assert.ok(turnsOfEncoding > 1, `${turnsOfEncoding} turns`);
    await assert.rejects(engine.classify({ text, textPair }), hasCode("ERR_CONTEXT_LENGTH", /tokens in texts\[0\]/));
    const tooLong = engine.classify({ text: "a", textPair: "b".repeat(10 ** 6) });
    await assert.rejects(tooLong, hasCode("ERR_CONTEXT_LENGTH", /1000000 characters in texts\[0\]/));
  });

  test("of pairs without any token name the pair", async (t) => {
    const { post_processor: _, ...plain } = sentenceTokenizer;
    const files = { "tokenizer.json": plain, "tokenizer_config.json": { tokenizer_class: "PreTrainedTokenizerFast" } };
    await using engine = await initInference(makeSentenceModel(t, "bert_classifier", files), options);
    for (const text of ["", { text: "", textPair: "" }])
      await assert.rejects(
        engine.classify(text),
        hasCode("ERR_INVALID_ARGUMENT", /texts\[0\] to be at least one token/),
      );
  });

  test("of a decoder are read from the last token that is no padding", async () => {
    await using engine = await initInference(encoderFolder("gpt2_classifier"), options);
    const { batches } = readEncoder("gpt2_classifier");
    const { rows, mask } = batches[0] as (typeof batches)[number];
    const { logits } = await engine.forward({ inputIds: rows, attentionMask: mask });
    for (const [i, row] of rows.entries()) {
      const ids = row.slice(0, (mask[i]?.lastIndexOf(1) as number) + 1);
      const alone = await engine.forward({ inputIds: [ids] });
      assert.deepEqual(logits.data.slice(i * 3, i * 3 + 3), alone.logits.data);
    }
    await assert.rejects(engine.generate([1]), hasCode("ERR_UNSUPPORTED_MODEL", /classify/));
  });
});
