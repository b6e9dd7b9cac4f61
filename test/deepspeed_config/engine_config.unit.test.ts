import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { rejectConflicts, resolveConfig, withOptions } from "../../dist/deepspeed_config/engine_config.js";
import { hasCode } from "../support/fixtures.js";
import { listener, parse } from "./helpers.js";

function resolve(config?: object | string) {
  const { resolved, namesTpSize, where, ...rest } = resolveConfig(config);
  return rest;
}

const nothing = {
  dtype: undefined,
  tpSize: 1,
  maxOutTokens: undefined,
  minOutTokens: 1,
  checkpoint: undefined,
  baseDir: undefined,
  saveMpCheckpointPath: undefined,
};

describe("what an engine takes from a config", () => {
  test("nothing is what it gets from none, and from defaults that ask for nothing", () => {
    assert.deepStrictEqual(resolve(), nothing);
    assert.deepStrictEqual(resolve({}), nothing);
    assert.deepStrictEqual(resolve({ dtype: "auto", max_out_tokens: "auto", mp_size: "auto" }), nothing);
    assert.deepStrictEqual(resolve({ checkpoint: null, base_dir: "", save_mp_checkpoint_path: null }), nothing);
  });

  test("all of it", () => {
    const config = {
      ...{ dtype: "torch.half", tensor_parallel: { tp_size: "2" }, max_tokens: 100, min_tokens: 5 },
      ...{ checkpoint: { type: "ds_model" }, base_dir: "weights", save_mp_checkpoint_path: "out" },
    };
    assert.deepStrictEqual(resolve(config), {
      ...{ dtype: "float16", tpSize: 2, maxOutTokens: 100, minOutTokens: 5 },
      ...{ checkpoint: { type: "ds_model" }, baseDir: "weights", saveMpCheckpointPath: "out" },
    });
    assert.deepStrictEqual(resolveConfig(config).resolved, parse(config).resolved);
  });

  test("a dtype and a limit that equal DeepSpeed's defaults are named all the same", () => {
    assert.equal(resolve({ dtype: "fp16" }).dtype, "float16");
    assert.equal(resolve({ max_out_tokens: 1024 }).maxOutTokens, 1024);
    assert.equal(resolve({ max_out_tokens: 10 ** 12 }).maxOutTokens, 10 ** 12);
  });

  test("every dtype", () => {
    for (const [dtype, expected] of [
      ["fp16", "float16"],
      ["bf16", "bfloat16"],
      ["fp32", "float32"],
    ] as const)
      assert.equal(resolve({ dtype }).dtype, expected);
  });

  test("tp_size in all its places", () => {
    for (const config of [{ tensor_parallel: { tp_size: 2 } }, { tp: { tp_size: "2" } }, { mp_size: 2.0 }])
      assert.equal(resolve(config).tpSize, 2);
    assert.equal(resolve({ tp: { enabled: false, tp_size: 2 } }).tpSize, 1);
  });

  test("it may be awaited, and takes a path", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-config-"));
    try {
      const file = path.join(folder, "ds-config.json");
      await writeFile(file, '{"mp_size": 2}');
      const { logger, warnings } = listener();
      assert.equal((await resolveConfig(file, logger)).tpSize, 2);
      assert.deepEqual(warnings, [`${file}: deprecated: mp_size (write tensor_parallel.tp_size)`]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  const refused: [object, RegExp][] = [
    [{ dtype: "torch.int8" }, /dtype "torch.int8" is not supported yet\. Use "fp16", "bf16" or "fp32"/],
    [{ config: { hidden_size: 5 } }, /: config is not supported: change the model's config\.json/],
    [{ args: { hidden_size: 5 } }, /: args is not supported/],
    [{ checkpoint: "" }, /checkpoint: expected a path, found ""/],
    [{ save_mp_checkpoint_path: "" }, /save_mp_checkpoint_path: expected a path, found ""/],
    [{ min_tokens: 20, max_tokens: 10 }, /min_tokens 20 is more than max_tokens 10/],
  ];
  for (const [config, message] of refused) {
    test(`refused, though it parses: ${JSON.stringify(config)}`, () => {
      assert.throws(() => resolve(config), hasCode("ERR_CONFIG", message));
      assert.doesNotThrow(() => parse(config));
    });
  }
});

describe("options that the config contradicts", () => {
  const config = resolveConfig({ checkpoint: { type: "bloom", checkpoints: ["a"] }, base_dir: "x", dtype: "half" });

  test("the same twice is fine, and so is one of the two", () => {
    rejectConflicts(config, { checkpoint: { checkpoints: ["a"], type: "bloom" }, baseDir: "x", dtype: "torch.FP16" });
    rejectConflicts(config, {});
    rejectConflicts(resolveConfig({ base_dir: "", checkpoint: null }), {
      checkpoint: "a",
      baseDir: "b",
      dtype: "fp32",
    });
  });

  test("an option counts where the config names nothing", () => {
    const { dtype, tpSize } = withOptions(resolveConfig({}), { dtype: "half", tpSize: 2 });
    assert.deepEqual([dtype, tpSize], ["float16", 2]);
    const named = resolveConfig({ dtype: "bf16", mp_size: 2 });
    assert.ok(named.namesTpSize);
    const same = withOptions(named, { dtype: "bfloat16", tpSize: 2 });
    assert.deepEqual([same.dtype, same.tpSize], ["bfloat16", 2]);
    assert.deepEqual([withOptions(named, {}).dtype, withOptions(named, {}).tpSize], ["bfloat16", 2]);
  });

  test("other values are an error with both", () => {
    const cases: [Parameters<typeof rejectConflicts>[1], RegExp][] = [
      [{ checkpoint: "b.json" }, /checkpoint "b\.json" in the options and checkpoint \{"type":"bloom".* in the/],
      [{ checkpoint: { type: "bloom", checkpoints: ["b"] } }, /checkpoint/],
      [{ baseDir: "y" }, /baseDir "y" in the options and base_dir "x" in the DeepSpeed config: remove one/],
      [{ dtype: "bf16" }, /dtype "bf16" in the options and dtype "float16"/],
      [{ tpSize: 3 }, /tpSize 3 in the options and tensor_parallel\.tp_size 2/],
      [{ dtype: "nonsense" }, /dtype "nonsense" in the options/],
    ];
    for (const [options, message] of cases)
      assert.throws(
        () => rejectConflicts({ ...config, tpSize: 2, namesTpSize: true }, options),
        hasCode("ERR_CONFIG", message),
      );
  });
});
