import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { readRope } from "../parts/rope.js";

/** Llama (Touvron et al. 2023, arXiv:2302.13971), as transformers/models/llama computes it. */
export const llama: ModelDescriptor = {
  modelType: "llama",
  summary: "Llama: MHA, GQA and MQA, rope types default, linear, dynamic, llama3 and yarn, biases, tied or not",
  classes: ["LlamaForCausalLM", "LLaMAForCausalLM"],
  bodyClasses: ["LlamaModel"],
  aliases: {},
  // pretraining_tp only cut the same products into pieces, in transformers 4.
  ignoredKeys: ["attention_dropout", "initializer_range", "max_sequence_length", "pretraining_tp"],
  fixedKeys: {},
  bodyPrefixes: ["model.", ""],
  ignoredTensors: [/(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers });
    const hidden = config.integer("hidden_size", { maximum: limits.width });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn });
    const vocabulary = config.integer("vocab_size", { maximum: limits.vocabulary });
    const { heads, kvHeads, headDim } = readHeads(config, hidden);
    const positions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const rope = readRope(config, { headDim, positions });
    const attentionBias = config.flag("attention_bias", false);
    const mlpBias = config.flag("mlp_bias", false);

    return {
      spec: {
        family: "llama",
        layers,
        vocabSize: vocabulary,
        hiddenSize: hidden,
        embeddingSize: hidden,
        heads,
        kvHeads,
        headDim,
        ffnSize: ffn,
        maxPositions: rope.maxPositions,
        gatedFfn: true,
        activation: config.choice("hidden_act", activations, "silu"),
        norm: "rms",
        normPlacement: "pre",
        normEpsilon: config.number("rms_norm_eps", { minimum: 0, maximum: 1, unset: 1e-6 }),
        finalNorm: true,
        positions: "rotary",
        positionOffset: 0,
        rotary: rope.rotary,
        attentionScales: Array<number>(layers).fill(headDim ** -0.5),
        tiedHead: config.flag("tie_word_embeddings", false),
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabulary, hidden]),
        ...everyLayer(layers, "layers", [
          ...norm("attn.norm", "input_layernorm", hidden, false),
          ...linear("attn.q", "self_attn.q_proj", heads * headDim, hidden, attentionBias),
          ...linear("attn.k", "self_attn.k_proj", kvHeads * headDim, hidden, attentionBias),
          ...linear("attn.v", "self_attn.v_proj", kvHeads * headDim, hidden, attentionBias),
          ...linear("attn.o", "self_attn.o_proj", hidden, heads * headDim, attentionBias),
          ...norm("mlp.norm", "post_attention_layernorm", hidden, false),
          ...linear("mlp.gate", "mlp.gate_proj", ffn, hidden, mlpBias),
          ...linear("mlp.up", "mlp.up_proj", ffn, hidden, mlpBias),
          ...linear("mlp.down", "mlp.down_proj", hidden, ffn, mlpBias),
        ]),
        ...norm("norm", "norm", hidden, false),
      ],
      head: linear("head", "lm_head", vocabulary, hidden, false),
    };
  },
};

function readHeads(config: ConfigReader, hidden: number): { heads: number; kvHeads: number; headDim: number } {
  const heads = config.integer("num_attention_heads", { maximum: limits.heads });
  const kvHeads = config.integer("num_key_value_heads", { maximum: limits.heads, nullable: true, unset: heads });
  if (heads % kvHeads !== 0) {
    throw config.wrong("num_key_value_heads", `a divisor of the number of attention heads, ${heads}`);
  }
  // The reference insists on this even where head_dim is given.
  const even = evenHeads(config, "hidden_size", hidden, heads);
  const headDim = config.integer("head_dim", { maximum: limits.headDim, nullable: true, unset: even });
  if (headDim % 2 !== 0) {
    const key = config.has("head_dim") ? "head_dim" : "hidden_size";
    throw config.wrong(key, `heads of even width (rotary positions turn pairs), found ${headDim}`);
  }
  return { heads, kvHeads, headDim };
}
