import type { LayerSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { evenHeads, everyLayer, linear, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { attention, fusedQkv } from "../parts/attention.js";
import { encoderClasses, plainRotary, readPlainBase } from "../parts/encoder.js";
import { gatedFeedForward, stackedGate } from "../parts/feed_forward.js";
import { chooseHead, type DenseLayer } from "../parts/heads.js";
import { ahead } from "../parts/norms.js";
import { wholeRotary } from "../parts/rope.js";

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
    const window = Math.floor(config.integer("local_attention", { maximum: limits.positions, unset: 128 }) / 2);
    const normBias = config.flag("norm_bias", false);
    const bias = config.flag("attention_bias", false);
    const mlpBias = config.flag("mlp_bias", false);
    const layerNorm = {
      kind: "layer",
      epsilon: config.number("norm_eps", { minimum: 0, maximum: 1, unset: 1e-5 }),
    } as const;
    const ffn = integer("intermediate_size", limits.ffn, 1152);
    const feedForward = gatedFeedForward(ffn, config.choice("hidden_activation", activations, "gelu"));
    const locals = readLayerTypes(config, integer("num_hidden_layers", limits.layers, 22));
    wholeRotary(config, "hidden_size", headDim); // refuses heads of odd width
    const kindOf = (local: boolean, first: boolean): LayerSpec => ({
      attention: attention(
        attentionSizes,
        { kind: "rotary", dims: headDim, layout: "half", table: local ? 1 : 0 },
        { mask: local ? { kind: "band", size: window } : { kind: "full" } },
      ),
      feedForward,
      norms: { ...ahead(layerNorm), ...(first ? { skipsAttention: true } : {}) },
      residual: "sequential",
    });
    const dense: DenseLayer = {
      tensor: "head.dense",
      activation: config.choice("classifier_activation", activations, "gelu"),
      bias: config.flag("classifier_bias", false),
      norm: { tensor: "head.norm", spec: layerNorm, bias: normBias },
    };
    const pick = config.choice("classifier_pooling", { cls: "first", mean: "mean" } as const, "cls");
    const sizes = { hidden, width: hidden, vocabulary, finalNorm: layerNorm };
    const head = chooseHead(config, task, sizes, {
      classes: { dense, out: "classifier", pick },
      tokenClasses: { dense, out: "classifier" },
      answers: { dense, out: "classifier" },
      masked: { dense, decoder: "decoder", bias: config.flag("decoder_bias", true) ? "decoder.bias" : undefined },
    });
    return {
      spec: {
        family: "modernbert",
        vocabSize: vocabulary,
        hiddenSize: hidden,
        maxPositions: integer("max_position_embeddings", limits.positions, 8192),
        embedding: { width: hidden, norm: layerNorm },
        kinds: [kindOf(locals[0] === true, true), kindOf(false, false), kindOf(true, false)],
        layers: locals.map((local, layer) => (layer === 0 ? 0 : local ? 2 : 1)),
        rotaryTables: readBases(config).map((base) => plainRotary(base, headDim)),
        output: head.output,
      },
      body: [
        stored("embed.tokens.weight", "embeddings.tok_embeddings.weight", [vocabulary, hidden]),
        ...norm("embed.norm", "embeddings.norm", hidden, normBias),
        ...everyLayer(locals.length, "layers", [
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

/** Which layers see a window alone. */
function readLayerTypes(config: ConfigReader, layers: number): boolean[] {
  const every = config.integer("global_attn_every_n_layers", { maximum: limits.layers, unset: 3 });
  const types = config.raw("layer_types") ?? undefined;
  if (types === undefined) return Array.from({ length: layers }, (_, layer) => layer % every !== 0);
  const known = ["full_attention", "sliding_attention"];
  if (!Array.isArray(types) || types.length !== layers || !types.every((type) => known.includes(type)))
    throw config.wrong("layer_types", `${layers} names, each ${known.join(" or ")}`);
  return types.map((type) => type === "sliding_attention");
}

/** Of the layers that see all, and of those that see a window. */
function readBases(config: ConfigReader): [number, number] {
  const parameters = config.section("rope_parameters");
  const older = (key: string, unset: number) => config.number(key, { above: 0, maximum: 1e30, nullable: true, unset });
  return [
    readPlainBase(parameters?.section("full_attention"), older("global_rope_theta", 160_000)),
    readPlainBase(parameters?.section("sliding_attention"), older("local_rope_theta", 10_000)),
  ];
}
