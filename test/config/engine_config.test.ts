import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { resolveConfig } from "../../dist/config/index.js";
import type { Logger } from "../../dist/logger.js";

async function resolve(config: object | string | undefined) {
  const warnings: string[] = [];
  const logger: Logger = { debug() {}, info() {}, warn: (line) => warnings.push(line), error() {} };
  return { ...(await resolveConfig(config, logger)), warnings };
}

const nothing = { dtype: undefined, tpSize: 1, maxOutTokens: undefined, warnings: [] };

describe("what DeepSpeed 0.19.8 makes of configs", async () => {
  const fixture = new URL("../../test/fixtures/deepspeed/config_cases.json", import.meta.url);
  const cases: { config: Record<string, unknown>; error?: string; differs?: Record<string, unknown> }[] = JSON.parse(
    await readFile(fixture, "utf8"),
  );
  /** Accepted here although DeepSpeed refuses it: the spelling is clear, or the key has no effect. */
  const wider = ['{"dtype":"torch.half"}', '{"dtype":"Float16"}', '{"use_triton":true}', '{"zero":{"stage":9}}'];
  /** Known, and not there yet. */
  const later = /is not supported yet|tp_size: expected at least 1/;
  for (const { config, error, differs } of cases) {
    const text = JSON.stringify(config);
    test(text, async () => {
      if (error !== undefined && !wider.includes(text)) {
        await assert.rejects(resolve(config), { code: "ERR_CONFIG" });
      } else {
        try {
          const { maxOutTokens, dtype } = await resolve(config);
          if (differs?.max_out_tokens !== undefined) assert.equal(maxOutTokens, differs.max_out_tokens);
          if (differs?.dtype !== undefined) assert.equal(`torch.${dtype}`, differs.dtype);
        } catch (failure) {
          assert.match((failure as Error).message, later);
        }
      }
      assert.equal(JSON.stringify(config), text);
    });
  }
});

describe("keys that are followed", () => {
  for (const [dtype, names] of Object.entries({
    float16: ["fp16", "half", "float16", "torch.float16", "torch.half", "FP16"],
    bfloat16: ["bf16", "bfloat16", "torch.bfloat16", "bfloat"],
    float32: ["fp32", "float", "float32", "torch.float32", "torch.float"],
  })) {
    for (const name of names) {
      test(`dtype ${name} is ${dtype}`, async () =>
        assert.deepEqual(await resolve({ dtype: name }), { ...nothing, dtype }));
    }
  }

  test("int8 is not supported yet", async () => {
    await assert.rejects(resolve({ dtype: "torch.int8" }), {
      code: "ERR_CONFIG",
      message: /int8" is not supported yet/,
    });
  });

  test("tp_size in all its places", async () => {
    for (const config of [
      { tensor_parallel: { tp_size: 1 } },
      { tp: { tp_size: "1" } },
      { mp_size: 1.0 },
      { tp: {} },
    ]) {
      assert.deepEqual(await resolve(config), nothing);
    }
    for (const config of [{ tensor_parallel: { tp_size: 2 } }, { tp: { tp_size: "2" } }, { mp_size: 2 }]) {
      assert.equal((await resolve(config)).tpSize, 2);
    }
    await assert.rejects(resolve({ tp: { tp_size: -1 } }), { code: "ERR_CONFIG", message: /at least 1, found -1/ });
  });

  test("tensor_parallel that is not enabled is one rank, with a warning", async () => {
    const { tpSize, warnings } = await resolve({ tensor_parallel: { enabled: false, tp_size: 4 } });
    assert.equal(tpSize, 1);
    assert.equal(warnings.length, 1);
  });

  test("max_out_tokens", async () => {
    assert.equal((await resolve({ max_out_tokens: 10 })).maxOutTokens, 10);
    assert.equal((await resolve({ max_tokens: "10" })).maxOutTokens, 10);
  });
});

describe("keys without effect", () => {
  test("one warning names them all, and defaults are none", async () => {
    const { warnings } = await resolve({
      enable_cuda_graph: true,
      zero: { stage: 3 },
      return_tuple: true,
      tm: true,
      tp: { tp_grain_size: 32 },
    });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /no effect here: enable_cuda_graph, zero, tensor_parallel\.tp_grain_size$/);
    assert.deepEqual(
      await resolve({ replace_with_kernel_inject: true, replace_method: "auto", checkpoint: null, moe: "auto" }),
      nothing,
    );
    assert.deepEqual(await resolve(undefined), nothing);
    assert.deepEqual(await resolve({}), nothing);
  });
});

describe("errors", () => {
  const wrong: [unknown, RegExp][] = [
    [{ tensr_parallel: {} }, /unknown key tensr_parallel\. Did you mean tensor_parallel\?/],
    [{ tensor_parallel: { tpsize: 1 } }, /unknown key tensor_parallel\.tpsize\. Did you mean tp_size\?/],
    [{ tp_size: 1 }, /Did you mean tensor_parallel\.tp_size\?/],
    [{ max_new_tokens: 1 }, /unknown key max_new_tokens/],
    [{ tp: {}, tensor_parallel: {} }, /both tp and tensor_parallel/],
    [{ mp_size: 1, tp: { tp_size: 1 } }, /both mp_size and tensor_parallel\.tp_size/],
    [{ tensor_parallel: { tp_size: 1.5 } }, /tensor_parallel\.tp_size: expected an integer, found 1\.5/],
    [{ max_out_tokens: 0 }, /max_out_tokens: expected more than 0, found 0/],
    [{ dtype: "fp8" }, /dtype: expected "fp16", "bf16" or "fp32", found "fp8"/],
    [{ enable_cuda_graph: "maybe" }, /enable_cuda_graph: expected true or false, found "maybe"/],
    [{ config: { hidden_size: 5 } }, /config is not supported yet/],
    [[], /found \[\]/],
  ];
  for (const [config, message] of wrong) {
    test(JSON.stringify(config), () => assert.rejects(resolve(config as object), { code: "ERR_CONFIG", message }));
  }

  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-config-"));
  });
  after(() => rm(folder, { recursive: true }));

  test("a file is read, and named in errors with the place", async () => {
    const file = path.join(folder, "ds-config.json");
    await writeFile(file, '{"dtype": "fp32"}');
    assert.deepEqual(await resolve(file), { ...nothing, dtype: "float32" });
    const broken: [string, RegExp][] = [
      ['{\n  "dtype": fp16\n}', /line 2, column 1[23]/],
      ['{"dtype": "fp16",}', /line 1, column 18/],
      ["", /line 1, column 1/],
      ['{"dtype": "fp16"', /line 1, column 17/],
      ["// comment\n{}", /line 1, column 1/],
      ['{"a": 1} x', /line 1, column 10/],
    ];
    for (const [text, place] of broken) {
      await writeFile(file, text);
      await assert.rejects(resolve(file), (error: Error & { code: string }) => {
        assert.equal(error.code, "ERR_CONFIG");
        assert.ok(error.message.startsWith(`${file} is not JSON`), error.message);
        assert.match(error.message, place);
        return true;
      });
    }
    await writeFile(file, "[1]");
    await assert.rejects(resolve(file), { code: "ERR_CONFIG", message: /ds-config\.json: expected an object/ });
    await assert.rejects(resolve(path.join(folder, "none.json")), { code: "ERR_CONFIG", message: /none\.json/ });
    await assert.rejects(resolve(folder), { code: "ERR_CONFIG" });
  });
});
