import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type InitOptions, initInference } from "../../dist/index.js";
import { fixture, hasCode } from "../support/fixtures.js";

// Adapters of PEFT, merged while a model is loaded, against what transformers computes with them (fixtures/adapters/make_adapters.py).

interface Golden {
  base: string;
  prompts: { ids: number[]; logits: number[]; greedy?: number[] }[];
}

const folder = fixture("adapters");
const names = readdirSync(folder).filter((name) => !name.includes("."));
const readGolden = (name: string) => JSON.parse(readFileSync(join(folder, name, "golden.json"), "utf8")) as Golden;
const baseOf = ({ base }: Golden) => fixture("golden", base);

async function compare(name: string, options: InitOptions, tolerance: number): Promise<void> {
  const golden = readGolden(name);
  const engine = await initInference(baseOf(golden), { device: "cpu", adapter: join(folder, name), ...options });
  try {
    for (const { ids, logits, greedy } of golden.prompts) {
      const { data, dims } = (await engine.forward({ inputIds: [ids] })).logits ?? assert.fail("no logits");
      const last = data.slice(-(dims.at(-1) as number));
      const largest = Math.max(...logits.map(Math.abs));
      assert.equal(last.length, logits.length);
      for (const [i, value] of logits.entries()) {
        const difference = Math.abs(value - (last[i] as number)) / largest;
        assert.ok(difference <= tolerance, `${name}: logit ${i} is ${last[i]}, expected ${value}`);
      }
      if (!greedy) continue;
      const result = await engine.generate(ids, { maxNewTokens: greedy.length, ignoreEos: true });
      assert.deepEqual(result.ids, greedy);
    }
  } finally {
    await engine.dispose();
  }
}

describe("adapters of PEFT, merged in fp32", () => {
  test("there are fixtures of every kind", () => assert.ok(names.length >= 15, names.join()));
  for (const name of names) test(name, () => compare(name, { dtype: "fp32" }, 1e-5));
});

describe("adapters on two ranks", () => {
  for (const name of names) test(name, () => compare(name, { dtype: "fp32", tpSize: 2 }, 1e-5));
});

describe("adapters in 16 bits", () => {
  for (const name of ["llama_all", "gpt2_conv", "bloom_fused", "llama_dora"]) {
    for (const [dtype, tolerance] of [
      ["fp16", 4e-3],
      ["bf16", 3e-2],
    ] as const) {
      test(`${name} in ${dtype}`, async () => {
        const golden = readGolden(name);
        await using engine = await initInference(baseOf(golden), {
          device: "cpu",
          adapter: join(folder, name),
          dtype,
        });
        for (const { ids, logits } of golden.prompts) {
          const { data } = (await engine.forward({ inputIds: [ids] })).logits ?? assert.fail("no logits");
          const last = data.slice(-logits.length);
          const largest = Math.max(...logits.map(Math.abs));
          const error = Math.max(...logits.map((value, i) => Math.abs(value - (last[i] as number)))) / largest;
          assert.ok(error <= tolerance, `an error of ${error}`);
        }
      });
    }
  }
});

describe("adapters beside other options", () => {
  for (const name of ["llama_all", "gpt2_conv", "llama_tied_head", "opt_bias", "bloom_fused"]) {
    test(`${name} on a base in shards`, async () => {
      const shards = mkdtempSync(join(tmpdir(), "shardspeed-shards-"));
      try {
        const base = baseOf(readGolden(name));
        const config = { save_mp_checkpoint_path: shards, tensor_parallel: { tp_size: 2 } };
        await (await initInference(base, { device: "cpu", config })).dispose();
        const checkpoint = join(shards, "ds_inference_config.json");
        await compare(name, { dtype: "fp32", checkpoint }, 1e-5);
        await compare(name, { dtype: "fp32", checkpoint, tpSize: 2 }, 1e-5);
      } finally {
        rmSync(shards, { recursive: true });
      }
    });
  }

  test("module.adapter says what was merged", async () => {
    const adapter = join(folder, "gpt2_conv");
    await using engine = await initInference(fixture("golden", "gpt2"), { device: "cpu", adapter });
    assert.deepEqual(engine.module.adapter, {
      folder: adapter,
      method: "LoRA",
      modules: 8,
      rank: 2,
      replacedTensors: engine.module.adapter?.replacedTensors,
    });
    assert.ok((engine.module.adapter?.replacedTensors ?? 0) >= 8);
    await using plain = await initInference(fixture("golden", "gpt2"), { device: "cpu" });
    assert.equal(plain.module.adapter, undefined);
  });

  test("shards of a merged model are not written", () =>
    assert.rejects(
      initInference(fixture("golden", "llama"), {
        device: "cpu",
        adapter: join(folder, "llama_qv"),
        config: { save_mp_checkpoint_path: join(tmpdir(), "never") },
      }),
      hasCode("ERR_CONFIG", /adapter.*save_mp_checkpoint_path/),
    ));

  for (const adapter of ["", 5, "a\0b"])
    test(`adapter ${JSON.stringify(adapter)}`, () =>
      assert.rejects(
        initInference(fixture("golden", "llama"), { device: "cpu", adapter: adapter as string }),
        hasCode("ERR_INVALID_ARGUMENT", /adapter/),
      ));
  test("a folder that is not there", () =>
    assert.rejects(
      initInference(fixture("golden", "llama"), { device: "cpu", adapter: "/nowhere/at/all" }),
      hasCode("ERR_CHECKPOINT", /\/nowhere\/at\/all/),
    ));
});
