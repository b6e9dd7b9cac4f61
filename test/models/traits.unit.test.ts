import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeGolden, goldens, traitsOf } from "./helpers.js";

type Traits = Partial<ReturnType<typeof traitsOf>>;

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

  test("every case is in the table", () => assert.deepEqual(Object.keys(expected).sort(), goldens.toSorted()));

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
