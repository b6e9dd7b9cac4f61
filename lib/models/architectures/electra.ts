import type { ModelDescriptor } from "../descriptor.js";
import { encoderClasses, encoderDescription, encoderKeys, readEncoder, trainingKeys } from "../parts/encoder.js";
import { chooseHead } from "../parts/heads.js";

const tasks = encoderClasses("Electra");

/** ELECTRA (Clark et al. 2020, arXiv:2003.10555), as transformers/models/electra computes it. */
export const electra: ModelDescriptor = {
  modelType: "electra",
  summary: "ELECTRA: embeddings of a width of their own, discriminators' bodies with heads of classes, generators",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  // The summary is of classes that choose between texts.
  ignoredKeys: [...trainingKeys, ..."summary_activation summary_last_dropout summary_type summary_use_proj".split(" ")],
  fixedKeys: encoderKeys,
  bodyPrefixes: ["electra.", ""],
  ignoredTensors: [/embeddings\.position_ids$/, /^(discriminator|generator)_\w+\./],

  describe(config, task) {
    const sizes = readEncoder(config, {
      ...{ hidden: 256, layers: 12, heads: 4, ffn: 1024, vocabulary: 30_522, positions: 512, width: 128 },
    });
    const head = chooseHead(config, task, sizes, {
      classes: { dense: { tensor: "classifier.dense", activation: "gelu" }, out: "classifier.out_proj" },
      masked: {
        dense: {
          tensor: "generator_predictions.dense",
          activation: "gelu",
          norm: { tensor: "generator_predictions.LayerNorm", spec: sizes.layerNorm },
        },
        decoder: "generator_lm_head",
        bias: "generator_lm_head.bias",
      },
    });
    return encoderDescription("electra", sizes, head);
  },
};
