import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../dist/base/errors.js";
import { describeModel } from "../../dist/models/index.js";
import { hasCode } from "../support/fixtures.js";
import { type Config, smallest } from "./helpers.js";

const { opt, gpt2, llama } = smallest;

function without(config: Config, key: string): Config {
  const { [key]: _, ...rest } = config;
  return rest;
}

describe("configs that are refused", () => {
  const cases: [string, unknown, RegExp][] = [
    ["undefined", undefined, /config\.json is undefined, expected an object/],
    ["null", null, /is null, expected an object/],
    ["an array", [], /is \[\] \(array\), expected an object/],
    ["a string", "opt", /is "opt" \(string\), expected an object/],
    ["no model_type", {}, /no model_type, expected one of opt, gpt2, llama/],
    ["model_type null", { ...opt, model_type: null }, /model_type = null/],
    ["model_type of another kind", { ...opt, model_type: ["opt"] }, /model_type = \["opt"\] \(array\)/],
    ["unknown model_type", { ...opt, model_type: "mamba" }, /model_type = "mamba".*one of opt, gpt2, llama/],
    [
      "text and images",
      { model_type: "gemma3", text_config: { model_type: "gemma3_text" }, vision_config: {} },
      /model_type = "gemma3".*model of text and other things.*gemma3_text, is computed if/,
    ],
    ["an unknown model inside", { model_type: "x", text_config: { model_type: "y" } }, /of which none is computed\.$/],
    ["model_type in capitals", { ...opt, model_type: "OPT" }, /model_type = "OPT"/],
    ["a name of Object", { ...opt, model_type: "__proto__" }, /model_type = "__proto__"/],
    ["a head for answers", { ...opt, architectures: ["OPTForQuestionAnswering"] }, /OPTForQuestionAnswering/],
    ["classes of tokens", { ...llama, architectures: ["LlamaForTokenClassification"] }, /LlamaForTokenClass/],
    [
      "an encoder with a decoder",
      { model_type: "t5", is_encoder_decoder: true },
      /model_type = "t5".*encoder and a decoder/,
    ],
    ["two heads", { ...gpt2, architectures: ["GPT2DoubleHeadsModel"] }, /GPT2DoubleHeadsModel/],
    ["another family's class", { ...gpt2, architectures: ["LlamaForCausalLM"] }, /expected one of GPT2LMHeadModel/],
    ["a body without a head", { ...llama, architectures: ["LlamaModel"] }, /LlamaModel has no head/],
    ["an untied body", { ...opt, architectures: ["OPTModel"], tie_word_embeddings: false }, /OPTModel has no head/],
    ["architectures no list", { ...opt, architectures: "OPTForCausalLM" }, /expected a list of class names/],
    ["architectures of numbers", { ...opt, architectures: [7] }, /architectures = \[7\]/],
    ["no width", without(opt, "hidden_size"), /no hidden_size, expected an integer from 1/],
    ["no layers", without(gpt2, "n_layer"), /no n_layer/],
    ["no heads", without(llama, "num_attention_heads"), /no num_attention_heads/],
    ["no vocabulary", without(llama, "vocab_size"), /no vocab_size/],
    ["width 0", { ...opt, hidden_size: 0 }, /hidden_size = 0, expected an integer from 1/],
    ["width negative", { ...gpt2, n_embd: -8 }, /n_embd = -8/],
    ["width as text", { ...llama, hidden_size: "8" }, /hidden_size = "8" \(string\), expected an integer/],
    ["width with a fraction", { ...llama, hidden_size: 8.5 }, /hidden_size = 8\.5/],
    ["width NaN", { ...llama, hidden_size: Number.NaN }, /hidden_size = NaN/],
    ["width infinite", { ...llama, hidden_size: Number.POSITIVE_INFINITY }, /hidden_size = Infinity/],
    ["width null", { ...opt, hidden_size: null }, /hidden_size = null/],
    ["width true", { ...opt, hidden_size: true }, /hidden_size = true/],
    ["width a list", { ...opt, hidden_size: [8] }, /hidden_size = \[8\] \(array\)/],
    ["width absurd", { ...opt, hidden_size: 2 ** 40 }, /hidden_size = 1099511627776/],
    ["layers 0", { ...opt, num_hidden_layers: 0 }, /num_hidden_layers = 0/],
    ["layers absurd", { ...llama, num_hidden_layers: 1e9 }, /num_hidden_layers = 1000000000/],
    ["heads 0", { ...gpt2, n_head: 0 }, /n_head = 0/],
    ["heads do not divide the width: OPT", { ...opt, num_attention_heads: 3 }, /hidden_size = 8, .*multiple of.*3/],
    ["heads do not divide the width: GPT-2", { ...gpt2, n_head: 3 }, /n_embd = 8, .*multiple of.*3/],
    ["heads do not divide the width: Llama", { ...llama, hidden_size: 9, head_dim: 4 }, /hidden_size = 9, .*multiple/],
    ["key heads do not divide heads", { ...llama, num_attention_heads: 4, num_key_value_heads: 3 }, /divisor of .* 4/],
    ["more key heads than heads", { ...llama, num_key_value_heads: 4 }, /num_key_value_heads = 4, expected a divisor/],
    ["key heads 0", { ...llama, num_key_value_heads: 0 }, /num_key_value_heads = 0/],
    ["head_dim odd", { ...llama, head_dim: 5 }, /head_dim = 5, expected heads of even width/],
    ["head_dim odd by division", { ...llama, hidden_size: 6 }, /hidden_size = 6, expected heads of even width.* 3/],
    ["head_dim 0", { ...llama, head_dim: 0 }, /head_dim = 0/],
    ["vocabulary 0", { ...opt, vocab_size: 0 }, /vocab_size = 0/],
    ["vocabulary absurd", { ...gpt2, vocab_size: 2 ** 31 }, /vocab_size = 2147483648/],
    ["positions 0", { ...gpt2, n_positions: 0 }, /n_positions = 0/],
    ["positions absurd", { ...llama, max_position_embeddings: 1e300 }, /max_position_embeddings = 1e\+300/],
    ["inner width 0", { ...gpt2, n_inner: 0 }, /n_inner = 0/],
    ["inner width missing", without(llama, "intermediate_size"), /no intermediate_size/],
    ["embedding width 0", { ...opt, word_embed_proj_dim: 0 }, /word_embed_proj_dim = 0/],
    ["unknown activation", { ...opt, activation_function: "swoosh" }, /activation_function = "swoosh".*gelu_new/],
    ["activation that is not computed", { ...llama, hidden_act: "mish" }, /hidden_act = "mish"/],
    ["activation of Object", { ...gpt2, activation_function: "toString" }, /activation_function = "toString"/],
    ["activation no string", { ...gpt2, activation_function: 1 }, /activation_function = 1, expected a string/],
    ["epsilon as text", { ...llama, rms_norm_eps: "1e-6" }, /rms_norm_eps = "1e-6" \(string\), expected a number/],
    ["epsilon negative", { ...gpt2, layer_norm_epsilon: -1e-5 }, /layer_norm_epsilon = -0\.00001/],
    ["epsilon NaN", { ...gpt2, layer_norm_epsilon: Number.NaN }, /layer_norm_epsilon = NaN/],
    ["flag as text", { ...opt, enable_bias: "false" }, /enable_bias = "false" \(string\), expected true or false/],
    ["flag as number", { ...llama, attention_bias: 1 }, /attention_bias = 1, expected true or false/],
    ["tie as null", { ...llama, tie_word_embeddings: null }, /tie_word_embeddings = null/],
    ["dtype no string", { ...llama, torch_dtype: 16 }, /torch_dtype = 16, expected a string/],
    ["two names that differ", { ...gpt2, hidden_size: 16 }, /hidden_size = 16, expected 8, as n_embd/],
  ];
  for (const [name, config, message] of cases) {
    test(name, () => assert.throws(() => describeModel(config), hasCode("ERR_UNSUPPORTED_MODEL", message)));
  }
});

describe("settings that change the arithmetic and are not computed are refused by name and value", () => {
  const cases: [string, Config][] = [
    ["quantization_config", { ...llama, quantization_config: { quant_method: "gptq", bits: 4 } }],
    ["compression_config", { ...llama, compression_config: { format: "int-quantized" } }],
    ["quantization", { ...llama, quantization: { bits: 4 } }],
    ["sliding_window", { ...llama, sliding_window: 8 }],
    ["sliding_window", { ...gpt2, sliding_window: 8, use_sliding_window: true }],
    ["sliding_window", { ...llama, sliding_window: "8" }],
    ["attn_logit_softcapping", { ...llama, attn_logit_softcapping: 50 }],
    ["final_logit_softcapping", { ...opt, final_logit_softcapping: 30 }],
    ["logit_scale", { ...llama, logit_scale: 0.0625 }],
    ["embedding_multiplier", { ...llama, embedding_multiplier: 12 }],
    ["residual_multiplier", { ...llama, residual_multiplier: 0.22 }],
    ["attention_multiplier", { ...llama, attention_multiplier: 0.0078125 }],
    ["num_local_experts", { ...llama, num_local_experts: 8 }],
    ["layer_types", { ...llama, layer_types: ["full_attention", "sliding_attention"] }],
    ["layer_types", { ...llama, layer_types: "full_attention" }],
    ["alibi", { ...opt, alibi: true }],
    ["is_encoder_decoder", { ...opt, is_encoder_decoder: true }],
    ["is_causal", { ...llama, is_causal: false }],
    ["add_cross_attention", { ...gpt2, add_cross_attention: true }],
    ["pruned_heads", { ...gpt2, pruned_heads: { "0": [1] } }],
    ["per_layer_config", { ...llama, per_layer_config: { "1": { intermediate_size: 4 } } }],
    ["attention_chunk_size", { ...llama, attention_chunk_size: 8 }],
    ["clip_qkv", { ...llama, clip_qkv: 8 }],
    ["qk_norm", { ...llama, qk_norm: true }],
    ["scale_embeddings", { ...opt, scale_embeddings: true }],
    ["learned_embeddings", { ...opt, learned_embeddings: false }],
    ["rotary_pct", { ...llama, rotary_pct: 0.25 }],
  ];
  for (const [key, config] of cases) {
    test(`${key} = ${JSON.stringify(config[key])}`, () => {
      assert.throws(() => describeModel(config), hasCode("ERR_UNSUPPORTED_MODEL", new RegExp(`has ${key} = `)));
    });
  }
});

test("whatever stands in a config, it is described or refused with the one code", () => {
  const keys = fc.constantFrom(
    ...new Set(Object.values(smallest).flatMap((config) => Object.keys(config))),
    "rope_scaling",
    "rope_parameters",
    "rope_theta",
    "head_dim",
    "num_key_value_heads",
    "n_inner",
    "word_embed_proj_dim",
    "architectures",
    "dtype",
    "sliding_window",
    "layer_types",
    "pruned_heads",
    "hidden_act",
    "tie_word_embeddings",
  );
  const ropes = fc.record(
    {
      rope_type: fc.constantFrom("default", "linear", "dynamic", "llama3", "yarn", "longrope", null, 3),
      factor: fc.oneof(fc.double(), fc.constant(null), fc.integer()),
      original_max_position_embeddings: fc.oneof(fc.integer(), fc.constantFrom(16, 4096)),
      low_freq_factor: fc.double(),
      high_freq_factor: fc.double(),
      beta_fast: fc.double(),
      attention_factor: fc.double(),
      rope_theta: fc.double(),
    },
    { requiredKeys: [] },
  );
  const values = fc.oneof(fc.jsonValue(), fc.integer({ min: -2, max: 64 }), fc.double(), ropes);
  const changes = fc.array(fc.tuple(keys, values), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.constantFrom(...Object.values(smallest)), changes, (base, changed) => {
      try {
        const { spec } = describeModel({ ...base, ...Object.fromEntries(changed) });
        for (const { inverseFrequencies } of spec.rotaryTables)
          assert.ok(inverseFrequencies.every((frequency) => frequency >= 0 && Number.isFinite(frequency)));
        assert.ok(Number.isSafeInteger(spec.maxPositions) && spec.maxPositions >= 1);
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error), String(error));
        assert.equal(error.code, "ERR_UNSUPPORTED_MODEL");
      }
    }),
    { numRuns: 2000 },
  );
});
