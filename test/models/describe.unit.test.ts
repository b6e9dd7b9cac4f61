import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { architectures, describeModel } from "../../dist/models/index.js";
import { demoModel, fixture } from "../support/fixtures.js";
import {
  type Config,
  collectWarnings,
  describeGolden,
  goldens,
  isTied,
  readConfig,
  smallest,
  traitsOf,
} from "./helpers.js";

describe("config forms", () => {
  for (const name of goldens) {
    test(`${name} is described without a warning, with the dtype of config.json`, () => {
      const { warnings, logger } = collectWarnings();
      const config = readConfig(fixture("golden", name, "config.json"));
      assert.equal(describeModel(config, { logger }).storedDtype, config.dtype);
      assert.deepEqual(warnings, []);
    });

    const older = fixture("golden", name, "config_transformers4.json");
    if (!existsSync(older)) continue;
    test(`${name} as transformers 4 wrote it`, () => {
      const config = readConfig(older);
      assert.ok("rope_theta" in config && "rope_scaling" in config && "torch_dtype" in config);
      const { warnings, logger } = collectWarnings();
      const { spec, storedDtype } = describeModel(config, { logger });
      assert.deepEqual(spec, describeGolden(name));
      assert.equal(storedDtype, config.torch_dtype);
      assert.deepEqual(warnings, []);
    });
  }

  test("the demo model", () => {
    const { warnings, logger } = collectWarnings();
    const { spec } = describeModel(readConfig(`${demoModel}/config.json`), { logger });
    assert.deepEqual([spec.family, spec.layers.length, spec.hiddenSize, spec.vocabSize], ["opt", 4, 256, 4096]);
    assert.deepEqual(warnings, []);
  });

  test("configs as published long ago: keys of the day, sizes by default", () => {
    const { warnings, logger } = collectWarnings();
    const opt350m = describeModel(
      {
        activation_dropout: 0.0,
        activation_function: "relu",
        architectures: ["OPTForCausalLM"],
        attention_dropout: 0.0,
        bos_token_id: 2,
        do_layer_norm_before: false,
        dropout: 0.1,
        eos_token_id: 2,
        ffn_dim: 4096,
        hidden_size: 1024,
        init_std: 0.02,
        layerdrop: 0.0,
        max_position_embeddings: 2048,
        model_type: "opt",
        num_attention_heads: 16,
        num_hidden_layers: 24,
        pad_token_id: 1,
        prefix: "</s>",
        torch_dtype: "float16",
        transformers_version: "4.20.0.dev0",
        use_cache: true,
        vocab_size: 50272,
        word_embed_proj_dim: 512,
      },
      { logger },
    );
    assert.deepEqual(
      [opt350m.spec.embedding.width, opt350m.spec.output.norm, opt350m.storedDtype],
      [512, undefined, "float16"],
    );
    const gpt2 = describeModel(
      {
        activation_function: "gelu_new",
        architectures: ["GPT2LMHeadModel"],
        attn_pdrop: 0.1,
        bos_token_id: 50256,
        embd_pdrop: 0.1,
        eos_token_id: 50256,
        initializer_range: 0.02,
        layer_norm_epsilon: 1e-5,
        model_type: "gpt2",
        n_ctx: 1024,
        n_embd: 768,
        n_head: 12,
        n_layer: 12,
        n_positions: 1024,
        resid_pdrop: 0.1,
        summary_activation: null,
        summary_first_dropout: 0.1,
        summary_proj_to_labels: true,
        summary_type: "cls_index",
        summary_use_proj: true,
        task_specific_params: { "text-generation": { do_sample: true, max_length: 50 } },
        vocab_size: 50257,
      },
      { logger },
    );
    assert.deepEqual([traitsOf(gpt2.spec).ffnSize, isTied(gpt2.spec), gpt2.storedDtype], [3072, true, undefined]);
    const llama31 = describeModel(
      {
        architectures: ["LlamaForCausalLM"],
        attention_bias: false,
        attention_dropout: 0.0,
        bos_token_id: 128000,
        eos_token_id: [128001, 128008, 128009],
        hidden_act: "silu",
        hidden_size: 4096,
        initializer_range: 0.02,
        intermediate_size: 14336,
        max_position_embeddings: 131072,
        mlp_bias: false,
        model_type: "llama",
        num_attention_heads: 32,
        num_hidden_layers: 32,
        num_key_value_heads: 8,
        pretraining_tp: 1,
        rms_norm_eps: 1e-5,
        rope_scaling: {
          factor: 8.0,
          low_freq_factor: 1.0,
          high_freq_factor: 4.0,
          original_max_position_embeddings: 8192,
          rope_type: "llama3",
        },
        rope_theta: 500000.0,
        tie_word_embeddings: false,
        torch_dtype: "bfloat16",
        transformers_version: "4.42.3",
        use_cache: true,
        vocab_size: 128256,
      },
      { logger },
    );
    const llama = traitsOf(llama31.spec);
    assert.deepEqual([llama.kvHeads, llama.headDim, llama.maxPositions], [8, 128, 131072]);
    assert.equal(llama31.storedDtype, "bfloat16");
    assert.deepEqual(warnings, []);
  });

  test("GPT-2's keys under their common names", () => {
    const { n_embd, n_head, n_layer, n_positions, ...rest } = smallest.gpt2;
    const renamed = {
      ...rest,
      hidden_size: n_embd,
      num_attention_heads: n_head,
      num_hidden_layers: n_layer,
      max_position_embeddings: n_positions,
    };
    assert.deepEqual(describeModel(renamed).spec, describeModel(smallest.gpt2).spec);
    assert.deepEqual(describeModel({ ...smallest.gpt2, hidden_size: 8 }).spec, describeModel(smallest.gpt2).spec);
  });
});

describe("classes", () => {
  const described: [string, Config][] = [
    ["none named", {}],
    ["null", { architectures: null }],
    ["none in the list", { architectures: [] }],
    ["with a head", { architectures: ["LlamaForCausalLM"] }],
    ["a body with a tied head", { architectures: ["LlamaModel"], tie_word_embeddings: true }],
  ];
  for (const [name, config] of described) {
    test(name, () => assert.equal(describeModel({ ...smallest.llama, ...config }).spec.family, "llama"));
  }

  test("are listed", () => {
    assert.deepEqual(
      architectures().map(({ modelType }) => modelType),
      [
        ...["opt", "gpt2", "llama", "bloom", "falcon", "gptj", "codegen", "gpt_neox", "gpt_neo", "gpt_bigcode", "mpt"],
        ...["phi", "persimmon", "xglm", "biogpt"],
        ...["mistral", "ministral", "ministral3", "qwen2", "qwen3", "phi3"],
        ...["stablelm", "starcoder2", "olmo", "olmo2", "olmo3", "granite", "cohere", "cohere2", "gemma", "gemma2"],
        ...["gemma3_text", "glm", "glm4", "smollm3", "nemotron", "helium", "exaone4", "arcee", "apertus", "ernie4_5"],
        ...["hunyuan_v1_dense", "seed_oss", "llama4_text", "internlm2", "baichuan"],
        ...[
          "mixtral",
          "qwen2_moe",
          "qwen3_moe",
          "olmoe",
          "granitemoe",
          "phimoe",
          "gpt_oss",
          "deepseek_v2",
          "deepseek_v3",
        ],
        ...["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "albert", "modernbert"],
        ...["nomic_bert", "deberta-v2"],
      ],
    );
    for (const { classes, summary } of architectures()) assert.ok(classes.length > 0 && summary.length > 0);
  });
});

describe("keys that a descriptor does not read", () => {
  test("neutral values of settings that are not computed are accepted in silence", () => {
    const { warnings, logger } = collectWarnings();
    const neutral = {
      sliding_window: null,
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
      logit_scale: 1.0,
      embedding_multiplier: 1,
      residual_multiplier: 1.0,
      attention_multiplier: null,
      num_local_experts: 1,
      layer_types: ["full_attention", "full_attention"],
      alibi: false,
      is_encoder_decoder: false,
      add_cross_attention: false,
      pruned_heads: {},
      quantization_config: null,
      output_attentions: false,
    };
    for (const config of Object.values(smallest)) describeModel({ ...config, ...neutral }, { logger });
    describeModel({ ...smallest.opt, learned_embeddings: true, scale_embeddings: false }, { logger });
    describeModel({ ...smallest.llama, sliding_window: 16 }, { logger });
    describeModel({ ...smallest.llama, sliding_window: 4, use_sliding_window: false }, { logger });
    assert.deepEqual(warnings, []);
  });

  test("bookkeeping of transformers 4 and 5, and of others, is accepted in silence", () => {
    const { warnings, logger } = collectWarnings();
    const bookkeeping = {
      _model_name_or_path: "/mnt/models/x",
      _name_or_path: "x/y",
      _auto_class: null,
      auto_map: { AutoConfig: "configuration_x.XConfig" },
      base_model_name_or_path: "x/y",
      generation_config: {},
      max_time: null,
      min_p: 0.1,
      stop_strings: null,
      top_h: null,
      transformers_weights: null,
      "transformers.js_config": { dtype: "q4" },
      unsloth_version: "2026.1",
      use_return_dict: true,
      cache_implementation: null,
      watermarking_config: null,
    };
    for (const config of Object.values(smallest)) describeModel({ ...config, ...bookkeeping }, { logger });
    assert.deepEqual(warnings, []);
  });

  test("unknown ones are listed in one warning", () => {
    const { warnings, logger } = collectWarnings();
    describeModel({ ...smallest.opt, my_note: 1, another: { deep: true } }, { logger });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] as string, /my_note, another$/);
  });

  test("without a logger nothing is said", () => assert.ok(describeModel({ ...smallest.opt, my_note: 1 })));
});

test("dtype names", () => {
  const dtype = (config: Config) => describeModel({ ...smallest.opt, ...config }).storedDtype;
  assert.equal(dtype({ torch_dtype: "bfloat16" }), "bfloat16");
  assert.equal(dtype({ dtype: "float32", torch_dtype: "float16" }), "float32");
  assert.equal(dtype({ dtype: null, torch_dtype: "float16" }), "float16");
  assert.equal(dtype({ dtype: "torch.float16" }), "float16");
  assert.equal(dtype({ dtype: "float8_e4m3fn" }), undefined);
  assert.equal(dtype({}), undefined);
});

test("a config is not changed", () => {
  const config = readConfig(fixture("golden", "llama_yarn", "config.json"));
  const before = structuredClone(config);
  describeModel(config);
  assert.deepEqual(config, before);
});
