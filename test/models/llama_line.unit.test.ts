import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";
import { goldenWeights, run, type Tensor, type Tensors, takeRows, writeSafetensors } from "../support/shard_writer.js";
import { type Config, collectWarnings, readConfig, traitsOf } from "./helpers.js";
import { ReferenceModel } from "./reference.js";

// Families that derive from Llama: configs as they are published, rules of layers, settings that are refused, and two families of which
// transformers has no code. What the others compute is checked by golden.unit.test.ts.

/** A golden config with changes; undefined leaves a key out. */
function changed(name: string, changes: Config): Config {
  const config = { ...readConfig(fixture("golden", name, "config.json")), ...changes };
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));
}

function describeQuietly(config: Config) {
  const { warnings, logger } = collectWarnings();
  const { spec } = describeModel(config, { logger });
  assert.deepEqual(warnings, []);
  return traitsOf(spec);
}

const none = undefined;

describe("which layers have windows and positions", () => {
  const cases: [string, string, Config, { windows?: unknown; positions?: unknown; tables?: unknown }][] = [
    ["Mistral without a window", "mistral", { sliding_window: null }, { windows: none }],
    ["Mistral's default", "mistral", { sliding_window: none }, { windows: 4096 }],
    ["Qwen2 leaves a window unused", "qwen2", { sliding_window: 8, use_sliding_window: false }, { windows: none }],
    [
      "Qwen2's window in the last layers",
      "qwen2",
      { layer_types: none, sliding_window: 8, use_sliding_window: true, max_window_layers: 1 },
      { windows: [none, 8] },
    ],
    [
      "Qwen2's window in all",
      "qwen3",
      { layer_types: none, sliding_window: 8, use_sliding_window: true, max_window_layers: 0 },
      { windows: 8 },
    ],
    ["older names of layers", "qwen2", { layer_types: ["attention", "full_attention"] }, { windows: none }],
    ["Ministral's window in all", "ministral", { layer_types: none }, { windows: 8 }],
    ["Ministral without a window", "ministral", { layer_types: none, sliding_window: null }, { windows: none }],
    ["Gemma-2's in every second", "gemma2", { layer_types: none, num_hidden_layers: 3 }, { windows: [8, none, 8] }],
    [
      "Gemma-3's in five of six",
      "gemma3_text",
      { layer_types: none, num_hidden_layers: 7 },
      { windows: [8, 8, 8, 8, 8, none, 8], tables: [1, 1, 1, 1, 1, 0, 1] },
    ],
    [
      "Cohere2 by a pattern",
      "cohere2",
      { layer_types: none, sliding_window_pattern: 2 },
      { windows: [8, none, 8, none] },
    ],
    ["OLMo-3's in three of four", "olmo3", { layer_types: none, num_hidden_layers: 4 }, { windows: [8, 8, 8, none] }],
    [
      "EXAONE 4 without a window has positions everywhere",
      "exaone4",
      { layer_types: none, sliding_window: null, sliding_window_pattern: none },
      { windows: none, positions: "rotary" },
    ],
    [
      "EXAONE 4 by a pattern in letters",
      "exaone4",
      { layer_types: none, sliding_window_pattern: "LG" },
      { windows: [8, none, 8, none], positions: ["rotary", "none", "rotary", "none"] },
    ],
    [
      "SmolLM3's interval",
      "smollm3",
      { layer_types: none, no_rope_layers: none, no_rope_layer_interval: 2 },
      { positions: ["rotary", "none", "rotary", "none"] },
    ],
    [
      "SmolLM3 with a window where no positions are",
      "smollm3",
      { layer_types: none, use_sliding_window: true, sliding_window: 4 },
      { windows: [none, none, none, 4] },
    ],
  ];
  for (const [name, golden, changes, expected] of cases) {
    test(name, () => {
      const { windows, positions, tables } = describeQuietly(changed(golden, changes));
      const found = { windows, positions, tables };
      for (const [key, value] of Object.entries(expected)) assert.deepEqual(found[key as keyof typeof found], value);
    });
  }

  test("Llama 4 without experts: chunks, and layers whose queries grow", () => {
    const llama4 = {
      ...{ model_type: "llama4_text", vocab_size: 11, hidden_size: 8, num_attention_heads: 2, num_key_value_heads: 1 },
      ...{ head_dim: 4, num_hidden_layers: 4, intermediate_size_mlp: 12, attention_chunk_size: 4, moe_layers: [] },
    };
    const traits = describeQuietly(llama4);
    assert.deepEqual(traits.chunks, [4, 4, 4, none]);
    assert.deepEqual(traits.qkNorm, ["head", "head", "head", none]);
    assert.deepEqual(traits.temperature, [none, none, none, { scale: 0.1, period: 8192, offset: 1 }]);
    assert.equal(traits.ffnSize, 12);
    assert.deepEqual(describeQuietly({ ...llama4, attention_chunk_size: null }).chunks, none);
    assert.equal(traits.experts, none);
    assert.equal(describeQuietly({ ...llama4, moe_layers: none }).experts, "1 of 16");
  });
});

describe("a key that is absent has the value of the class in transformers", () => {
  for (const config of readJson<Config[]>(fixture("models", "defaults.json"))) {
    test(String(config.model_type), () => {
      const { spec } = describeModel({ model_type: config.model_type });
      assert.deepEqual(spec, describeModel(config).spec);
    });
  }
});

describe("settings of families", () => {
  test("StableLM with one norm for both parts, and norms of heads", () => {
    const traits = describeQuietly(changed("stablelm", { use_parallel_residual: true, qk_layernorm: true }));
    assert.deepEqual([traits.residual, traits.qkNorm], ["shared-norm parallel", "head"]);
  });

  test("keys of Llama that a family has no use for are accepted where they say nothing", () => {
    const unused = { attention_bias: false, mlp_bias: false, pretraining_tp: 2 };
    for (const name of ["mistral", "phi3", "qwen2", "starcoder2"]) describeQuietly(changed(name, unused));
    assert.throws(
      () => describeModel(changed("mistral", { attention_bias: true })),
      hasCode("ERR_UNSUPPORTED_MODEL", /attention_bias = true/),
    );
  });

  test("Gemma's gelu is its approximation", () => {
    for (const changes of [{ hidden_act: "gelu" }, { hidden_act: "gelu", hidden_activation: "gelu_pytorch_tanh" }])
      assert.equal(describeQuietly(changed("gemma", changes)).activation, "gelu_tanh");
  });

  test("HunYuan's dynamic with alpha is one larger base for all lengths", () => {
    const rope_scaling = {
      type: "dynamic",
      alpha: 1000,
      factor: 1,
      beta_fast: 32,
      beta_slow: 1,
      mscale: 1,
      mscale_all_dim: 1,
    };
    const { rotary } = describeQuietly(changed("hunyuan_v1_dense", { rope_scaling, rope_parameters: none }));
    assert.equal(rotary?.dynamic, none);
    const base = 10_000 * 1000 ** (16 / 14);
    assert.ok(Math.abs((rotary?.inverseFrequencies[1] as number) / base ** (-2 / 16) - 1) < 1e-6);
  });

  test("Phi-3's older names of longrope", () => {
    const rope = readConfig(fixture("golden", "phi3_longrope", "config.json")).rope_parameters as Config;
    const expected = describeQuietly(changed("phi3_longrope", {})).rotary;
    for (const rope_type of ["su", "yarn"]) {
      const config = changed("phi3_longrope", { rope_parameters: { ...rope, rope_type } });
      assert.deepEqual(describeQuietly(config).rotary, expected);
    }
  });

  test("Gemma-3's scaling, in transformers 4's form, is of its full layers", () => {
    const scaled = { rope_parameters: none, rope_scaling: { rope_type: "linear", factor: 8 }, rope_theta: 1e6 };
    const { spec } = describeModel(changed("gemma3_text", { ...scaled, rope_local_base_freq: 500 }));
    const [full, sliding] = spec.rotaryTables;
    assert.equal(full?.inverseFrequencies[0], 1 / 8);
    assert.ok(Math.abs((sliding?.inverseFrequencies[1] as number) - 500 ** (-2 / 16)) < 1e-7);
  });

  test("OLMo-3's scaling is of its full layers", () => {
    const rope_scaling = { rope_type: "yarn", factor: 8, original_max_position_embeddings: 16 };
    const { spec } = describeModel(changed("olmo3", { rope_parameters: none, rope_theta: 500_000, rope_scaling }));
    assert.ok((spec.rotaryTables[0]?.amplitude as number) > 1.2);
    assert.equal(spec.rotaryTables[1]?.amplitude, 1);
    assert.equal(spec.maxPositions, 128);
  });
});

describe("settings that are refused", () => {
  const cases: [string, Config, RegExp][] = [
    ["qwen2", { layer_types: ["full_attention"] }, /layer_types = .*expected a list of 2/],
    ["qwen2", { layer_types: ["full_attention", "mamba"] }, /layer_types.*only full_attention.*It has "mamba"/],
    [
      "qwen2",
      { layer_types: ["full_attention", "sliding_attention"], sliding_window: 4 },
      /use_sliding_window = false/,
    ],
    ["gemma2", { sliding_window: null }, /sliding_window = null, expected an integer/],
    ["gemma2", { attn_logit_softcapping: -1 }, /attn_logit_softcapping = -1/],
    ["gemma3_text", { use_bidirectional_attention: true }, /use_bidirectional_attention = true, expected false/],
    ["gemma3_text", { attn_logit_softcapping: 50 }, /attn_logit_softcapping = 50/],
    ["gemma3_text", { rope_scaling: { rope_type: "linear", factor: 2 } }, /no such section beside/],
    ["gemma", { hidden_activation: "relu" }, /hidden_activation = "relu"/],
    ["cohere2", { head_dim: 16 }, /head_dim = 16, expected hidden_size/],
    ["stablelm", { head_dim: 8 }, /head_dim = 8/],
    ["helium", { head_dim: 8 }, /head_dim = 8/],
    ["stablelm", { rope_parameters: { partial_rotary_factor: 0.2 } }, /partial_rotary_factor = 0\.2.*even number.*3/],
    [
      "phi3",
      { rope_scaling: { type: "linear", factor: 2 } },
      /rope_scaling\.type = "linear".*one of default, longrope/,
    ],
    [
      "phi3_longrope",
      { rope_parameters: { rope_type: "longrope", short_factor: [1], long_factor: [1] } },
      /a list of 8/,
    ],
    ["ministral3", { rope_parameters: { rope_type: "default" } }, /no rope_parameters\.llama_4_scaling_beta/],
    ["smollm3", { no_rope_layers: [1, 1] }, /no_rope_layers = .*an entry for each of 4/],
    ["smollm3", { no_rope_layers: [1, 2, 1, 1] }, /no_rope_layers = .*0 and 1/],
    ["exaone4", { layer_types: none, sliding_window_pattern: "LXG" }, /sliding_window_pattern = "LXG"/],
    ["llama", { hidden_act: "xielu" }, /hidden_act = "xielu"/],
  ];
  for (const [golden, changes, message] of cases) {
    test(`${golden}: ${JSON.stringify(changes)}`, () =>
      assert.throws(() => describeModel(changed(golden, changes)), hasCode("ERR_UNSUPPORTED_MODEL", message)));
  }
});

describe("families whose code is published with their weights", () => {
  const ids = [3, 60, 17, 99, 5, 42];

  /** Logits of a golden model's weights, rearranged to another family's tensors. */
  async function logitsOf(t: TestContext, config: Config, tensors: Tensors) {
    const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
    t.after(() => rmSync(folder, { recursive: true }));
    writeSafetensors(folder, "model.safetensors", tensors);
    const resolved = resolveWeights(describeModel(config), await openCheckpoint(folder));
    return new ReferenceModel(resolved.spec, resolved).logits(ids);
  }

  function concatenate(parts: Tensor[]): Tensor {
    const data = new Float32Array(parts.flatMap((part) => [...part.data]));
    return {
      shape: [parts.reduce((rows, { shape }) => rows + (shape[0] as number), 0), ...(parts[0]?.shape.slice(1) ?? [])],
      data,
    };
  }

  /** The tensors with q, k and v of each layer as one makes them, and others renamed. */
  function rearranged(
    name: string,
    fused: string,
    fuse: (q: Tensor, k: Tensor, v: Tensor) => Tensor,
    newNames: [RegExp, string][],
  ) {
    const weights = goldenWeights(name);
    const out: Tensors = new Map();
    for (const [key, tensor] of weights) {
      if (/[kv]_proj/.test(key)) continue;
      const [k, v] = ["k_proj", "v_proj"].map((part) => weights.get(key.replace("q_proj", part)) as Tensor) as [
        Tensor,
        Tensor,
      ];
      const renamed = newNames.reduce((text, [from, to]) => text.replace(from, to), key);
      if (key.includes("q_proj"))
        out.set(renamed.replace(/self_attn\.q_proj|attention\.q_proj/, fused), fuse(tensor, k, v));
      else out.set(renamed, tensor);
    }
    return out;
  }

  const common = (name: string) => changed(name, { model_type: none, architectures: none, head_dim: none });

  test("InternLM2: groups of queries with their key and value in one matrix", async (t) => {
    const [width, group] = [16, 2];
    const fuse = (q: Tensor, k: Tensor, v: Tensor) =>
      concatenate(
        [0, 1].flatMap((head) => [
          takeRows(q, run(head * group * width, group * width)),
          takeRows(k, run(head * width, width)),
          takeRows(v, run(head * width, width)),
        ]),
      );
    const names: [RegExp, string][] = [
      ...([
        [/embed_tokens/, "tok_embeddings"],
        [/^lm_head/, "output"],
        [/self_attn\.o_proj/, "attention.wo"],
      ] as [RegExp, string][]),
      ...([
        [/mlp\.gate_proj/, "feed_forward.w1"],
        [/mlp\.up_proj/, "feed_forward.w3"],
      ] as [RegExp, string][]),
      ...([
        [/mlp\.down_proj/, "feed_forward.w2"],
        [/input_layernorm/, "attention_norm"],
      ] as [RegExp, string][]),
      [/post_attention_layernorm/, "ffn_norm"],
    ];
    const config = {
      ...common("llama"),
      model_type: "internlm2",
      architectures: ["InternLM2ForCausalLM"],
      bias: false,
    };
    const found = await logitsOf(t, config, rearranged("llama", "attention.wqkv", fuse, names));
    assert.deepEqual(found, await logitsOf(t, changed("llama", {}), goldenWeights("llama")));
  });

  test("Baichuan 7B: queries, keys and values one behind another", async (t) => {
    const config = { ...common("llama_mha"), model_type: "baichuan", architectures: ["BaiChuanForCausalLM"] };
    const tensors = rearranged("llama_mha", "self_attn.W_pack", (...parts) => concatenate(parts), []);
    const expected = await logitsOf(t, changed("llama_mha", {}), goldenWeights("llama_mha"));
    assert.deepEqual(await logitsOf(t, config, tensors), expected);
  });

  test("Baichuan 13B has ALiBi", () => {
    const config = {
      ...{ model_type: "baichuan", architectures: ["BaichuanForCausalLM"], hidden_size: 20, num_attention_heads: 5 },
      ...{ num_hidden_layers: 2, intermediate_size: 12, vocab_size: 11, model_max_length: 64 },
    };
    const traits = describeQuietly(config);
    assert.deepEqual([traits.positions, traits.maxPositions, traits.rotary], ["alibi", 64, none]);
    assert.deepEqual(traits.slopes, [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1]);
  });

  test("Baichuan2 is refused: its head is normalised", () => {
    const config = { ...common("llama_mha"), model_type: "baichuan" };
    for (const second of [{ vocab_size: 125_696 }, { z_loss_weight: 0 }])
      assert.throws(
        () => describeModel({ ...config, ...second }),
        hasCode("ERR_UNSUPPORTED_MODEL", /head of Baichuan2/),
      );
  });
});
