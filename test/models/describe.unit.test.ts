import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { architectures, describeModel, type ModelSpec } from "../../dist/models/index.js";
import { demoModel, fixture } from "../support/fixtures.js";
import { type Config, collectWarnings, isTied, readConfig, smallest, traitsOf } from "./helpers.js";

type Traits = Partial<ReturnType<typeof traitsOf>>;

const goldens = readdirSync(fixture("golden")).filter((name) => existsSync(fixture("golden", name, "config.json")));

function describeGolden(name: string): ModelSpec {
  return describeModel(readConfig(fixture("golden", name, "config.json"))).spec;
}

describe("what is special in each golden case", () => {
  const opt: Traits = {
    family: "opt",
    norm: "layer",
    residual: "sequential",
    normEpsilon: 1e-5,
    finalNorm: true,
    positions: "learned",
    positionOffset: 2,
    activation: "relu",
    gatedFfn: false,
    tiedHead: true,
  };
  const gpt2: Traits = { ...opt, family: "gpt2", positionOffset: 0, activation: "gelu_tanh" };
  const llama: Traits = {
    family: "llama",
    norm: "rms",
    residual: "sequential",
    normEpsilon: 1e-6,
    finalNorm: true,
    positions: "rotary",
    positionOffset: undefined,
    activation: "silu",
    gatedFfn: true,
    tiedHead: false,
  };
  const bloom: Traits = {
    ...gpt2,
    family: "bloom",
    embeddingNorm: "layer",
    positions: "alibi",
    positionOffset: undefined,
    slopes: [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8],
    maxPositions: 2048,
  };
  const falcon: Traits = {
    ...gpt2,
    family: "falcon",
    residual: "parallel",
    positions: "rotary",
    positionOffset: undefined,
    slopes: undefined,
    activation: "gelu",
    maxPositions: 2048,
  };
  const gptj: Traits = {
    ...{ ...falcon, family: "gptj", residual: "shared-norm parallel", activation: "gelu_tanh", tiedHead: false },
    ...{ heads: 4, kvHeads: 4, headDim: 16, attentionScales: 0.25, maxPositions: 128, turned: "8 interleaved" },
  };
  const gptNeox: Traits = {
    ...{ ...gptj, family: "gpt_neox", residual: "parallel", activation: "gelu", turned: "4 half" },
  };
  const phi: Traits = { ...gptj, family: "phi", turned: "8 half", qkNorm: undefined };
  const mpt: Traits = { ...bloom, family: "mpt", embeddingNorm: undefined, activation: "gelu", maxPositions: 128 };
  const expected: Record<string, Traits> = {
    opt: { ...opt, layers: 2, vocabSize: 256, hiddenSize: 64, heads: 4, headDim: 16, ffnSize: 192, maxPositions: 128 },
    opt_post_ln: { ...opt, residual: "post-norm", finalNorm: false },
    opt_projected: { ...opt, hiddenSize: 48, embeddingSize: 20 },
    opt_350m: { ...opt, residual: "post-norm", finalNorm: false, embeddingSize: 20 },
    opt_no_bias: opt,
    opt_no_affine: opt,
    opt_no_final_norm: { ...opt, finalNorm: false },
    opt_gelu: { ...opt, activation: "gelu" },
    opt_relu2: { ...opt, activation: "relu_squared", layers: 1 },
    opt_sigmoid: { ...opt, activation: "sigmoid" },
    opt_untied: { ...opt, tiedHead: false, embeddingSize: 20 },
    opt_odd: {
      ...opt,
      hiddenSize: 72,
      heads: 3,
      kvHeads: 3,
      headDim: 24,
      vocabSize: 131,
      ffnSize: 100,
      maxPositions: 39,
    },
    opt_heads: { ...opt, hiddenSize: 80, heads: 10, kvHeads: 10, headDim: 8, ffnSize: 140 },
    opt_bf16: opt,
    gpt2: { ...gpt2, ffnSize: 256, attentionScales: 0.25 },
    gpt2_inner: { ...gpt2, ffnSize: 100, activation: "quick_gelu" },
    gpt2_tanh: { ...gpt2, activation: "tanh" },
    gpt2_linear: { ...gpt2, activation: "none" },
    gpt2_inverse_layer: { ...gpt2, attentionScales: [1, 2, 3].map((layer) => 12 ** -0.5 / layer) },
    gpt2_upcast: { ...gpt2, attentionScales: [1, 2, 3].map((layer) => 12 ** -0.5 / layer) },
    gpt2_unscaled: { ...gpt2, attentionScales: 1 },
    gpt2_untied: { ...gpt2, tiedHead: false },
    gpt2_odd: { ...gpt2, headDim: 24, normEpsilon: 1e-2 },
    gpt2_fp32: gpt2,
    gpt2_heads: { ...gpt2, hiddenSize: 100, heads: 25, kvHeads: 25, headDim: 4, ffnSize: 400 },
    llama: { ...llama, heads: 4, kvHeads: 2, headDim: 16, attentionScales: 0.25 },
    llama_mha: { ...llama, kvHeads: 4 },
    llama_mqa: { ...llama, kvHeads: 1 },
    llama_head_dim: { ...llama, hiddenSize: 48, heads: 4, headDim: 20 },
    llama_bias: llama,
    llama_tied: { ...llama, tiedHead: true },
    llama_gelu: { ...llama, activation: "gelu_tanh", normEpsilon: 1e-2 },
    llama_odd: { ...llama, hiddenSize: 72, heads: 3, kvHeads: 1, headDim: 24 },
    llama_heads: { ...llama, hiddenSize: 72, heads: 9, kvHeads: 3, headDim: 8, ffnSize: 150 },
    llama_groups: { ...llama, heads: 8, kvHeads: 2, headDim: 8, ffnSize: 150 },
    llama_theta: llama,
    llama_bf16: llama,
    llama_fp32: llama,
    llama_linear: { ...llama, maxPositions: 128 },
    llama_dynamic: { ...llama, maxPositions: 192 },
    llama_dynamic_3: { ...llama, maxPositions: 128 },
    llama_llama3: { ...llama, maxPositions: 128 },
    llama_yarn: { ...llama, maxPositions: 128 },
    llama_yarn_mscale: { ...llama, maxPositions: 128 },
    llama_yarn_attention: { ...llama, maxPositions: 128 },
    bloom: { ...bloom, heads: 4, kvHeads: 4, headDim: 16, ffnSize: 256, attentionScales: 0.25 },
    falcon: { ...falcon, heads: 4, kvHeads: 2, headDim: 16, ffnSize: 256 },
    falcon_7b: { ...falcon, heads: 4, kvHeads: 1, ffnSize: 160, residual: "shared-norm parallel" },
    falcon_rw: {
      ...falcon,
      ...{ heads: 4, kvHeads: 4, residual: "sequential", positions: "alibi", rotary: undefined },
      slopes: [2 ** -3, 2 ** -5, 2 ** -7, 2 ** -9], // twice, of scores that are scaled by a quarter
    },
    gptj: { ...gptj, ffnSize: 256 },
    gptj_whole: {
      ...gptj,
      ffnSize: 100,
      headDim: 12,
      attentionScales: 12 ** -0.5,
      maxPositions: 48,
      tiedHead: true,
      turned: "12 interleaved",
    },
    codegen: { ...gptj, family: "codegen", ffnSize: 144 },
    codegen_heads: {
      ...gptj,
      family: "codegen",
      heads: 8,
      kvHeads: 8,
      headDim: 6,
      attentionScales: 6 ** -0.5,
      maxPositions: 48,
      turned: "4 interleaved",
    },
    gpt_neox: { ...gptNeox, ffnSize: 192 },
    gpt_neox_sequential: {
      ...gptNeox,
      headDim: 12,
      attentionScales: 12 ** -0.5,
      maxPositions: 64,
      residual: "sequential",
      turned: "6 half",
    },
    gpt_neox_dynamic: { ...gptNeox, heads: 2, kvHeads: 2, headDim: 24, attentionScales: 24 ** -0.5, turned: "8 half" },
    gpt_neo: { ...gpt2, family: "gpt_neo", attentionScales: 1, windows: [undefined, 8], maxPositions: 128 },
    gpt_neo_local: {
      ...gpt2,
      family: "gpt_neo",
      heads: 3,
      attentionScales: 1,
      windows: [5, undefined, 5],
      tiedHead: false,
    },
    gpt_bigcode: { ...gpt2, family: "gpt_bigcode", kvHeads: 1, ffnSize: 160, attentionScales: 0.25 },
    gpt_bigcode_heads: {
      ...gpt2,
      family: "gpt_bigcode",
      heads: 3,
      kvHeads: 3,
      attentionScales: 1,
      activation: "gelu",
      tiedHead: false,
    },
    mpt: { ...mpt, ffnSize: 256, clamp: undefined },
    mpt_heads: {
      ...{
        ...mpt,
        heads: 6,
        kvHeads: 6,
        headDim: 8,
        attentionScales: 0.25,
        clamp: 0.9,
        maxPositions: 48,
        tiedHead: false,
      },
      slopes: [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3],
    },
    phi: { ...phi, ffnSize: 192 },
    phi_qk_norm: {
      ...phi,
      kvHeads: 2,
      headDim: 24,
      attentionScales: 24 ** -0.5,
      qkNorm: "head",
      maxPositions: 48,
      turned: "6 half",
    },
    persimmon: { ...phi, family: "persimmon", residual: "sequential", activation: "relu_squared", qkNorm: "head" },
    persimmon_plain: {
      ...{ ...phi, family: "persimmon", residual: "sequential", activation: "gelu", heads: 3, kvHeads: 3 },
      ...{ maxPositions: 48, turned: "12 half" },
    },
    xglm: { ...opt, family: "xglm", positions: "sinusoidal", activation: "gelu", embeddingScale: 8, maxPositions: 128 },
    xglm_unscaled: {
      ...opt,
      family: "xglm",
      positions: "sinusoidal",
      embeddingScale: undefined,
      headDim: 20,
      tiedHead: false,
    },
    biogpt: { ...opt, family: "biogpt", activation: "gelu", embeddingScale: 8, ffnSize: 160, maxPositions: 128 },
    biogpt_unscaled: {
      ...opt,
      family: "biogpt",
      activation: "gelu_tanh",
      embeddingScale: undefined,
      heads: 3,
      tiedHead: false,
    },
  };

  const none = undefined;
  const mixture = { ...llama, experts: "2 of 4", scoring: "softmax", normalised: false, sharedExpert: none } as const;
  Object.assign(expected, {
    llama4_text: {
      ...{ ...llama, family: "llama4_text", normEpsilon: 1e-5, layers: 4, ffnSize: 48 },
      positions: ["rotary", "rotary", "rotary", "none"],
      ...{ experts: [none, "1 of 4", none, "1 of 4"], scoring: [none, "sigmoid", none, "sigmoid"] },
      sharedExpert: [none, { size: 24 }, none, { size: 24 }],
    },
    mixtral: { ...mixture, family: "mixtral", normEpsilon: 1e-5, normalised: true, windows: none, ffnSize: 96 },
    qwen2_moe: { ...mixture, family: "qwen2_moe", sharedExpert: { size: 40, gate: "sigmoid" }, windows: none },
    qwen3_moe: {
      ...{ ...mixture, family: "qwen3_moe", qkNorm: "head", layers: 3, ffnSize: 112 },
      ...{ experts: [none, "2 of 6", "2 of 6"], scoring: [none, "softmax", "softmax"], normalised: [none, true, true] },
    },
    olmoe: { ...mixture, family: "olmoe", normEpsilon: 1e-5, experts: "2 of 6", qkNorm: "row", clamp: none },
    granitemoe: {
      ...{ ...mixture, family: "granitemoe", scoring: "topk-softmax", attentionScales: 0.2, embeddingScale: 4 },
      ...{ residualScale: 0.5, logitScale: 1 / 1.5 },
    },
    deepseek_v2: {
      ...{ ...llama, family: "deepseek_v2", headDim: 24, attentionScales: 24 ** -0.5, turned: "8 interleaved" },
      ...{ experts: [none, "2 of 4"], scoring: [none, "softmax"], sharedExpert: [none, { size: 24 }] },
      latent: { rank: 24, positionDims: 8, valueDim: 16, norm: { kind: "rms", epsilon: 1e-6 } },
    },
    deepseek_v3: {
      ...{ ...llama, family: "deepseek_v3", headDim: 24, attentionScales: 24 ** -0.5, turned: "8 interleaved" },
      ...{ experts: [none, "2 of 8"], scoring: [none, "sigmoid"], normalised: [none, true] },
      latent: { queryRank: 32, rank: 24, positionDims: 8, valueDim: 16, norm: { kind: "rms", epsilon: 1e-6 } },
    },
    deepseek_v2_groups: {
      ...{ family: "deepseek_v2", experts: [none, "2 of 8"], sharedExpert: [none, { size: 48 }] },
      latent: { queryRank: 20, rank: 24, positionDims: 8, valueDim: 12, norm: { kind: "rms", epsilon: 1e-6 } },
    },
    deepseek_v3_ungrouped: { family: "deepseek_v3", experts: [none, "2 of 6"], turned: "8 half", headDim: 24 },
    gpt_oss_limits: {
      ...mixture,
      family: "gpt_oss",
      normEpsilon: 1e-5,
      experts: "3 of 5",
      scoring: "topk-softmax",
      windows: [none, 6],
    },
    phimoe_longrope: {
      ...mixture,
      family: "phimoe",
      norm: "layer",
      normEpsilon: 1e-5,
      scoring: "sparsemixer",
      windows: 9,
      experts: "2 of 6",
    },
    phimoe: { ...mixture, family: "phimoe", norm: "layer", normEpsilon: 1e-5, scoring: "sparsemixer" },
    gpt_oss: {
      ...{ ...mixture, family: "gpt_oss", normEpsilon: 1e-5, scoring: "topk-softmax", windows: [8, none] },
      ...{ maxPositions: 128 },
    },
    mistral: { ...llama, family: "mistral", kvHeads: 2, ffnSize: 160, windows: 8 },
    ministral: { ...llama, family: "ministral", windows: [8, none, 8], layers: 3 },
    ministral3: {
      ...{ ...llama, family: "ministral3", normEpsilon: 1e-5, windows: none, maxPositions: 128 },
      temperature: { scale: 0.1, period: 16, offset: 0 },
    },
    qwen2: { ...llama, family: "qwen2", tiedHead: true, windows: none },
    qwen3: { ...llama, family: "qwen3", tiedHead: true, headDim: 24, qkNorm: "head" },
    phi3: { ...llama, family: "phi3", normEpsilon: 1e-5, windows: 8, turned: "16 half" },
    phi3_longrope: { ...llama, family: "phi3", normEpsilon: 1e-5, windows: none, maxPositions: 128 },
    stablelm: { ...llama, family: "stablelm", norm: "layer", normEpsilon: 1e-5, turned: "4 half" },
    starcoder2: {
      ...{ ...llama, family: "starcoder2", norm: "layer", normEpsilon: 1e-5, windows: 8 },
      ...{ activation: "gelu_tanh", gatedFfn: false, tiedHead: true },
    },
    olmo: { ...llama, family: "olmo", norm: "layer", normEpsilon: 1e-5, clamp: 1 },
    olmo2: { ...llama, family: "olmo2", normEpsilon: 1e-5, norms: "output", qkNorm: "row" },
    olmo3: {
      ...{ ...llama, family: "olmo3", normEpsilon: 1e-5, norms: "output", qkNorm: "row" },
      ...{ windows: [8, none, 8], tables: [1, 0, 1] },
    },
    granite: {
      ...{ ...llama, family: "granite", attentionScales: 0.15, embeddingScale: 6, residualScale: 0.4 },
      logitScale: 0.5,
    },
    cohere: {
      ...{ ...llama, family: "cohere", norm: "layer", normEpsilon: 1e-5, residual: "shared-norm parallel" },
      ...{ tiedHead: true, logitScale: 0.9, turned: "16 interleaved" },
    },
    cohere2: {
      ...{ ...llama, family: "cohere2", norm: "layer", normEpsilon: 1e-5, residual: "shared-norm parallel" },
      ...{
        tiedHead: true,
        logitScale: 0.9,
        windows: [8, 8, 8, none],
        positions: ["rotary", "rotary", "rotary", "none"],
      },
    },
    gemma: {
      ...{ ...llama, family: "gemma", kvHeads: 1, headDim: 24, weightOffset: 1, embeddingScale: 8 },
      ...{ activation: "gelu_tanh", tiedHead: true },
    },
    gemma2: {
      ...{ ...llama, family: "gemma2", attentionScales: 20 ** -0.5, weightOffset: 1, embeddingScale: 8 },
      ...{ activation: "gelu_tanh", tiedHead: true, norms: "input,output", windows: [8, none], softCaps: [6, 10] },
    },
    gemma3_text: {
      ...{ ...llama, family: "gemma3_text", attentionScales: 0.25, weightOffset: 1, qkNorm: "head" },
      ...{ embeddingScale: Math.fround(Math.sqrt(48)), activation: "gelu_tanh", tiedHead: true, maxPositions: 128 },
      ...{ norms: "input,output", windows: [8, 8, none, 8], tables: [1, 1, 0, 1], softCaps: [none, none] },
    },
    glm: { ...llama, family: "glm", normEpsilon: 1.5625e-7, turned: "8 interleaved", norms: "input" },
    glm4: { ...llama, family: "glm4", normEpsilon: 1.5625e-7, turned: "8 interleaved", norms: "input,output" },
    smollm3: { ...llama, family: "smollm3", tiedHead: true, positions: ["rotary", "rotary", "rotary", "none"] },
    nemotron: {
      ...{ ...llama, family: "nemotron", norm: "layer", normEpsilon: 1e-5, weightOffset: 1, turned: "8 half" },
      ...{ activation: "relu_squared", gatedFfn: false },
    },
    helium: { ...llama, family: "helium", normEpsilon: 1e-8, turned: "16 interleaved" },
    exaone4: {
      ...{ ...llama, family: "exaone4", normEpsilon: 1e-5, norms: "output", qkNorm: "head" },
      ...{ windows: [8, 8, 8, none], positions: ["rotary", "rotary", "rotary", "none"] },
    },
    arcee: { ...llama, family: "arcee", normEpsilon: 1e-5, activation: "relu_squared", gatedFfn: false },
    apertus: { ...llama, family: "apertus", normEpsilon: 1e-5, activation: "xielu", gatedFfn: false, qkNorm: "head" },
    ernie4_5: { ...llama, family: "ernie4_5", normEpsilon: 1e-5, tiedHead: true, turned: "16 interleaved" },
    hunyuan_v1_dense: { ...llama, family: "hunyuan_v1_dense", normEpsilon: 1e-5, qkNorm: "head" },
    seed_oss: { ...llama, family: "seed_oss", headDim: 24 },
    llama_longrope: { ...llama, maxPositions: 64 },
    qwen2_window: { ...llama, family: "qwen2", windows: [none, 5, 5], maxPositions: 48 },
    phi3_partial: { ...llama, family: "phi3", normEpsilon: 1e-5, turned: "18 half", maxPositions: 48 },
    stablelm_qk_norm: {
      ...{ ...llama, family: "stablelm", norm: "layer", normEpsilon: 1e-5, turned: "6 half", qkNorm: "head" },
      ...{ residual: "shared-norm parallel", maxPositions: 48 },
    },
    cohere_qk_norm: {
      ...{ ...llama, family: "cohere", norm: "layer", normEpsilon: 1e-5, residual: "shared-norm parallel" },
      ...{ tiedHead: true, logitScale: 2, turned: "8 interleaved", qkNorm: "head", heads: 6, kvHeads: 3 },
    },
    hunyuan_alpha: { ...llama, family: "hunyuan_v1_dense", normEpsilon: 1e-5, qkNorm: "head", headDim: 20 },
    olmo3_yarn: {
      ...{ ...llama, family: "olmo3", normEpsilon: 1e-5, norms: "output", qkNorm: "row" },
      ...{ windows: [5, none, 5], tables: [1, 0, 1], maxPositions: 64 },
    },
  } satisfies Record<string, Traits>);

  test("every case is in the table", () => assert.deepEqual(Object.keys(expected).sort(), goldens.sort()));

  for (const [name, fields] of Object.entries(expected)) {
    test(name, () => {
      const spec = describeGolden(name);
      const traits = traitsOf(spec);
      assert.deepEqual(
        Object.fromEntries(Object.keys(fields).map((key) => [key, traits[key as keyof Traits]])),
        fields,
      );
      assert.equal(spec.layers.length, traits.layers);
      for (const { attention } of spec.kinds) {
        const { positions } = attention;
        if (positions.kind !== "rotary") continue;
        assert.equal(spec.rotaryTables[positions.table]?.inverseFrequencies.length, positions.dims / 2);
      }
    });
  }
});

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
