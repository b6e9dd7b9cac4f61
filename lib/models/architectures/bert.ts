import type { ModelDescriptor } from "../descriptor.js";
import {
  encoderClasses,
  encoderDescription,
  encoderKeys,
  oldNorms,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { bertPooler, chooseHead, maskedNames } from "../parts/heads.js";

const tasks = { ...encoderClasses("Bert"), BertForPreTraining: "masked-lm" } as const;

/** BERT (Devlin et al. 2019, arXiv:1810.04805), as transformers/models/bert computes it. */
export const bert: ModelDescriptor = {
  modelType: "bert",
  summary: "BERT: learned positions, token types, with and without a pooler",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  ignoredKeys: [
    ...trainingKeys,
    ..."directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type".split(
      " ",
    ),
  ],
  fixedKeys: encoderKeys,
  bodyPrefixes: ["bert.", ""],
  // Heads of pre-training, and the pooler of classes that do not use it.
  ignoredTensors: [/embeddings\.position_ids$/, /^cls\./, /^(bert\.)?pooler\./],
  renames: oldNorms,

  describe(config, task) {
    const sizes = readEncoder(config, {
      ...{ hidden: 768, layers: 12, heads: 12, ffn: 3072, vocabulary: 30_522, positions: 512 },
    });
    const head = chooseHead(config, task, sizes, {
      pooler: bertPooler,
      classes: { dense: bertPooler, out: "classifier" },
      masked: maskedNames("cls.predictions", sizes, { transform: "transform." }),
    });
    return encoderDescription("bert", sizes, head);
  },
};
