import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, readKvHeads, separateQkv } from "../parts/attention.js";
import { feedForwardPlaces, gatedFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { readRope, wholeRotary } from "../parts/rope.js";

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
    const sizes = { hidden, ...readHeads(config, hidden) };
    const { headDim } = sizes;
    const trained = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const positions = wholeRotary(config, config.has("head_dim") ? "head_dim" : "hidden_size", headDim);
    const rope = readRope(config, { headDim, positions: trained });
    const attentionBias = config.flag("attention_bias", false);
    const mlpBias = config.flag("mlp_bias", false);
    const feedForward = gatedFeedForward(ffn, config.choice("hidden_act", activations, "silu"));
    const rmsNorm = readNorm(config, "rms", "rms_norm_eps", 1e-6);

    return {
      spec: {
        family: "llama",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions: rope.maxPositions,
        embedding: { width: hidden },
        kinds: [
          {
            attention: attention(sizes, positions),
            feedForward,
            norms: ahead(rmsNorm),
            residual: "sequential",
          },
        ],
        layers: Array<number>(layers).fill(0),
        rotaryTables: [rope.rotary],
        output: { kind: "logits", tied: config.flag("tie_word_embeddings", false), norm: rmsNorm },
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabulary, hidden]),
        ...everyLayer(layers, "layers", [
          ...norm("attn.norm", "input_layernorm", hidden, false),
          ...separateQkv(
            sizes,
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
            attentionBias,
          ),
          ...norm("mlp.norm", "post_attention_layernorm", hidden, false),
          ...feedForwardPlaces(
            feedForward,
            hidden,
            { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" },
            mlpBias,
          ),
        ]),
        ...norm("norm", "norm", hidden, false),
      ],
      head: linear("head", "lm_head", vocabulary, hidden, false),
    };
  },
};

function readHeads(config: ConfigReader, hidden: number): { heads: number; kvHeads: number; headDim: number } {
  const heads = config.integer("num_attention_heads", { maximum: limits.heads });
  const kvHeads = readKvHeads(config, heads);
  // The reference insists on this even where head_dim is given.
  const even = evenHeads(config, "hidden_size", hidden, heads);
  const headDim = config.integer("head_dim", { maximum: limits.headDim, nullable: true, unset: even });
  return { heads, kvHeads, headDim };
}
