import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, readHeadNorms, readKvHeads, separateQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { readPartialRope } from "../parts/rope.js";

/** Phi-1 and Phi-2 (Gunasekar et al. 2023, arXiv:2306.11644), as transformers/models/phi computes them. */
export const phi: ModelDescriptor = {
  modelType: "phi",
  summary: "Phi-1, 1.5 and 2: one norm for both parts of a layer, the first elements of heads turn, biases everywhere",
  classes: ["PhiForCausalLM"],
  bodyClasses: ["PhiModel"],
  aliases: {},
  ignoredKeys: "attention_dropout embd_pdrop initializer_range resid_pdrop".split(" "),
  fixedKeys: {},
  bodyPrefixes: ["model.", ""],
  ignoredTensors: [/(^|\.)rotary_emb\.inv_freq$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers, unset: 24 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 2048 });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads, unset: 32 });
    const headDim = evenHeads(config, "hidden_size", hidden, heads);
    const sizes = { hidden, heads, kvHeads: readKvHeads(config, heads), headDim };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 51_200 });
    const ffn = config.integer("intermediate_size", { maximum: limits.ffn, unset: 8192 });
    const trained = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const rope = readPartialRope(config, { headDim, positions: trained }, { share: 0.5 });
    const layerNorm = readNorm(config, "layer", "layer_norm_eps", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("hidden_act", activations, "gelu_new"));
    const headNorms = readHeadNorms(config, layerNorm, sizes, false);
    const kind = { feedForward, norms: ahead(layerNorm), residual: "shared-norm parallel" } as const;
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", false), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "phi", vocabSize, hiddenSize: hidden, maxPositions: rope.maxPositions },
        kinds: [{ attention: { ...attention(sizes, rope.turned), ...headNorms.attention }, ...kind }],
        ...{ embedding: { width: hidden }, layers: Array<number>(layers).fill(0), rotaryTables: [rope.rotary], output },
      },
      body: [
        stored("embed.tokens.weight", "embed_tokens.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "layers", [
          ...norm("attn.norm", "input_layernorm", hidden, true),
          ...separateQkv(sizes, ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense"], true),
          ...headNorms.layerPlaces,
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.fc1", down: "mlp.fc2" }, true),
        ]),
        ...norm("norm", "final_layernorm", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, true),
    };
  },
};
