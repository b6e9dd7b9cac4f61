import type { LayerSpec, NormSpec, RotarySpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, fusedQkv } from "../parts/attention.js";
import { encoderClasses } from "../parts/encoder.js";
import { gatedFeedForward, stackedGate } from "../parts/feed_forward.js";
import { chooseHead, type DenseLayer, type HeadNames } from "../parts/heads.js";
import { kindsOf, type LayerType, readLayerTypes } from "../parts/layer_types.js";
import { ahead, readNorm } from "../parts/norms.js";
import { type RopeSizes, readRopeByLayerType, wholeRotary } from "../parts/rope.js";
import { ropeTypes } from "../parts/rope_types.js";

const tasks = encoderClasses("ModernBert");

/** ModernBERT (Warner et al. 2024, arXiv:2412.13663), as transformers/models/modernbert computes it. */
export const modernbert: ModelDescriptor = {
  modelType: "modernbert",
  summary: "ModernBERT: windows on both sides in most layers, two rotary bases, gated feed-forward networks",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  ignoredKeys: (
    "attention_dropout classifier_dropout cls_token_id deterministic_flash_attn embedding_dropout initializer_cutoff_factor " +
    "initializer_range layer_norm_eps mlp_dropout reference_compile repad_logits_with_grad sparse_pred_ignore_index"
  ).split(" "),
  fixedKeys: { position_embedding_type: "absolute", sparse_prediction: false },
  bodyPrefixes: ["model.", ""],
  ignoredTensors: [/^(head|decoder|classifier)\./],

  describe(config, task) {
    const integer = (key: string, maximum: number, unset: number) => config.integer(key, { maximum, unset });
    const hidden = integer("hidden_size", limits.width, 768);
    const heads = integer("num_attention_heads", limits.heads, 12);
    const headDim = evenHeads(config, "hidden_size", hidden, heads);
    const attentionSizes = { hidden, heads, kvHeads: heads, headDim };
    const vocabulary = integer("vocab_size", limits.vocabulary, 50_368);
    const local = config.integer("local_attention", { minimum: 2, maximum: limits.positions, unset: 128 });
    const normBias = config.flag("norm_bias", false);
    const bias = config.flag("attention_bias", false);
    const mlpBias = config.flag("mlp_bias", false);
    const layerNorm = readNorm(config, "layer", "norm_eps", 1e-5);
    const ffn = integer("intermediate_size", limits.ffn, 1152);
    const feedForward = gatedFeedForward(ffn, config.choice("hidden_activation", activations, "gelu"));
    const every = integer("global_attn_every_n_layers", limits.layers, 3);
    const types = readLayerTypes(
      config,
      integer("num_hidden_layers", limits.layers, 22),
      ["full_attention", "sliding_attention"],
      (layer) => (layer % every === 0 ? "full_attention" : "sliding_attention"),
    );
    const layerOf = (type: LayerType, layer: number): LayerSpec => {
      const isLocal = type === "sliding_attention";
      const positions = wholeRotary(config, "hidden_size", headDim, isLocal ? 1 : 0);
      const mask = isLocal ? ({ kind: "band", size: Math.floor(local / 2) } as const) : ({ kind: "full" } as const);
      return {
        attention: attention(attentionSizes, positions, { mask }),
        feedForward,
        norms: { ...ahead(layerNorm), ...(layer === 0 ? { skipsAttention: true } : {}) },
        residual: "sequential",
      };
    };
    const kinds = kindsOf(types.map(layerOf));
    const maxPositions = integer("max_position_embeddings", limits.positions, 8192);
    const sizes = { hidden, width: hidden, vocabulary, finalNorm: layerNorm };
    const head = chooseHead(config, task, sizes, readHeads(config, layerNorm, normBias));
    return {
      spec: {
        family: "modernbert",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions,
        embedding: { width: hidden, norm: layerNorm },
        ...kinds,
        rotaryTables: readTables(config, { headDim, positions: maxPositions }),
        output: head.output,
      },
      body: [
        stored("embed.tokens.weight", "embeddings.tok_embeddings.weight", [vocabulary, hidden]),
        ...norm("embed.norm", "embeddings.norm", hidden, normBias),
        ...everyLayer(types.length, "layers", [
          ...norm("attn.norm", "attn_norm", hidden, normBias),
          ...fusedQkv(attentionSizes, "attn.Wqkv", bias),
          ...linear("attn.o", "attn.Wo", hidden, hidden, bias),
          ...norm("mlp.norm", "mlp_norm", hidden, normBias),
          ...stackedGate(feedForward, hidden, "mlp.Wi", "mlp.Wo", mlpBias),
        ]).filter(({ role }) => !role.startsWith("layers.0.attn.norm.")),
        ...norm("norm", "final_norm", hidden, normBias),
      ],
      head: head.head,
    };
  },
};

/** Frequencies of the layers that see all, and of those that see a band. */
function readTables(config: ConfigReader, sizes: RopeSizes): RotarySpec[] {
  // The reference adds it to both.
  if (config.section("rope_scaling")) throw config.wrong("rope_scaling", "null");
  const { full, sliding } = readRopeByLayerType(config, sizes, {
    bases: { full: 160_000, sliding: 10_000 },
    fullKey: "global_rope_theta",
    slidingKey: "local_rope_theta",
    types: { default: ropeTypes.default },
  });
  return [full.rotary, sliding.rotary];
}

/** All heads read what one dense layer makes of the hidden states. */
function readHeads(config: ConfigReader, layerNorm: NormSpec, normBias: boolean): HeadNames {
  const dense: DenseLayer = {
    tensor: "head.dense",
    activation: config.choice("classifier_activation", activations, "gelu"),
    bias: config.flag("classifier_bias", false),
    norm: { tensor: "head.norm", spec: layerNorm, bias: normBias },
  };
  const classifier = { dense, out: "classifier" };
  const pick = config.choice("classifier_pooling", { cls: "first", mean: "mean" } as const, "cls");
  return {
    classes: { ...classifier, pick },
    tokenClasses: classifier,
    answers: classifier,
    masked: { dense, decoder: "decoder", bias: config.flag("decoder_bias", true) ? "decoder.bias" : undefined },
  };
}
