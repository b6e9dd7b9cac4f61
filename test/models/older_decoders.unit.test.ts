import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeModel } from "../../dist/models/index.js";
import { fixture, hasCode } from "../support/fixtures.js";
import { type Config, collectWarnings, readConfig, traitsOf } from "./helpers.js";

// GPT-J, CodeGen, GPT-NeoX, GPT-Neo, GPTBigCode, MPT, Phi, Persimmon, XGLM and BioGPT: configs as they are published, and settings that are
// refused. What the models compute is checked by golden.unit.test.ts.

const golden = (name: string) => readConfig(fixture("golden", name, "config.json"));

/** Without the keys of a golden config that are named, and with others. */
function changed(name: string, changes: Config, ...without: string[]): Config {
  return Object.fromEntries(Object.entries({ ...golden(name), ...changes }).filter(([key]) => !without.includes(key)));
}

function describeQuietly(config: Config) {
  const { warnings, logger } = collectWarnings();
  const { spec } = describeModel(config, { logger });
  assert.deepEqual(warnings, []);
  return spec;
}

describe("configs that name nothing but the model type have the sizes of transformers", () => {
  const sizes: Record<string, [layers: number, hidden: number, heads: number, vocabulary: number, positions: number]> =
    {
      gptj: [28, 4096, 16, 50_400, 2048],
      codegen: [28, 4096, 16, 50_400, 2048],
      gpt_neox: [44, 6144, 64, 50_432, 2048],
      gpt_neo: [24, 2048, 16, 50_257, 2048],
      gpt_bigcode: [12, 768, 12, 50_257, 1024],
      mpt: [24, 2048, 16, 50_368, 2048],
      phi: [24, 2048, 32, 51_200, 2048],
      persimmon: [36, 4096, 64, 262_144, 16_384],
      xglm: [24, 1024, 16, 256_008, 2048],
      biogpt: [24, 1024, 16, 42_384, 1024],
    };
  for (const [type, expected] of Object.entries(sizes)) {
    test(type, () => {
      const { layers, hiddenSize, heads, vocabSize, maxPositions } = traitsOf(describeQuietly({ model_type: type }));
      assert.deepEqual([layers, hiddenSize, heads, vocabSize, maxPositions], expected);
    });
  }
});

describe("rotary positions of a share of each head", () => {
  const rope = (config: Config) => describeQuietly(config);
  const older = (changes: Config = {}) =>
    changed("gpt_neox", { rotary_pct: 0.25, rotary_emb_base: 10_000, ...changes }, "rope_parameters");

  test("GPT-NeoX as transformers 4 wrote it", () => {
    assert.deepEqual(rope(older()), rope(golden("gpt_neox")));
    // Later versions wrote these beside them, with the same values.
    assert.deepEqual(rope(older({ rope_theta: 10_000, partial_rotary_factor: 0.25 })), rope(golden("gpt_neox")));
    assert.equal(traitsOf(rope(older({ rotary_pct: 1 }))).turned, "16 half");
    const other = rope(older({ rotary_emb_base: 500 })).rotaryTables[0];
    assert.ok(Math.abs((other?.inverseFrequencies[1] ?? 0) - 500 ** -0.5) < 1e-8);
    assert.equal(rope(older({ rope_scaling: { type: "linear", factor: 4 } })).maxPositions, 512);
  });

  test("a quarter of GPT-NeoX's heads and half of Phi's turn where nothing is said", () => {
    assert.equal(traitsOf(rope(changed("gpt_neox", {}, "rope_parameters"))).turned, "4 half");
    assert.equal(traitsOf(rope(changed("phi", {}, "rope_parameters"))).turned, "8 half");
    assert.equal(traitsOf(rope(changed("persimmon", { rope_theta: 25_000 }, "rope_parameters"))).turned, "8 half");
  });

  test("Phi as transformers 4 wrote it", () => {
    const config = changed(
      "phi",
      { partial_rotary_factor: 0.4, rope_theta: 1e4, rope_scaling: null },
      "rope_parameters",
    );
    assert.equal(traitsOf(rope(config)).turned, "6 half");
  });
});

test("GPT-Neo's layers by name win over runs of them, as in transformers", () => {
  const windows = (changes: Config) => traitsOf(describeQuietly(changed("gpt_neo", changes))).windows;
  assert.deepEqual(windows({ attention_layers: ["local", "local"] }), 8);
  assert.deepEqual(windows({ attention_layers: ["local", "global"] }), [8, undefined]);
  assert.deepEqual(windows({ attention_layers: ["global", "global"] }), undefined);
  const runs = changed(
    "gpt_neo",
    {
      attention_types: [
        [["global"], 1],
        [["local"], 1],
      ],
    },
    "attention_layers",
  );
  assert.deepEqual(traitsOf(describeQuietly(runs)).windows, [undefined, 8]);
});

test("BioGPT's and XGLM's norms have PyTorch's epsilon", () => {
  for (const name of ["biogpt", "xglm"])
    assert.equal(
      traitsOf(describeQuietly(changed(name, name === "biogpt" ? { layer_norm_eps: 0.1 } : {}))).normEpsilon,
      1e-5,
    );
});

test("MPT's alibi_bias_max is without effect, as in transformers, and gets a warning", () => {
  const { warnings, logger } = collectWarnings();
  const { spec } = describeModel(changed("mpt", { attn_config: { alibi_bias_max: 16 } }), { logger });
  assert.deepEqual(traitsOf(spec).slopes, traitsOf(describeQuietly(golden("mpt"))).slopes);
  assert.match(warnings.join(), /alibi_bias_max is without effect/);
});

describe("settings that are refused", () => {
  const cases: [golden: string, changes: Config, message: RegExp][] = [
    ["gptj", { rotary_dim: 7 }, /rotary_dim = 7, expected an even number of a head's 16/],
    ["gptj", { rotary_dim: 18 }, /rotary_dim = 18/],
    ["gptj", { rotary_dim: null }, /rotary_dim = null/],
    ["gptj", { n_embd: 66 }, /n_embd = 66/],
    ["codegen", { n_head: 2, rotary_dim: 8 }, /n_head = 2, expected a multiple of 4/],
    ["gpt_neox", { rope_parameters: { partial_rotary_factor: 0.2 } }, /partial_rotary_factor = 0\.2.* found 3/],
    ["gpt_neox", { rope_parameters: {}, rotary_pct: 0.05 }, /rotary_pct = 0\.05.* found 0/],
    ["gpt_neox", { rope_parameters: {}, rotary_pct: null }, /rotary_pct = null/],
    ["gpt_neox", { rope_parameters: { partial_rotary_factor: 1.5 } }, /partial_rotary_factor = 1\.5/],
    ["gpt_neox", { rope_parameters: { rope_type: "su" } }, /rope_type = "su"/],
    ["gpt_neo", { attention_layers: ["global"] }, /attention_layers = .* for each of 2 layers/],
    ["gpt_neo", { attention_layers: ["global", "sparse"] }, /attention_layers = /],
    ["gpt_neo", { attention_layers: undefined, attention_types: [[["global"], 3]] }, /attention_types = /],
    ["gpt_neo", { attention_layers: undefined, attention_types: "global" }, /attention_types = /],
    ["gpt_neo", { attention_layers: undefined, attention_types: [[["global"], -1]] }, /attention_types = /],
    ["gpt_neo", { attention_layers: undefined, attention_types: [[["global", "local"], 1.5]] }, /attention_types = /],
    ["gpt_neo", { attention_layers: undefined, attention_types: [[["global"], 1e9]] }, /attention_types = /],
    ["gpt_neo", { window_size: 0 }, /window_size = 0/],
    ["gpt_bigcode", { add_cross_attention: true }, /add_cross_attention = true/],
    ["gpt_bigcode", { multi_query: "yes" }, /multi_query = "yes"/],
    ["mpt", { attn_config: { qk_ln: true } }, /attn_config\.qk_ln = true, expected false/],
    ["mpt", { attn_config: { alibi: false } }, /attn_config\.alibi = false, expected true/],
    ["mpt", { attn_config: { prefix_lm: true } }, /attn_config\.prefix_lm = true/],
    ["mpt", { attn_config: { attn_type: "multiquery_attention" } }, /attn_config\.attn_type = "multiquery_attention"/],
    ["mpt", { attn_config: { clip_qkv: -1 } }, /attn_config\.clip_qkv = -1/],
    ["mpt", { no_bias: false }, /no_bias = false/],
    ["mpt", { logit_scale: "inv_sqrt_d_model" }, /logit_scale = "inv_sqrt_d_model"/],
    ["mpt", { norm_type: "rmsnorm" }, /norm_type = "rmsnorm"/],
    ["phi", { num_key_value_heads: 3 }, /num_key_value_heads = 3/],
    ["xglm", { pad_token_id: 5 }, /pad_token_id = 5, expected 0, 1 or null/],
    ["xglm", { d_model: 63, attention_heads: 3 }, /d_model = 63, expected an even width/],
    ["biogpt", { hidden_act: "mish" }, /hidden_act = "mish"/],
  ];
  for (const [name, changes, message] of cases) {
    test(`${name}: ${JSON.stringify(changes)}`, () =>
      assert.throws(() => describeModel(changed(name, changes)), hasCode("ERR_UNSUPPORTED_MODEL", message)));
  }
});
