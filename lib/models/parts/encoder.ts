import type { Activation, AttentionPositions, LayerSpec, ModelSpec, NormSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import {
  type ArchitectureDescription,
  evenHeads,
  everyLayer,
  linear,
  norm,
  stored,
  type Task,
  type WeightPlace,
} from "../descriptor.js";
import { limits } from "../limits.js";
import { activations } from "./activations.js";
import { attention, separateQkv } from "./attention.js";
import { feedForwardPlaces, plainFeedForward } from "./feed_forward.js";
import type { Head, HeadSizes } from "./heads.js";

/** The sizes of an encoder of BERT's kind. */
export interface EncoderSizes extends HeadSizes {
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  activation: Activation;
  /** Rows of the table of positions that stand before the first position's. */
  offset: number;
  maxPositions: number;
  /** Positions have rows of their own in the embedding. */
  learnsPositions: boolean;
  tokenTypes: number;
  layerNorm: NormSpec;
}

/** Defaults of a family, and where it differs from BERT's config. */
export interface EncoderDefaults {
  hidden: number;
  layers: number;
  heads: number;
  ffn: number;
  vocabulary: number;
  positions: number;
  /** Default 2. */
  tokenTypes?: number;
  activation?: string;
  /** Positions are counted from the one behind the padding token's (RoBERTa). */
  countsFromPadding?: number | "pad_token_id";
  /** `embedding_size`, where the family has it. */
  width?: number;
}

/** Keys of encoders' configs that training alone needs. */
export const trainingKeys = (
  "attention_probs_dropout_prob classifier_dropout classifier_dropout_prob embedding_size hidden_dropout_prob initializer_range " +
  "position_embedding_type"
).split(" ");

/** Values at which a decoder's options of an encoder class change nothing. */
export const encoderKeys = { is_decoder: false, position_embedding_type: "absolute" } as const;

/** A config with BERT's keys. */
export function readEncoder(config: ConfigReader, defaults: EncoderDefaults): EncoderSizes {
  const integer = (key: string, maximum: number, unset: number) => config.integer(key, { maximum, unset });
  const hidden = integer("hidden_size", limits.width, defaults.hidden);
  const heads = integer("num_attention_heads", limits.heads, defaults.heads);
  const rows = integer("max_position_embeddings", limits.positions, defaults.positions);
  const { countsFromPadding } = defaults;
  const offset =
    countsFromPadding === "pad_token_id"
      ? config.integer("pad_token_id", { minimum: 0, maximum: limits.vocabulary, unset: 1 }) + 1
      : countsFromPadding === undefined
        ? 0
        : countsFromPadding + 1;
  if (rows <= offset) throw config.wrong("max_position_embeddings", `more than the ${offset} that are no positions`);
  return {
    hidden,
    width: defaults.width === undefined ? hidden : integer("embedding_size", limits.width, defaults.width),
    layers: integer("num_hidden_layers", limits.layers, defaults.layers),
    heads,
    kvHeads: heads,
    headDim: evenHeads(config, "hidden_size", hidden, heads),
    ffn: integer("intermediate_size", limits.ffn, defaults.ffn),
    vocabulary: integer("vocab_size", limits.vocabulary, defaults.vocabulary),
    activation: config.choice("hidden_act", activations, defaults.activation ?? "gelu"),
    offset,
    maxPositions: rows - offset,
    learnsPositions: true,
    tokenTypes: config.integer("type_vocab_size", {
      minimum: 0,
      maximum: limits.vocabulary,
      unset: defaults.tokenTypes ?? 2,
    }),
    layerNorm: { kind: "layer", epsilon: config.number("layer_norm_eps", { minimum: 0, maximum: 1, unset: 1e-12 }) },
  };
}

/** A layer that sees all tokens, with norms behind its sums (Devlin et al. 2019). */
export function encoderLayer(sizes: EncoderSizes, positions: AttentionPositions = { kind: "none" }): LayerSpec {
  return {
    attention: attention(sizes, positions, { mask: { kind: "full" } }),
    feedForward: plainFeedForward(sizes.ffn, sizes.activation),
    norms: { norm: sizes.layerNorm, input: false, output: false },
    residual: "post-norm",
  };
}

/** A spec of BERT's kind: learned positions and token types where there are some, one kind of layers. */
export function encoderSpec(family: string, sizes: EncoderSizes, layer: LayerSpec, head: Head): ModelSpec {
  const { width, hidden, layers, offset, learnsPositions, tokenTypes, layerNorm } = sizes;
  return {
    family,
    vocabSize: sizes.vocabulary,
    hiddenSize: hidden,
    maxPositions: sizes.maxPositions,
    embedding: {
      width,
      ...(learnsPositions ? { positions: { kind: "learned", offset } } : {}),
      ...(tokenTypes > 0 ? { tokenTypes: { count: tokenTypes } } : {}),
      norm: layerNorm,
      ...(width === hidden ? {} : { projectsLast: true }),
    },
    kinds: [layer],
    layers: Array<number>(layers).fill(0),
    rotaryTables: [],
    output: head.output,
  };
}

/** The embeddings under BERT's names, but for the norm's where it has another. */
export function embeddingPlaces(sizes: EncoderSizes, normName = "embeddings.LayerNorm"): WeightPlace[] {
  const { vocabulary, width, maxPositions, offset, learnsPositions, tokenTypes } = sizes;
  return [
    stored("embed.tokens.weight", "embeddings.word_embeddings.weight", [vocabulary, width]),
    ...(learnsPositions
      ? [stored("embed.positions.weight", "embeddings.position_embeddings.weight", [maxPositions + offset, width])]
      : []),
    ...(tokenTypes > 0
      ? [stored("embed.token_types.weight", "embeddings.token_type_embeddings.weight", [tokenTypes, width])]
      : []),
    ...norm("embed.norm", normName, width, true),
  ];
}

/** Names of the parts of a layer. */
export interface EncoderNames {
  stem: string;
  attention: readonly [q: string, k: string, v: string, o: string];
  attentionNorm: string;
  up: string;
  down: string;
  outputNorm: string;
}

export const bertNames: EncoderNames = {
  stem: "encoder.layer",
  attention: ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
  attentionNorm: "attention.output.LayerNorm",
  up: "intermediate.dense",
  down: "output.dense",
  outputNorm: "output.LayerNorm",
};

/** One layer's places. */
export function layerPlaces(sizes: EncoderSizes, names: Omit<EncoderNames, "stem">): WeightPlace[] {
  return [
    ...separateQkv(sizes, names.attention, true),
    ...norm("attn.norm", names.attentionNorm, sizes.hidden, true),
    ...feedForwardPlaces(
      plainFeedForward(sizes.ffn, sizes.activation),
      sizes.hidden,
      { up: names.up, down: names.down },
      true,
    ),
    ...norm("mlp.norm", names.outputNorm, sizes.hidden, true),
  ];
}

/** An encoder of BERT's kind under BERT's names; the projection of narrower embeddings is ELECTRA's. */
export function encoderDescription(
  family: string,
  sizes: EncoderSizes,
  head: Head,
  names: EncoderNames = bertNames,
): ArchitectureDescription {
  const { width, hidden, layers } = sizes;
  return {
    spec: encoderSpec(family, sizes, encoderLayer(sizes), head),
    body: [
      ...embeddingPlaces(sizes),
      ...(width === hidden ? [] : linear("embed.projection", "embeddings_project", hidden, width, true)),
      ...everyLayer(layers, names.stem, layerPlaces(sizes, names)),
      ...head.body,
    ],
    head: head.head,
  };
}

/** The usual classes of a family, by the beginning of their names, and what they are for. */
export function encoderClasses(name: string, masked = `${name}ForMaskedLM`): Record<string, Task> {
  return {
    [`${name}Model`]: "base",
    [masked]: "masked-lm",
    [`${name}ForSequenceClassification`]: "sequence-classification",
    [`${name}ForTokenClassification`]: "token-classification",
    [`${name}ForQuestionAnswering`]: "question-answering",
  };
}

/** Names that older versions gave to a norm's weight and bias. */
export const oldNorms = [
  [/\.gamma$/, ".weight"],
  [/\.beta$/, ".bias"],
] as const;
