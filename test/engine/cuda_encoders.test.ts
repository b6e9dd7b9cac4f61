import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { type InitOptions, initInference } from "../../dist/index.js";
import { device, useEmulator } from "../support/emulator.js";
import { compareEncoder, encoderFolder, encoders } from "../support/encoders.js";
import { makeSentenceModel } from "../support/sentence_model.js";

// Encoders and classifiers on the CUDA backend, which the emulator runs: against what transformers computes in fp32, and the
// same bits whatever else is in a step.

before(
  () => {
    process.env.SHARDSPEED_EMULATOR_DEVICES = "2";
    useEmulator();
  },
  { timeout: 1_800_000 },
);

const options = (tpSize: number): InitOptions => ({
  config: { dtype: "fp16", tensor_parallel: { tp_size: tpSize } },
  device,
  threads: 1,
});

describe("goldens of encoders in fp16", () => {
  for (const name of encoders)
    test(name, async () => {
      await using engine = await initInference(encoderFolder(name), options(1));
      await compareEncoder(engine, name, 3e-3);
    });
});

describe("goldens of encoders with tp_size 2", () => {
  // One of each kind of mask, of positions and of embeddings.
  for (const name of ["bert_base", "electra", "modernbert", "mpnet", "deberta_v2", "deberta_v2_masked_lm"])
    test(name, async () => {
      await using engine = await initInference(encoderFolder(name), options(2));
      assert.equal(engine.module.devices.length, 2);
      await compareEncoder(engine, name, 3e-3);
    });
});

const texts = ["one small cat.", "two dogs, and 3 birds!", "x", "where is it? here: a b c d e f g h"];

test("embeddings of texts do not depend on what else is in the batch", async (t) => {
  await using engine = await initInference(makeSentenceModel(t, "modernbert"), options(1));
  for (const pooling of ["mean", "cls"] as const) {
    const { data, dims } = (await engine.embed(texts, { pooling })).embeddings;
    for (const [i, text] of texts.entries()) {
      const alone = (await engine.embed(text, { pooling })).embeddings.data;
      assert.deepEqual(data.slice(i * (dims[1] as number), (i + 1) * (dims[1] as number)), alone);
    }
  }
});

test("classes of texts do not depend on what else is in the batch", async (t) => {
  await using engine = await initInference(makeSentenceModel(t, "distilbert_classifier"), options(1));
  const together = await engine.classify(texts);
  for (const [i, text] of texts.entries()) assert.deepEqual(await engine.classify([text]), [together[i]]);
});
