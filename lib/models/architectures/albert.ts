import { linear, type ModelDescriptor, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";
import {
  embeddingPlaces,
  encoderClasses,
  encoderKeys,
  encoderLayer,
  encoderSpec,
  layerPlaces,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { chooseHead, maskedNames } from "../parts/heads.js";

const tasks = { ...encoderClasses("Albert"), AlbertForPreTraining: "masked-lm" } as const;

/** ALBERT (Lan et al. 2020, arXiv:1909.11942), as transformers/models/albert computes it. */
export const albert: ModelDescriptor = {
  modelType: "albert",
  summary: "ALBERT: layers that share weights, embeddings of a width of their own",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  ignoredKeys: [...trainingKeys, ..."down_scale_factor gap_size net_structure_type num_memory_blocks".split(" ")],
  fixedKeys: encoderKeys,
  bodyPrefixes: ["albert.", ""],
  // Heads of pre-training, and the pooler of classes that do not use it.
  ignoredTensors: [/embeddings\.position_ids$/, /^(predictions|sop_classifier)\./, /^(albert\.)?pooler\./],

  describe(config, task) {
    const sizes = readEncoder(config, {
      ...{ hidden: 4096, layers: 12, heads: 64, ffn: 16_384, vocabulary: 30_000, positions: 512, width: 128 },
      activation: "gelu_new",
    });
    const { layers, width, hidden } = sizes;
    const groups = config.integer("num_hidden_groups", { maximum: layers, unset: 1 });
    const inner = config.integer("inner_group_num", { maximum: Math.floor(limits.layers / layers), unset: 1 });
    const pooler = { tensor: "pooler", activation: "tanh", inBody: true } as const;
    const head = chooseHead(config, task, sizes, {
      pooler,
      classes: { dense: pooler, out: "classifier" },
      masked: maskedNames("predictions", sizes),
    });
    // Layer by layer: the group that computes it, as the reference finds it, and the first layer with that group's weights.
    const groupOf = Array.from({ length: layers }, (_, layer) => Math.trunc(layer / (layers / groups)));
    const weightLayers = groupOf.flatMap((group) =>
      Array.from({ length: inner }, (_, part) => groupOf.indexOf(group) * inner + part),
    );
    const place = (layer: number): WeightPlace[] => {
      const stem = `encoder.albert_layer_groups.${groupOf[Math.trunc(layer / inner)]}.albert_layers.${layer % inner}`;
      return layerPlaces(sizes, names).map((one) => ({
        ...{ ...one, role: `layers.${layer}.${one.role}`, tensor: `${stem}.${one.tensor}` },
      }));
    };
    return {
      spec: { ...encoderSpec("albert", { ...sizes, layers: layers * inner }, encoderLayer(sizes), head), weightLayers },
      body: [
        ...embeddingPlaces(sizes),
        ...(width === hidden
          ? []
          : linear("embed.projection", "encoder.embedding_hidden_mapping_in", hidden, width, true)),
        ...[...new Set(weightLayers)].flatMap(place),
        ...head.body,
      ],
      head: head.head,
    };
  },
};

const names = {
  attention: ["attention.query", "attention.key", "attention.value", "attention.dense"],
  attentionNorm: "attention.LayerNorm",
  ...{ up: "ffn", down: "ffn_output", outputNorm: "full_layer_layer_norm" },
} as const;
