import assert from "node:assert/strict";
import { test } from "node:test";
import { AutoConfig, initInference, type MetaModel, modelFromConfig } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";
import { readGolden } from "../support/golden.js";

test("a model without weights is filled from the folder of its config, from baseDir, or from a checkpoint", async () => {
  const golden = fixture("golden", "opt");
  const meta = modelFromConfig(await AutoConfig.fromPretrained(golden), { dtype: "fp32" });
  const ids = readGolden("opt").prompts[0]?.ids as number[];
  const run = async (model: string | MetaModel, options: object) => {
    await using engine = await initInference(model, { device: "cpu", threads: 1, ...options });
    return { dtype: engine.module.dtype, ids: (await engine.generate(ids, { maxNewTokens: 6, ignoreEos: true })).ids };
  };
  const expected = { dtype: "float32", ids: (await run(golden, { config: { dtype: "fp32" } })).ids };
  assert.deepEqual(await run(meta, {}), expected);
  const bare = modelFromConfig({ ...meta.config }, { dtype: "fp32" });
  assert.equal(bare.folder, undefined);
  assert.deepEqual(await run(bare, { baseDir: golden }), expected);
  const checkpoint = { type: "ds_model", checkpoints: [`${golden}/model.safetensors`], version: 1 };
  assert.deepEqual(await run(bare, { checkpoint }), expected);
  // A tokenizer beside the weights is theirs.
  const weights = { ...checkpoint, checkpoints: [`${demoModel}/model.safetensors`] };
  const demo = modelFromConfig({ ...(await AutoConfig.fromPretrained(demoModel)) });
  await using engine = await initInference(demo, { device: "cpu", checkpoint: weights });
  assert.match((await engine.generate("Call me", { maxNewTokens: 2 })).text, /^, and/);
  // What ends a sequence is in the config, wherever that came from.
  const ending = modelFromConfig({ ...meta.config, eos_token_id: expected.ids[2], dtype: "float32" });
  await using short = await initInference(ending, { device: "cpu", checkpoint });
  const { ids: found, finishReason } = await short.generate(ids, { maxNewTokens: 6 });
  assert.deepEqual(
    [found, finishReason],
    [expected.ids.slice(0, expected.ids.indexOf(expected.ids[2] as number) + 1), "stop"],
  );
  assert.equal((await run(bare, { checkpoint, config: { dtype: "bf16" } })).dtype, "bfloat16");
  await assert.rejects(
    run(bare, {}),
    hasCode("ERR_CHECKPOINT", /made from a config and has no weights\. Pass a checkpoint/),
  );
  await assert.rejects(
    initInference(undefined as never),
    hasCode("ERR_INVALID_ARGUMENT", /what modelFromConfig\(\) made/),
  );
});
