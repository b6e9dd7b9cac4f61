import { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { bookkeepingKeys } from "../keys.js";
import { limits } from "../limits.js";
import { mptSlopes } from "../parts/alibi.js";
import { attention, fusedQkv } from "../parts/attention.js";
import { feedForwardPlaces, plainFeedForward } from "../parts/feed_forward.js";
import { ahead, readNorm } from "../parts/norms.js";

/** MPT (MosaicML 2023), as transformers/models/mpt computes it. */
export const mpt: ModelDescriptor = {
  modelType: "mpt",
  summary: "MPT: ALiBi, norms without biases, queries, keys and values that may be limited",
  classes: ["MptForCausalLM", "MPTForCausalLM"],
  bodyClasses: ["MptModel", "MPTModel"],
  aliases: { hidden_size: "d_model", num_attention_heads: "n_heads", num_hidden_layers: "n_layers" },
  // The reference has inner widths of four times the model's whatever expansion_ratio says, and no learned positions.
  ignoredKeys: (
    "emb_pdrop embedding_fraction expansion_ratio fc_type ffn_config init_config init_device initializer_range learned_pos_emb " +
    "max_position_embeddings resid_pdrop verbose"
  ).split(" "),
  fixedKeys: { no_bias: true, logit_scale: null },
  bodyPrefixes: ["transformer.", ""],
  ignoredTensors: [/(^|\.)attn_bias$/],

  describe(config) {
    const layers = config.integer("n_layers", { maximum: limits.layers, unset: 24 });
    const hidden = config.integer("d_model", { maximum: limits.width, unset: 2048 });
    const heads = config.integer("n_heads", { maximum: limits.heads, unset: 16 });
    const headDim = evenHeads(config, "d_model", hidden, heads);
    const sizes = { hidden, heads, kvHeads: heads, headDim };
    const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary, unset: 50_368 });
    const maxPositions = config.integer("max_seq_len", { maximum: limits.positions, unset: 2048 });
    const layerNorm = readNorm(config, "layer", "layer_norm_epsilon", 1e-5);
    const kindOfNorm = config.text("norm_type", "low_precision_layernorm");
    if (!kindOfNorm.endsWith("layernorm")) throw config.wrong("norm_type", "low_precision_layernorm or layernorm");
    const feedForward = plainFeedForward(4 * hidden, "gelu");
    const { clamp, scale } = readAttention(config, headDim);
    const spec = attention(sizes, { kind: "alibi", slopes: mptSlopes(heads) }, { scale });
    const kind = { feedForward, norms: ahead(layerNorm), residual: "sequential" } as const;
    const output = { kind: "logits", tied: config.flag("tie_word_embeddings", true), norm: layerNorm } as const;
    return {
      spec: {
        ...{ family: "mpt", vocabSize, hiddenSize: hidden, maxPositions, embedding: { width: hidden }, output },
        kinds: [{ attention: clamp === 0 ? spec : { ...spec, clamp }, ...kind }],
        ...{ layers: Array<number>(layers).fill(0), rotaryTables: [] },
      },
      body: [
        stored("embed.tokens.weight", "wte.weight", [vocabSize, hidden]),
        ...everyLayer(layers, "blocks", [
          ...norm("attn.norm", "norm_1", hidden, false),
          ...fusedQkv(sizes, "attn.Wqkv"),
          ...linear("attn.o", "attn.out_proj", hidden, hidden, false),
          ...norm("mlp.norm", "norm_2", hidden, false),
          ...feedForwardPlaces(feedForward, hidden, { up: "ffn.up_proj", down: "ffn.down_proj" }, false),
        ]),
        ...norm("norm", "norm_f", hidden, false),
      ],
      head: linear("head", "lm_head", vocabSize, hidden, false),
    };
  },
};

/** Models by settings that the reference does not compute have other weights too: they are refused. */
function readAttention(config: ConfigReader, headDim: number): { clamp: number; scale: number } {
  const section = config.section("attn_config") ?? ConfigReader.empty("attn_config");
  // The section is a whole config in transformers 5, with the keys that any has.
  for (const key of section.keys())
    if (bookkeepingKeys.has(key) || ["attn_impl", "attn_pdrop"].includes(key)) section.raw(key);
  const only = (key: string, value: unknown) => {
    if (section.has(key) && section.raw(key) !== value) throw section.wrong(key, String(value));
  };
  for (const key of ["qk_ln", "prefix_lm", "attn_uses_sequence_id", "is_encoder_decoder"]) only(key, false);
  only("alibi", true);
  only("attn_type", "multihead_attention");
  if ((section.raw("alibi_bias_max") ?? 8) !== 8)
    config.notes.push("attn_config.alibi_bias_max is without effect, as in transformers, whose slopes are those of 8");
  const clamp = section.number("clip_qkv", { minimum: 0, nullable: true, unset: 0 });
  return { clamp, scale: section.number("softmax_scale", { nullable: true, unset: headDim ** -0.5 }) };
}
