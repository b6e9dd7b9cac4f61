import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { fixture, type Golden, hasCode, readJson } from "../support/fixtures.js";
import { goldenWeights, type Tensor, type Tensors, writeSafetensors } from "../support/shard_writer.js";
import { type Config, readConfig } from "./helpers.js";
import { ReferenceModel } from "./reference.js";

// Experts in tensors of their own and in tensors for all, as transformers 5 holds them: the same model.

/** Tensors one behind the other, with a dimension more where they are to be told apart. */
function join_(parts: readonly Tensor[], shape: number[]): Tensor {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return { shape, data };
}

/** The same weights as transformers 5 holds them, under these names of layers' parts. */
function fuse(
  weights: Tensors,
  names: { gate: string; up: string; down: string },
  renames: [RegExp, string][],
): Tensors {
  const fused: Tensors = new Map();
  const take = (stem: string, name: string) => weights.get(`${stem}.${name}.weight`) as Tensor;
  for (const [name, tensor] of weights) {
    const [, before, expert] = /^(.*\.experts)\.(\d+)\./.exec(name) ?? [];
    if (before === undefined) {
      fused.set(
        renames.reduce((text, [from, to]) => text.replace(from, to), name),
        tensor,
      );
      continue;
    }
    const stem = before.replace("block_sparse_moe", "mlp");
    if (expert !== "0" || fused.has(`${stem}.down_proj`)) continue;
    const count = [...weights.keys()].filter((key) => key.startsWith(before) && key.includes(`.${names.up}.`)).length;
    const experts = Array.from({ length: count }, (_, index) => `${before}.${index}`);
    const [size = 0, hidden = 0] = take(experts[0] as string, names.up).shape;
    const gateUp = experts.flatMap((one) => [take(one, names.gate), take(one, names.up)]);
    fused.set(`${stem}.gate_up_proj`, join_(gateUp, [count, 2 * size, hidden]));
    const down = experts.map((one) => take(one, names.down));
    fused.set(`${stem}.down_proj`, join_(down, [count, hidden, size]));
  }
  return fused;
}

const mixtralNames = { gate: "w1", up: "w3", down: "w2" };
const commonNames = { gate: "gate_proj", up: "up_proj", down: "down_proj" };
const cases: Record<string, [names: typeof commonNames, renames: [RegExp, string][]]> = {
  mixtral: [mixtralNames, [[/block_sparse_moe/, "mlp"]]],
  phimoe: [mixtralNames, [[/block_sparse_moe\.gate/, "mlp.router"]]],
  qwen2_moe: [commonNames, []],
  qwen3_moe: [commonNames, []],
  olmoe: [commonNames, []],
  granitemoe: [
    commonNames,
    [
      [/input_linear\.weight/, "experts.gate_up_proj"],
      [/output_linear\.weight/, "experts.down_proj"],
      [/router\.layer/, "router"],
    ],
  ],
};

async function logitsOf(config: Config, folder: string, ids: readonly number[]) {
  const resolved = resolveWeights(describeModel(config), await openCheckpoint(folder));
  return new ReferenceModel(resolved.spec, resolved).logits(ids);
}

describe("experts in tensors for all", () => {
  for (const [name, [names, renames]] of Object.entries(cases)) {
    test(name, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), "shardspeed-experts-"));
      t.after(() => rmSync(folder, { recursive: true }));
      const fused = fuse(goldenWeights(name), names, renames);
      assert.ok([...fused.keys()].some((key) => key.endsWith("experts.gate_up_proj")));
      assert.ok(![...fused.keys()].some((key) => /experts\.\d/.test(key)));
      writeSafetensors(folder, "model.safetensors", fused);
      const config = readConfig(fixture("golden", name, "config.json"));
      const { prompts } = readJson<Golden>(fixture("golden", name, "golden.json"));
      const ids = prompts[1]?.ids ?? [];
      assert.deepEqual(await logitsOf(config, folder, ids), await logitsOf(config, fixture("golden", name), ids));
    });
  }
});

describe("settings of experts", () => {
  const refused: [name: string, change: Config, message: RegExp][] = [
    ["mixtral", { num_experts_per_tok: 5 }, /num_experts_per_tok = 5, expected an integer from 1 to 4/],
    ["mixtral", { num_experts: 5 }, /num_experts = 5, expected 4, as num_local_experts/],
    ["mixtral", { num_local_experts: 0 }, /num_local_experts = 0, expected an integer from 1 to 4096/],
    ["mixtral", { num_local_experts: 4096, num_hidden_layers: 65 }, /num_local_experts = 4096.* 262144 .* 65 layers/],
    ["phimoe", { num_experts_per_tok: 1 }, /num_experts_per_tok = 1, expected 2/],
    ["qwen2_moe", { mlp_only_layers: "all" }, /mlp_only_layers = "all"/],
    ["qwen3_moe", { decoder_sparse_step: 0 }, /decoder_sparse_step = 0/],
    ["llama4_text", { moe_layers: [0.5] }, /moe_layers/],
    ["deepseek_v2", { norm_topk_prob: true }, /norm_topk_prob = true, expected false/],
    ["deepseek_v2", { topk_method: "noaux_tc" }, /topk_method = "noaux_tc"/],
    ["deepseek_v2", { v_head_dim: 25 }, /v_head_dim = 25, expected at most 24/],
    ["deepseek_v2", { num_key_value_heads: 2 }, /num_key_value_heads = 2, expected the number of attention heads, 4/],
    ["deepseek_v3", { n_group: 3 }, /n_group = 3, expected a divisor of the number of experts, 8/],
    ["deepseek_v3", { n_group: 8 }, /n_group = 8, expected groups of at least 2 experts/],
    ["deepseek_v3", { num_experts_per_tok: 5 }, /topk_group = 2, expected groups with 5 experts or more/],
    ["deepseek_v3", { head_dim: 9 }, /head_dim = 9, expected 8 or 24/],
    ["gpt_oss", { quantization_config: { quant_method: "mxfp4" } }, /mxfp4/],
  ];
  for (const [name, change, message] of refused) {
    test(`${name} ${JSON.stringify(change)}`, () => {
      const config = { ...readConfig(fixture("golden", name, "config.json")), ...change };
      assert.throws(() => describeModel(config), hasCode("ERR_UNSUPPORTED_MODEL", message));
    });
  }

  test("layers with experts are those that config.json names", () => {
    const experts = (name: string, change: Config) => {
      const { spec } = describeModel({ ...readConfig(fixture("golden", name, "config.json")), ...change });
      return spec.layers.map((kind) => spec.kinds[kind]?.feedForward.kind === "experts");
    };
    assert.deepEqual(experts("qwen3_moe", {}), [false, true, true]);
    assert.deepEqual(experts("qwen3_moe", { mlp_only_layers: [], decoder_sparse_step: 2 }), [false, true, false]);
    assert.deepEqual(experts("qwen2_moe", { mlp_only_layers: [1] }), [true, false]);
    assert.deepEqual(experts("llama4_text", { moe_layers: null }), [false, true, false, true]);
    assert.deepEqual(experts("llama4_text", { moe_layers: [] }), [false, false, false, false]);
  });

  test("DeepSeek-V2 chooses from groups, and scales scores as YaRN does", () => {
    const config = readConfig(fixture("golden", "deepseek_v2", "config.json"));
    const grouped = { topk_method: "group_limited_greedy", n_group: 2, topk_group: 1, routed_scaling_factor: 16 };
    const yarn = {
      type: "yarn",
      factor: 40,
      original_max_position_embeddings: 32,
      mscale: 0.8,
      mscale_all_dim: 0.8,
    };
    const { spec } = describeModel({ ...config, ...grouped, rope_parameters: undefined, rope_scaling: yarn });
    const feedForward = spec.kinds[1]?.feedForward;
    assert.ok(feedForward?.kind === "experts");
    assert.deepEqual(feedForward.router, {
      ...{ normalise: false, scoring: "softmax", scale: 16, groups: { count: 2, chosen: 1, best: 1 } },
    });
    const scale = 0.1 * 0.8 * Math.log(40) + 1;
    assert.ok(Math.abs((spec.kinds[0]?.attention.scale ?? 0) - 24 ** -0.5 * scale ** 2) < 1e-12);
    assert.equal(spec.rotaryTables[0]?.amplitude, 1);
  });

  test("the scaled frequencies of Phi-3.5-MoE have multipliers of their own", () => {
    const factors = Array<number>(6).fill(2);
    const scaling = { type: "longrope", short_factor: Array<number>(6).fill(1), long_factor: factors };
    const config = readConfig(fixture("golden", "phimoe", "config.json"));
    const { spec } = describeModel({
      ...{ ...config, rope_parameters: undefined, rope_theta: 10_000, original_max_position_embeddings: 32 },
      rope_scaling: { ...scaling, short_mscale: 1.25, long_mscale: 1.5 },
    });
    assert.equal(spec.rotaryTables[0]?.amplitude, 1.25);
    assert.equal(spec.rotaryTables[0]?.long?.amplitude, 1.5);
  });
});
