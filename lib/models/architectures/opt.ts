import type { NormSpec } from "../../native/spec.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention } from "../parts/attention.js";
import { fairseqLayer } from "../parts/fairseq.js";
import { plainFeedForward } from "../parts/feed_forward.js";

/** OPT (Zhang et al. 2022, arXiv:2205.01068), as transformers/models/opt computes it. */
export const opt: ModelDescriptor = {
  modelType: "opt",
  summary: "OPT: pre- and post-LN, projected embeddings (350m), with and without biases and norm weights, tied or not",
  classes: ["OPTForCausalLM"],
  bodyClasses: ["OPTModel"],
  aliases: {},
  ignoredKeys: ["activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop"],
  // Galactica's configs name these two; nothing reads them.
  fixedKeys: { learned_embeddings: true, scale_embeddings: false },
  bodyPrefixes: ["model.decoder.", "decoder.", ""],
  ignoredTensors: [/(^|\.)decoder\.version$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers });
    const hidden = config.integer("hidden_size", { maximum: limits.width });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads });
    const sizes = { hidden, heads, kvHeads: heads, headDim: evenHeads(config, "hidden_size", hidden, heads) };
    const ffn = config.integer("ffn_dim", { maximum: limits.ffn });
    const vocabulary = config.integer("vocab_size", { maximum: limits.vocabulary });
    const positions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const embedding = config.integer("word_embed_proj_dim", { maximum: limits.width, nullable: true, unset: hidden });
    const bias = config.flag("enable_bias", true);
    const affine = config.flag("layer_norm_elementwise_affine", true);
    const preNorm = config.flag("do_layer_norm_before", true);
    const finalNorm = !config.flag("_remove_final_layer_norm", false) && preNorm;
    const projected = embedding !== hidden;
    const epsilon: NormSpec = { kind: "layer", epsilon: 1e-5 };
    const feedForward = plainFeedForward(ffn, config.choice("activation_function", activations, "relu"));

    return {
      spec: {
        family: "opt",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions: positions,
        embedding: { width: embedding, positions: { kind: "learned", offset: 2 } },
        kinds: [
          {
            attention: attention(sizes, { kind: "none" }),
            feedForward,
            norms: { norm: epsilon, input: preNorm, output: false },
            residual: preNorm ? "sequential" : "post-norm",
          },
        ],
        layers: Array<number>(layers).fill(0),
        rotaryTables: [],
        output: {
          kind: "logits",
          tied: config.flag("tie_word_embeddings", true),
          ...(finalNorm ? { norm: epsilon } : {}),
        },
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabulary, embedding]),
        stored("embed.positions.weight", "embed_positions.weight", [positions + 2, hidden]),
        ...(projected ? linear("embed.projection", "project_in", hidden, embedding, false) : []),
        ...everyLayer(layers, "layers", fairseqLayer(sizes, feedForward, { bias, normsHaveWeights: affine })),
        ...(finalNorm && affine ? norm("norm", "final_layer_norm", hidden, true) : []),
        ...(projected ? linear("head.projection", "project_out", embedding, hidden, false) : []),
      ],
      head: linear("head", "lm_head", vocabulary, embedding, false),
    };
  },
};
