import { everyLayer, type ModelDescriptor, stored } from "../descriptor.js";
import { distanceBuckets } from "../parts/buckets.js";
import {
  embeddingPlaces,
  encoderClasses,
  encoderLayer,
  encoderSpec,
  layerPlaces,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { chooseHead, robertaHeads } from "../parts/heads.js";

/** What is farther away is in the last bucket of its side. */
const maxDistance = 128;

const tasks = encoderClasses("MPNet");

/** MPNet (Song et al. 2020, arXiv:2004.09297), as transformers/models/mpnet computes it. */
export const mpnet: ModelDescriptor = {
  modelType: "mpnet",
  summary: "MPNet: learned scores of distances beside learned positions, one table for all layers",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  ignoredKeys: trainingKeys,
  fixedKeys: { type_vocab_size: 0 },
  bodyPrefixes: ["mpnet.", ""],
  // The head of pre-training, and the pooler of classes that do not use it.
  ignoredTensors: [/embeddings\.position_ids$/, /^lm_head\./, /^(mpnet\.)?pooler\./],

  describe(config, task) {
    const sizes = readEncoder(config, {
      ...{ hidden: 768, layers: 12, heads: 12, ffn: 3072, vocabulary: 30_527, positions: 512, tokenTypes: 0 },
      countsFromPadding: 1,
    });
    // Buckets of one distance each are a quarter of them, which has to end before maxDistance does.
    const range = { minimum: 4, maximum: 4 * maxDistance - 1, unset: 32 };
    const buckets = config.integer("relative_attention_num_buckets", range);
    const head = chooseHead(config, task, sizes, robertaHeads(sizes.layerNorm));
    const layer = layerPlaces(sizes, {
      attention: ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
      attentionNorm: "attention.LayerNorm",
      ...{ up: "intermediate.dense", down: "output.dense", outputNorm: "output.LayerNorm" },
    });
    return {
      spec: encoderSpec("mpnet", sizes, encoderLayer(sizes, distanceBuckets(buckets, maxDistance)), head),
      body: [
        ...embeddingPlaces(sizes),
        stored("positions.scores.weight", "encoder.relative_attention_bias.weight", [buckets, sizes.heads]),
        ...everyLayer(sizes.layers, "encoder.layer", layer),
        ...head.body,
      ],
      head: head.head,
    };
  },
};
