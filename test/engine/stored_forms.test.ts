import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type InitOptions, initInference } from "../../dist/index.js";
import { demoModel, fixture, readJson } from "../support/fixtures.js";

/** Checkpoints as users have them, each with what transformers 5.24 generates from that very folder. */
describe("checkpoints in unusual forms, as transformers loads them", () => {
  for (const [name, what] of [
    ["tied_head_in_index", "an index that names a tied head which is in no shard"],
    ["float64", "weights in float64"],
  ] as const) {
    test(what, async () => {
      const { ids, new: expected } = readJson<{ ids: number[]; new: number[] }>(
        fixture("users", name, "expected.json"),
      );
      await using engine = await initInference(fixture("users", name), { threads: 1 });
      assert.equal(engine.module.dtype, "float32");
      const { ids: found } = await engine.generate(ids, { maxNewTokens: expected.length, ignoreEos: true });
      assert.deepEqual(found, expected);
    });
  }

  test("a snapshot in the cache of Hugging Face, whose files are links, by its name", async (t) => {
    const home = mkdtempSync(path.join(tmpdir(), "shardspeed-home-"));
    const before = process.env.HF_HOME;
    t.after(() => {
      rmSync(home, { recursive: true });
      if (before === undefined) delete process.env.HF_HOME;
      else process.env.HF_HOME = before;
    });
    process.env.HF_HOME = home;
    const model = path.join(home, "hub", "models--shardspeed--demo");
    mkdirSync(path.join(model, "refs"), { recursive: true });
    writeFileSync(path.join(model, "refs", "main"), "0123abcd");
    mkdirSync(path.join(model, "snapshots", "0123abcd"), { recursive: true });
    for (const name of readdirSync(demoModel)) {
      symlinkSync(path.join(path.resolve(demoModel), name), path.join(model, "snapshots", "0123abcd", name));
    }
    const generate = async (place: string) => {
      await using engine = await initInference(place, { threads: 1 });
      return (await engine.generate("Once", { maxNewTokens: 5 })).ids;
    };
    const expected = await generate(demoModel);
    for (const place of ["shardspeed/demo", model]) assert.deepEqual(await generate(place), expected);
  });
});

describe("weights beyond the range of fp16", () => {
  /** gpt2_fp32 with some values of a tensor replaced. */
  const spoil = (folder: string, tensor: string, values: Record<number, number>) => {
    cpSync(fixture("golden", "gpt2_fp32"), folder, { recursive: true });
    const file = path.join(folder, "model.safetensors");
    const bytes = readFileSync(file);
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
    assert.equal(header[tensor].dtype, "F32");
    const start = 8 + headerBytes + header[tensor].data_offsets[0];
    for (const [place, value] of Object.entries(values)) bytes.writeFloatLE(value, start + 4 * Number(place));
    writeFileSync(file, bytes);
  };
  const warningsOf = async (t: TestContext, tensor: string, values: Record<number, number>, options: InitOptions) => {
    const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-overflow-"));
    t.after(() => rmSync(folder, { recursive: true }));
    spoil(folder, tensor, values);
    const said: string[] = [];
    const logger = { debug() {}, info() {}, warn: (message: string) => void said.push(message), error() {} };
    await using _ = await initInference(folder, { device: "cpu", threads: 1, logger, ...options });
    return said.filter((message) => message.includes("float16"));
  };
  const matrix = "transformer.h.0.mlp.c_fc.weight";

  for (const tpSize of [1, 2]) {
    test(`are named with their tensor where the engine computes in fp16, ${tpSize} ranks`, async (t) => {
      const [said, ...others] = await warningsOf(t, matrix, { 5: 1e6, 9: -1e5, 11: 65504 }, { dtype: "fp16", tpSize });
      assert.match(said ?? "", /became infinite: 2 of transformer\.h\.0\.mlp\.c_fc\.weight\. Use dtype "bf16"/);
      assert.deepEqual(others, []);
    });
  }

  test("nothing is said where they fit: bf16, fp32, and vectors, which stay fp32", async (t) => {
    for (const dtype of ["bf16", "fp32"]) assert.deepEqual(await warningsOf(t, matrix, { 5: 1e6 }, { dtype }), []);
    assert.deepEqual(await warningsOf(t, "transformer.h.0.ln_1.weight", { 5: 1e6 }, { dtype: "fp16" }), []);
    assert.deepEqual(await warningsOf(t, matrix, {}, { dtype: "fp16" }), []);
  });
});
