import { everyLayer, type ModelDescriptor } from "../descriptor.js";
import {
  embeddingPlaces,
  encoderClasses,
  encoderLayer,
  encoderSpec,
  layerPlaces,
  oldNorms,
  readEncoder,
} from "../parts/encoder.js";
import { chooseHead } from "../parts/heads.js";

const tasks = encoderClasses("DistilBert");

/** DistilBERT (Sanh et al. 2019, arXiv:1910.01108), as transformers/models/distilbert computes it. */
export const distilbert: ModelDescriptor = {
  modelType: "distilbert",
  summary: "DistilBERT: BERT with half the layers, without token types and pooler",
  classes: Object.keys(tasks),
  bodyClasses: [],
  tasks,
  aliases: {
    activation: "hidden_act",
    dim: "hidden_size",
    hidden_dim: "intermediate_size",
    n_heads: "num_attention_heads",
    n_layers: "num_hidden_layers",
  },
  // Sinusoidal positions are stored as a table like learned ones.
  ignoredKeys: "attention_dropout dropout initializer_range qa_dropout seq_classif_dropout sinusoidal_pos_embds".split(
    " ",
  ),
  fixedKeys: { type_vocab_size: 0 },
  bodyPrefixes: ["distilbert.", ""],
  // The head of pre-training.
  ignoredTensors: [/embeddings\.position_ids$/, /^vocab_\w+\./],
  renames: oldNorms,

  describe(config, task) {
    const read = readEncoder(config, {
      ...{ hidden: 768, layers: 6, heads: 12, ffn: 3072, vocabulary: 30_522, positions: 512, tokenTypes: 0 },
    });
    const sizes = { ...read, layerNorm: { kind: "layer", epsilon: 1e-12 } } as const;
    const { activation, layerNorm: spec } = sizes;
    const head = chooseHead(config, task, sizes, {
      classes: { dense: { tensor: "pre_classifier", activation: "relu" }, out: "classifier" },
      masked: {
        dense: { tensor: "vocab_transform", activation, norm: { tensor: "vocab_layer_norm", spec } },
        decoder: "vocab_projector",
        bias: "vocab_projector.bias",
      },
    });
    const layer = layerPlaces(sizes, {
      attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
      attentionNorm: "sa_layer_norm",
      ...{ up: "ffn.lin1", down: "ffn.lin2", outputNorm: "output_layer_norm" },
    });
    return {
      spec: encoderSpec("distilbert", sizes, encoderLayer(sizes), head),
      body: [...embeddingPlaces(sizes), ...everyLayer(sizes.layers, "transformer.layer", layer), ...head.body],
      head: head.head,
    };
  },
};
