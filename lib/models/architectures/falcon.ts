import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { falconSlopes } from "../parts/alibi.js";
import { attention, groupedQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";
import { readRope, wholeRotary } from "../parts/rope.js";

/** Falcon (Almazrouei et al. 2023, arXiv:2311.16867), as transformers/models/falcon computes it. */
export const falcon: ModelDescriptor = {
  modelType: "falcon",
  summary:
    "Falcon: 7B (multi-query, one norm), 40B and 180B (grouped, two norms), RW (ALiBi, one part after the other)",
  classes: ["FalconForCausalLM"],
  bodyClasses: ["FalconModel"],
  aliases: { n_embed: "hidden_size" },
  ignoredKeys: ["attention_dropout", "auto_map", "hidden_dropout", "initializer_range"],
  fixedKeys: { apply_residual_connection_post_layernorm: false },
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/\.self_attention\.(maybe_rotary|rotary_emb)\.inv_freq$/],

  describe(config) {
    const layers = config.integer("num_hidden_layers", { maximum: limits.layers, unset: 32 });
    const hidden = config.integer("hidden_size", { maximum: limits.width, unset: 4544 });
    const heads = config.integer("num_attention_heads", { maximum: limits.heads, unset: 71 });
    const headDim = evenHeads(config, "hidden_size", hidden, heads);
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 65_024 });
    const ffn = config.integer("ffn_hidden_size", { maximum: limits.ffn, nullable: true, unset: 4 * hidden });
    const bias = config.flag("bias", false);
    const { kvHeads, residual, names } = readStyle(config, heads);
    const sizes = { hidden, heads, kvHeads, headDim };
    const usesAlibi = config.flag("alibi", false);
    const trained = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
    const rope = readRope(config, { headDim, positions: trained });
    const slopes = falconSlopes(heads, headDim);
    const positions = usesAlibi ? ({ kind: "alibi", slopes } as const) : wholeRotary(config, "hidden_size", headDim);
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const feedForward = plainFeedForward(ffn, config.choice("activation", activations, "gelu"));
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    const kinds = [{ attention: attention(sizes, positions), feedForward, norms: ahead(layerNorm), residual }];
    const rotaryTables = usesAlibi ? [] : [rope.rotary];
    const maxPositions = usesAlibi ? trained : rope.maxPositions;
    const common = { family: "falcon", vocabSize, hiddenSize: hidden, maxPositions, embedding: { width: hidden } };
    return {
      spec: { ...common, kinds, layers: Array<number>(layers).fill(0), rotaryTables, output },
      body: [
        stored("embed.tokens.weight", "word_embeddings.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "h", [
          ...norm("attn.norm", names[0], hidden, true),
          ...groupedQkv(sizes, "self_attention.query_key_value", bias),
          ...linear("attn.o", "self_attention.dense", hidden, hidden, bias),
          ...(names[1] === undefined ? [] : norm("mlp.norm", names[1], hidden, true)),
          ...feedForwardPlaces(feedForward, hidden, { up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h" }, bias),
        ]),
        ...norm("norm", "ln_f", hidden, true),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};

/** The newer decoder (40B) has groups of heads and a norm for each part; the older one heads of their own (RW) or one KV head (7B). */
function readStyle(config: ConfigReader, heads: number) {
  const grouped = config.flag("new_decoder_architecture", false);
  const multiQuery = config.flag("multi_query", true) && !grouped;
  const isParallel = config.flag("parallel_attn", true);
  if (grouped && !isParallel) throw config.wrong("parallel_attn", "true with new_decoder_architecture");
  const given = config.integer("num_kv_heads", { maximum: limits.heads, nullable: true, unset: heads });
  if (grouped ? heads % given !== 0 : !multiQuery && given !== heads)
    throw config.wrong("num_kv_heads", `${grouped ? "a divisor of " : ""}the number of attention heads, ${heads}`);
  const kvHeads = multiQuery ? 1 : given;
  const norms = config.integer("num_ln_in_parallel_attn", { maximum: 2, nullable: true, unset: grouped ? 2 : 1 });
  if (!isParallel)
    return { kvHeads, residual: "sequential", names: ["input_layernorm", "post_attention_layernorm"] } as const;
  if (norms === 1) return { kvHeads, residual: "shared-norm parallel", names: ["input_layernorm", undefined] } as const;
  if (!grouped) throw config.wrong("num_ln_in_parallel_attn", "1 or null without new_decoder_architecture");
  return { kvHeads, residual: "parallel", names: ["ln_attn", "ln_mlp"] } as const;
}
