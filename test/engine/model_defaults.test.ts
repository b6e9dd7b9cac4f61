import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { demoModel, hasCode } from "../support/fixtures.js";

// What a model's generation_config.json asks for.

async function copyDemo(t: TestContext, config: object): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-defaults-"));
  t.after(() => rm(folder, { recursive: true }));
  await cp(demoModel, folder, { recursive: true });
  await writeFile(path.join(folder, "generation_config.json"), JSON.stringify(config));
  return folder;
}

async function open(folder: string) {
  const said: string[] = [];
  const logger = { debug() {}, info() {}, warn: (message: string) => said.push(message), error() {} };
  return { engine: await initInference(folder, { device: "cpu", logger }), said };
}

test("generation_config.json is followed, and engine.generate says once that it does not", async (t) => {
  const config = { do_sample: true, temperature: 3, top_k: 5, max_new_tokens: 7, bos_token_id: 2 };
  const { engine: own, said } = await open(await copyDemo(t, config));
  await using _ = own;
  const ids = [1105, 361, 262];
  const options = { seed: 5, eosTokenId: [] };
  const asSaid = { doSample: true, temperature: 3, topK: 5, maxNewTokens: 7 };
  await using plain = await initInference(demoModel, { device: "cpu" });
  const generate = plain.module.generate;
  const expected = await generate([ids], { ...options, ...asSaid });
  assert.deepEqual(await own.module.generate([ids], options), expected);
  const greedy = { doSample: false, maxNewTokens: 9 };
  assert.deepEqual(
    await own.module.generate([ids], { ...options, ...greedy }),
    await generate([ids], { ...options, ...greedy }),
  );
  const aboutSampling = () => said.filter((message) => message.includes("generation_config.json"));
  assert.deepEqual(aboutSampling(), []);
  const model = await own.generate(ids, { generationDefaults: "model", seed: 5, ignoreEos: true });
  assert.deepEqual([...ids, ...model.ids], expected[0]);
  assert.deepEqual(aboutSampling(), []);
  for (let i = 0; i < 2; i++) await own.generate(ids, { maxNewTokens: 1 });
  assert.equal(aboutSampling().length, 1);
  assert.match(
    aboutSampling()[0] ?? "",
    /do_sample true, temperature 3, top_k 5, max_new_tokens 7.*generationDefaults: "model"/,
  );
});

test("what generation_config.json asks for and nothing here follows is named once, where its defaults are taken", async (t) => {
  const others = { no_repeat_ngram_size: 3, num_beam_groups: 2, typical_p: 0.5, _from_model_config: true };
  const { engine, said } = await open(await copyDemo(t, others));
  await using _ = engine;
  await engine.generate([5], { maxNewTokens: 1 });
  await engine.generate([5], { maxNewTokens: 1, generationDefaults: "none" });
  assert.deepEqual(said, []);
  for (let i = 0; i < 2; i++) await engine.module.generate([5], { maxNewTokens: 1 });
  await engine.generate([5], { maxNewTokens: 1, generationDefaults: "model" });
  assert.equal(said.length, 1, said.join("\n"));
  assert.match(
    said[0] ?? "",
    /says no_repeat_ngram_size 3, num_beam_groups 2, which transformers follows and this engine/,
  );

  const sampled = await open(await copyDemo(t, { do_sample: true, typical_p: 0.5 }));
  await using __ = sampled.engine;
  await sampled.engine.generate([5], { maxNewTokens: 1, generationDefaults: "model" });
  assert.match(sampled.said.join(), /says typical_p 0\.5, which/);

  const neutral = { num_beams: 1, no_repeat_ngram_size: 0, do_sample: false, bad_words_ids: null, suppress_tokens: [] };
  const quiet = await open(await copyDemo(t, neutral));
  await using ___ = quiet.engine;
  await quiet.engine.module.generate([5], { maxNewTokens: 1 });
  await quiet.engine.generate([5], { maxNewTokens: 1 });
  assert.deepEqual(quiet.said, []);
});

test("num_beams is what module.generate does, and generate() only says that it does not", async (t) => {
  const beams = { num_beams: 3, length_penalty: 2, early_stopping: "never", eos_token_id: 300 };
  const { engine, said } = await open(await copyDemo(t, beams));
  await using _ = engine;
  const options = { maxNewTokens: 9 };
  const searched = await engine.generate([5, 6], { ...options, numBeams: 3, lengthPenalty: 2, earlyStopping: "never" });
  assert.deepEqual(await engine.module.generate([5, 6], options), [[5, 6, ...searched.ids]]);
  const greedy = await engine.generate([5, 6], options);
  assert.deepEqual(await engine.module.generate([5, 6], { ...options, numBeams: 1 }), [[5, 6, ...greedy.ids]]);
  assert.deepEqual(said, []);
  for (let i = 0; i < 2; i++) {
    const { ids } = await engine.generate([5, 6], { ...options, generationDefaults: "model" });
    assert.deepEqual(ids, greedy.ids);
  }
  assert.equal(said.length, 1, said.join());
  assert.match(said[0] ?? "", /num_beams 3, which module\.generate follows; generate\(\) and stream\(\) do not/);
});

test("stop_strings end texts where a call has no others", async (t) => {
  const ids = [1105, 361, 262];
  const options = { maxNewTokens: 16 };
  await using plain = await initInference(demoModel, { device: "cpu" });
  const whole = await plain.generate(ids, options);
  const stop = whole.text.slice(6, 9);
  const cut = await plain.generate(ids, { ...options, stop });
  assert.ok(cut.text.length < whole.text.length);
  const folder = await copyDemo(t, { eos_token_id: 2, stop_strings: [stop, "never seen"] });
  {
    const { engine, said } = await open(folder);
    await using _ = engine;
    const textOf = async (more: object) => (await engine.generate(ids, { ...options, ...more })).text;
    const found = await engine.generate(ids, options);
    assert.deepEqual([found.text, found.ids, found.stopReason], [cut.text, cut.ids, stop]);
    assert.equal(await textOf({ generationDefaults: "model" }), cut.text);
    for (const more of [{ stop: [] }, { stop: "unheard of" }, { ignoreEos: true }])
      assert.equal(await textOf(more), (await plain.generate(ids, { ...options, ...more })).text);
    const rows = [ids, [5]];
    assert.deepEqual(
      await engine.module.generate(rows, options),
      await plain.module.generate(rows, { ...options, stopStrings: [stop] }),
    );
    assert.deepEqual(
      await engine.module.generate(rows, { ...options, stopStrings: [] }),
      await plain.module.generate(rows, options),
    );
    assert.deepEqual(said, []);
  }
  for (const file of ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"])
    await rm(path.join(folder, file));
  const { engine, said } = await open(folder);
  await using _ = engine;
  assert.deepEqual((await engine.generate(ids, options)).ids, whole.ids);
  await engine.module.generate([ids], options);
  assert.match(said.join(), /stop_strings \[.*which need a tokenizer.*this engine does not/);
});

test("stop_strings that are none are errors of their file", async (t) => {
  for (const stop_strings of [7, [""], ["a", 1], { a: 1 }])
    await assert.rejects(
      open(await copyDemo(t, { stop_strings })),
      hasCode("ERR_CHECKPOINT", /generation_config\.json: Expected stop_strings to be/),
    );
  for (const stop_strings of [null, []]) {
    const { engine } = await open(await copyDemo(t, { stop_strings }));
    await engine.dispose();
  }
});
