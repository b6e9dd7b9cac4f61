import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { type Engine, type InitOptions, initInference, type ModuleGenerateOptions } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { endless } from "../support/requests.js";

// Beam search as transformers does it: test/fixtures/beams/make_beams.py recorded what generate() makes of the golden models.

interface Recorded {
  options: {
    num_beams: number;
    num_return_sequences?: number;
    length_penalty?: number;
    early_stopping?: boolean | "never";
    repetition_penalty?: number;
    min_new_tokens?: number;
    max_new_tokens?: number;
  };
  ids: number[];
  eos: number[];
  texts: number[][];
  scores: number[];
}

const golden: Record<string, Recorded[]> = JSON.parse(readFileSync(fixture("beams", "golden.json"), "utf8"));

function toOptions({ options, eos }: Recorded) {
  return {
    numBeams: options.num_beams,
    n: options.num_return_sequences ?? 1,
    lengthPenalty: options.length_penalty ?? 1,
    earlyStopping: options.early_stopping ?? false,
    repetitionPenalty: options.repetition_penalty ?? 1,
    minNewTokens: options.min_new_tokens ?? 0,
    maxNewTokens: options.max_new_tokens ?? 20,
    stopTokenIds: eos,
    ignoreEos: true,
  };
}

async function compare(engine: Engine, recorded: Recorded) {
  const { texts, scores, ids, eos } = recorded;
  const result = await engine.generate(ids, { ...toOptions(recorded), logprobs: 1 });
  const choices = result.choices ?? [result];
  const note = JSON.stringify(recorded);
  assert.deepEqual(
    choices.map((choice) => choice.ids),
    texts,
    note,
  );
  for (const [i, { score = 0, finishReason, logprobs = [], ids: own }] of choices.entries()) {
    // By the length to some power scores are as large as 1e5.
    const expected = scores[i] as number;
    assert.ok(
      Math.abs(score - expected) < 1e-5 * Math.max(1, Math.abs(expected)),
      `${score} is no ${expected} of ${note}`,
    );
    assert.equal(finishReason, eos.includes(own.at(-1) as number) ? "stop" : "length");
    assert.equal(logprobs.length, own.length);
    if (recorded.options.repetition_penalty !== undefined) continue;
    const sum = logprobs.reduce((total, { logprob }) => total + logprob, 0);
    const rated = sum / own.length ** (recorded.options.length_penalty ?? 1);
    assert.ok(Math.abs(rated - score) < 1e-5 * Math.max(1, Math.abs(score)), `${rated} is no ${score}`);
  }
  assert.equal(result.usage.promptTokens, ids.length);
}

describe("what transformers finds", () => {
  for (const [name, all] of Object.entries(golden)) {
    test(name, async () => {
      assert.ok(all.length > 0);
      // On two ranks, in chunks, and in so few pages that beams are computed again.
      const variants: InitOptions[] = [{}, { maxBatchTokens: 3 }, { tpSize: 2, dtype: "fp32" }];
      for (const options of variants) {
        await using engine = await initInference(fixture("golden", name), { device: "cpu", ...options });
        await Promise.all(all.map((recorded) => compare(engine, recorded)));
        assert.equal(engine.stats().kvCache.pagesUsed, 0);
        assert.deepEqual(engine.stats().requests, { running: 0, waiting: 0 });
      }
    });
  }
});

describe("module.generate", () => {
  test("has the rows that transformers returns", async () => {
    await using engine = await initInference(fixture("golden", "opt"), { device: "cpu" });
    for (const recorded of golden.opt as Recorded[]) {
      const { ids, eos, texts, options } = recorded;
      const { n: numReturnSequences, stopTokenIds: _, ignoreEos: _no, ...shared } = toOptions(recorded);
      const given: ModuleGenerateOptions = { ...shared, numReturnSequences, eosTokenId: eos, padTokenId: 0 };
      const rows = await engine.module.generate([ids, ids], given);
      const expected = [...texts, ...texts].map((text) => [...ids, ...text]);
      const width = Math.max(...expected.map(({ length }) => length));
      assert.deepEqual(
        rows,
        expected.map((row) => [...row, ...new Array(width - row.length).fill(0)]),
        JSON.stringify(options),
      );
    }
  });

  test("returns samples too, and no copies of the likeliest text", async () => {
    await using engine = await initInference(demoModel, { device: "cpu" });
    const options = { doSample: true, seed: 4, maxNewTokens: 8, eosTokenId: [] };
    const rows = await engine.module.generate([[5, 6], [7]], { ...options, numReturnSequences: 3, padTokenId: 1 });
    assert.equal(rows.length, 6);
    assert.deepEqual(rows[0], (await engine.module.generate([[5, 6]], options))[0]);
    assert.equal(new Set(rows.slice(0, 3).map(String)).size, 3);
    const wrong: [ModuleGenerateOptions, RegExp][] = [
      [{ numReturnSequences: 2 }, /numReturnSequences 2 without doSample and numBeams/],
      [{ numReturnSequences: 3, numBeams: 2 }, /numReturnSequences 3 and numBeams 2/],
      [{ doSample: true, numBeams: 2 }, /doSample and numBeams 2/],
    ];
    for (const [given, message] of wrong)
      await assert.rejects(engine.module.generate([[5]], given), hasCode("ERR_INVALID_ARGUMENT", message));
  });
});

test("one text is the best one, with text and score; a signal ends the search", async () => {
  await using engine = await initInference(demoModel, { device: "cpu" });
  const options = { numBeams: 4, maxNewTokens: 12 };
  const { choices = [] } = await engine.generate("Alice was", { ...options, n: 4 });
  assert.equal(new Set(choices.map(({ text }) => text)).size, 4);
  const { text, score = 0, choices: none } = await engine.generate("Alice was", options);
  assert.equal(none, undefined);
  assert.deepEqual([text, score], [choices[0]?.text, choices[0]?.score]);
  assert.ok(choices.every((choice) => (choice.score as number) <= score));
  const greedy = await engine.generate("Alice was", { maxNewTokens: 12, logprobs: 0 });
  const sum = greedy.logprobs?.reduce((total, { logprob }) => total + logprob, 0) as number;
  assert.ok(score >= sum / greedy.ids.length);
  const controller = new AbortController();
  const { signal } = controller;
  const running = endless(() => engine.generate("Alice was", { ...options, maxNewTokens: 100, signal }));
  setTimeout(() => controller.abort(), 20);
  await assert.rejects(running, hasCode("ERR_ABORTED"));
  await engine.generate("a", { maxNewTokens: 1 });
  assert.equal(engine.stats().kvCache.pagesUsed, 0);
});

test("lists of tokens hold in all beams", async () => {
  await using engine = await initInference(demoModel, { device: "cpu" });
  const allowedTokenIds = Array.from({ length: 30 }, (_, i) => 300 + i);
  const options = { numBeams: 3, n: 3, maxNewTokens: 9, allowedTokenIds, badWords: ["e"], logitBias: { 301: 4 } };
  const { choices = [] } = await engine.generate("Alice was", options);
  for (const { ids } of choices) assert.ok(ids.every((id) => allowedTokenIds.includes(id)));
});

test("a stream refuses it, and so does what it does not go with", async () => {
  await using engine = await initInference(demoModel, { device: "cpu" });
  const refused = hasCode("ERR_INVALID_ARGUMENT", /numBeams above 1 for a stream.*Call generate\(\)/);
  await assert.rejects(engine.stream("a", { numBeams: 2 }).next(), refused);
  const wrong: [object, RegExp][] = [
    [{ n: 3 }, /numBeams 2 and n 3/],
    [{ temperature: 1 }, /numBeams 2 and temperature 1/],
    [{ stop: "x" }, /numBeams 2 and stop strings/],
  ];
  for (const [options, message] of wrong)
    await assert.rejects(engine.generate("a", { numBeams: 2, ...options }), hasCode("ERR_INVALID_ARGUMENT", message));
});
