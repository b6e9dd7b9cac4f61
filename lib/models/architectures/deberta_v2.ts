import type { AttentionPositions, RelativeTable } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { everyLayer, type ModelDescriptor, norm, stored } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import { relativeRows } from "../parts/buckets.js";
import {
  type EncoderSizes,
  embeddingPlaces,
  encoderClasses,
  encoderLayer,
  encoderSpec,
  layerPlaces,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { chooseHead } from "../parts/heads.js";

const tasks = encoderClasses("DebertaV2");

/** DeBERTa-v2 and v3 (He et al. 2020, arXiv:2006.03654), as transformers/models/deberta_v2 computes it. */
export const debertaV2: ModelDescriptor = {
  modelType: "deberta-v2",
  summary: "DeBERTa-v2 and v3: queries and keys meet rows of distances, which layers project as their own",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  defaults: { layer_norm_eps: 1e-7 },
  ignoredKeys: [...trainingKeys, ..."cls_dropout conv_act conv_groups legacy pooler_dropout".split(" ")],
  // A convolution beside the first layer (v2-xlarge).
  fixedKeys: { conv_kernel_size: 0 },
  bodyPrefixes: ["deberta.", ""],
  // Heads of pre-training, the pooler of classes that do not use it, and tables that a config leaves unused.
  ignoredTensors: [
    /embeddings\.position_(ids|embeddings\.weight)$/,
    /^(cls|lm_predictions|mask_predictions|pooler)\./,
    /^(deberta\.)?encoder\.(rel_embeddings|LayerNorm)\./,
  ],

  describe(config, task) {
    const read = readEncoder(config, {
      ...{ hidden: 1536, layers: 24, heads: 24, ffn: 6144, vocabulary: 128_100, positions: 512, tokenTypes: 0 },
    });
    const sizes = { ...read, learnsPositions: config.flag("position_biased_input", true) };
    const { hidden, layers, headDim, activation, layerNorm: spec } = sizes;
    const only = (key: string, value: number) => {
      if (config.integer(key, { maximum: limits.width, unset: value }) !== value)
        throw config.wrong(key, String(value));
    };
    only("embedding_size", hidden);
    only("pooler_hidden_size", hidden);
    only("attention_head_size", headDim);
    const { positions, table, terms } = readRelative(config, sizes);
    const plain = encoderLayer(sizes, positions);
    const layer = { ...plain, attention: { ...plain.attention, scale: Math.fround((headDim * terms) ** -0.5) } };
    const isOld = task !== "masked-lm" || config.flag("legacy", true);
    const stem = isOld ? "cls.predictions" : "lm_predictions.lm_head";
    const transform = isOld ? `${stem}.transform.` : `${stem}.`;
    const head = chooseHead(config, task, sizes, {
      classes: {
        dense: { tensor: "pooler.dense", activation: config.choice("pooler_hidden_act", activations, "gelu") },
        out: "classifier",
      },
      tokenClasses: { out: "classifier" },
      answers: { out: "qa_outputs" },
      masked: {
        dense: { tensor: `${transform}dense`, activation, norm: { tensor: `${transform}LayerNorm`, spec } },
        ...{ decoder: `${stem}.decoder`, bias: `${stem}.bias` },
      },
    });
    const { output } = head;
    const described = encoderSpec("deberta-v2", sizes, layer, {
      ...head,
      // The newer head has no matrix of its own, whatever the config says.
      output: output.kind === "logits" && !isOld ? { ...output, tied: true } : output,
    });
    return {
      spec: { ...described, ...(table ? { relativeTable: table } : {}) },
      body: [
        ...embeddingPlaces(sizes),
        ...(table ? [stored("positions.relative.weight", "encoder.rel_embeddings.weight", [table.rows, hidden])] : []),
        ...(table?.norm ? norm("positions.relative_norm", "encoder.LayerNorm", hidden, true) : []),
        ...everyLayer(layers, "encoder.layer", layerPlaces(sizes, names)),
        ...head.body,
      ],
      head: head.head,
    };
  },
};

const names = {
  attention: [
    "attention.self.query_proj",
    "attention.self.key_proj",
    "attention.self.value_proj",
    "attention.output.dense",
  ],
  attentionNorm: "attention.output.LayerNorm",
  ...{ up: "intermediate.dense", down: "output.dense", outputNorm: "output.LayerNorm" },
} as const;

/** Rows up to which tables of distances are taken for undamaged. */
const mostRows = 1 << 16;

/** Which products with relative positions there are, and by how many terms together scores are scaled. */
function readRelative(
  config: ConfigReader,
  { maxPositions, layerNorm }: EncoderSizes,
): { positions: AttentionPositions; table?: RelativeTable; terms: number } {
  const types = readTypes(config);
  const [queries, keys] = [types.includes("c2p"), types.includes("p2c")];
  const terms = 1 + Number(queries) + Number(keys);
  const isRelative = config.flag("relative_attention", false);
  const isNormed = words(config.text("norm_rel_ebd", "none")).includes("layer_norm");
  const known = (key: string) =>
    config.integer(key, { minimum: Number.MIN_SAFE_INTEGER, maximum: mostRows, unset: -1 });
  const [given, buckets, shares] = [
    known("max_relative_positions"),
    known("position_buckets"),
    config.flag("share_att_key", false),
  ];
  if (!isRelative || terms === 1) return { positions: { kind: "none" }, terms };
  if (!shares) {
    const advice = "Matrices of their own that make queries and keys of relative positions are not computed.";
    throw config.wrong("share_att_key", "true", advice);
  }
  const maxDistance = given < 1 ? maxPositions : given;
  if (maxPositions > mostRows) throw config.wrong("max_position_embeddings", `at most ${mostRows}`);
  if (buckets > 0 && (buckets < 2 || maxDistance - 1 <= Math.floor(buckets / 2)))
    throw config.wrong("position_buckets", "at least 2, of which half are fewer than there are distances");
  const table = relativeRows({ buckets: buckets > 0 ? buckets : undefined, maxDistance }, maxPositions);
  return {
    positions: { kind: "relative", queries, keys },
    table: isNormed ? { ...table, norm: layerNorm } : table,
    terms,
  };
}

/** `pos_att_type`, a list or a text of several with bars between. */
function readTypes(config: ConfigReader): unknown[] {
  const found: unknown = config.raw("pos_att_type") ?? [];
  const types: unknown = typeof found === "string" ? words(found) : found;
  if (!Array.isArray(types) || !types.every((type) => ["c2p", "p2c", ""].includes(type)))
    throw config.wrong("pos_att_type", "a list of c2p and p2c");
  return types;
}

function words(text: string): string[] {
  return text
    .toLowerCase()
    .split("|")
    .map((word) => word.trim());
}
