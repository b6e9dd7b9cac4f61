import { everyLayer, linear, type ModelDescriptor, norm } from "../descriptor.js";
import { fusedQkv } from "../parts/attention.js";
import {
  embeddingPlaces,
  encoderClasses,
  encoderKeys,
  encoderLayer,
  encoderSpec,
  readEncoder,
  trainingKeys,
} from "../parts/encoder.js";
import { feedForwardPlaces, gatedFeedForward } from "../parts/feed_forward.js";
import { bertPooler, chooseHead, maskedNames } from "../parts/heads.js";
import { readRope, wholeRotary } from "../parts/rope.js";
import { ropeTypes } from "../parts/rope_types.js";

const { NomicBertForQuestionAnswering: _, ...tasks } = encoderClasses("NomicBert");

/** Nomic BERT (Nussbaum et al. 2024, arXiv:2402.01613), as transformers/models/nomic_bert computes it. */
export const nomicBert: ModelDescriptor = {
  modelType: "nomic_bert",
  summary: "Nomic BERT: rotary positions, gated feed-forward networks, token types",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {},
  defaults: { rope_theta: 1000 },
  ignoredKeys: trainingKeys,
  fixedKeys: encoderKeys,
  bodyPrefixes: ["nomic_bert.", "bert.", ""],
  ignoredTensors: [],

  describe(config, task) {
    const read = readEncoder(config, {
      ...{ hidden: 768, layers: 12, heads: 12, ffn: 3072, vocabulary: 30_528, positions: 2048, activation: "silu" },
    });
    const sizes = { ...read, learnsPositions: false };
    const { hidden, headDim } = sizes;
    if (config.integer("head_dim", { maximum: hidden, nullable: true, unset: headDim }) !== headDim)
      throw config.wrong("head_dim", `${headDim}, hidden_size divided by the number of heads`);
    const positions = wholeRotary(config, "hidden_size", headDim);
    const types = { default: ropeTypes.default };
    const { rotary } = readRope(config, { headDim, positions: sizes.maxPositions }, { types });
    const feedForward = gatedFeedForward(sizes.ffn, sizes.activation);
    const head = chooseHead(config, task, sizes, {
      classes: { dense: bertPooler, out: "classifier" },
      masked: maskedNames("cls.predictions", sizes, { transform: "transform.", norm: "layer_norm" }),
    });
    const plan = encoderSpec("nomic_bert", sizes, { ...encoderLayer(sizes, positions), feedForward }, head);
    return {
      spec: { ...plan, rotaryTables: [rotary] },
      body: [
        ...embeddingPlaces(sizes, "emb_ln"),
        ...everyLayer(sizes.layers, "encoder.layers", [
          ...fusedQkv(sizes, "attn.Wqkv"),
          ...linear("attn.o", "attn.out_proj", hidden, hidden, false),
          ...norm("attn.norm", "norm1", hidden, true),
          ...feedForwardPlaces(feedForward, hidden, { gate: "mlp.fc12", up: "mlp.fc11", down: "mlp.fc2" }, false),
          ...norm("mlp.norm", "norm2", hidden, true),
        ]),
        ...head.body,
      ],
      head: head.head,
    };
  },
};
