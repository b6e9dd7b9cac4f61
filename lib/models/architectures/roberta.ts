import type { ModelDescriptor } from "../descriptor.js";
import {
  encoderClasses,
  encoderDescription,
  encoderKeys,
  oldNorms,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { chooseHead, robertaHeads } from "../parts/heads.js";

/** RoBERTa (Liu et al. 2019, arXiv:1907.11692) and what differs from it by name and sizes, as transformers computes them. */
function robertaLike(modelType: string, name: string, summary: string, vocabulary: number): ModelDescriptor {
  const tasks = encoderClasses(name);
  return {
    modelType,
    summary,
    classes: Object.keys(tasks),
    bodyClasses: [],
    tasks,
    aliases: {},
    ignoredKeys: [...trainingKeys, "output_past"],
    fixedKeys: encoderKeys,
    bodyPrefixes: ["roberta.", ""],
    // The head of pre-training, and the pooler of classes that do not use it.
    ignoredTensors: [/embeddings\.position_ids$/, /^lm_head\./, /^(roberta\.)?pooler\./],
    renames: oldNorms,

    describe(config, task) {
      const sizes = readEncoder(config, {
        ...{ hidden: 768, layers: 12, heads: 12, ffn: 3072, vocabulary, positions: 512 },
        countsFromPadding: "pad_token_id",
      });
      const head = chooseHead(config, task, sizes, robertaHeads(sizes.layerNorm));
      return encoderDescription(modelType, sizes, head);
    },
  };
}

const form = "positions behind the padding token's, a two-layer head of classes";

export const roberta = robertaLike("roberta", "Roberta", `RoBERTa: ${form}`, 50_265);
export const xlmRoberta = robertaLike("xlm-roberta", "XLMRoberta", `XLM-RoBERTa and multilingual E5: ${form}`, 30_522);
export const camembert = robertaLike("camembert", "Camembert", `CamemBERT: ${form}`, 30_522);
