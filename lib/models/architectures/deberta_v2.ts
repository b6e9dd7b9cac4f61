import type { AttentionPositions } from "../../native/spec.js";
import { everyLayer, linear, type ModelDescriptor, norm, stored, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "../parts/activations.js";
import {
  embeddingPlaces,
  encoderClasses,
  encoderLayer,
  encoderSpec,
  layerPlaces,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { chooseHead, maskedNames } from "../parts/heads.js";
import { readRelative } from "../parts/relative_positions.js";

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
    const { hidden, layers, headDim } = sizes;
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
    const head = chooseHead(config, task, sizes, {
      classes: {
        dense: { tensor: "pooler.dense", activation: config.choice("pooler_hidden_act", activations, "gelu") },
        out: "classifier",
      },
      masked: maskedNames(isOld ? "cls.predictions" : "lm_predictions.lm_head", sizes, {
        transform: isOld ? "transform." : "",
      }),
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
        ...everyLayer(layers, "encoder.layer", [...layerPlaces(sizes, names), ...relativePlaces(positions, hidden)]),
        ...head.body,
      ],
      head: head.head,
    };
  },
};

/** Matrices that make queries and keys of distances, where a layer's own do not. */
function relativePlaces(positions: AttentionPositions, hidden: number): WeightPlace[] {
  if (positions.kind !== "relative" || positions.separate !== true) return [];
  const place = (role: string, name: string) => linear(role, `attention.self.${name}`, hidden, hidden, true);
  return [
    ...(positions.queries ? place("attn.k_relative", "pos_key_proj") : []),
    ...(positions.keys ? place("attn.q_relative", "pos_query_proj") : []),
  ];
}

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
