import type { AttentionMask, AttentionSpec, FeedForwardSpec, LayerSpec, LogitsSpec, NormSpec } from "../native/spec.js";
import type { ConfigReader } from "./config.js";
import {
  type ArchitectureDescription,
  inLayer,
  linear,
  type ModelDescriptor,
  norm,
  stored,
  type WeightPlace,
} from "./descriptor.js";
import { limits } from "./limits.js";
import { activations } from "./parts/activations.js";
import { type AttentionSizes, attention, readKvHeads, separateQkv } from "./parts/attention.js";
import { feedForwardPlaces, gatedFeedForward, plainFeedForward } from "./parts/feed_forward.js";
import { kindsOf } from "./parts/layer_types.js";
import { readNorm } from "./parts/norms.js";
import { type ReadRope, type RopeOptions, readRope } from "./parts/rope.js";

/** The sizes that most parts of a decoder depend on. */
export interface DecoderSizes extends AttentionSizes {
  layers: number;
  /** config.json's max_position_embeddings. */
  positions: number;
}

/** A feed-forward network, and the places of its weights in a layer. */
export interface FeedForward {
  spec: FeedForwardSpec;
  places: WeightPlace[];
}

/** Where one layer is not like the others. */
export interface LayerDifferences {
  mask?: AttentionMask;
  /** Index of its rotary table; "none" where it has no positions. Default 0. */
  rotary?: number | "none";
  /** Over what all layers have. */
  attention?: Partial<AttentionSpec>;
  feedForward?: FeedForward;
}

interface NormNames {
  attention?: string;
  attentionOutput?: string;
  feedForward?: string;
  feedForwardOutput?: string;
}

/** Where an architecture is not like Llama. What is absent is as in Llama. */
export interface Differences {
  /** Default: RMS norms with rms_norm_eps. */
  norm?: NormSpec;
  /** What norms have of their own. Default "weight". */
  normTensors?: "weight" | "weight and bias" | "none";
  /** Names of a layer's norms: ahead of its parts, and of what they compute. */
  norms?: NormNames;
  rope?: RopeOptions;
  /** Tables that were read already, in place of the one of `rope`. */
  ropes?: ReadRope[];
  /** Default "half". */
  rotaryLayout?: "half" | "interleaved";
  attention?: Partial<AttentionSpec>;
  /** Where config.json does not say, by attention_bias and mlp_bias, what has biases. */
  bias?: { qkv?: boolean; output?: boolean; feedForward?: boolean; head?: boolean };
  /** Places of queries, keys, values and output where they are not four matrices. */
  attentionPlaces?: WeightPlace[];
  /** More places of a layer. */
  layerPlaces?: WeightPlace[];
  feedForward?: FeedForward;
  /** Default "sequential". */
  residual?: LayerSpec["residual"];
  residualScale?: number;
  embeddingScale?: number;
  logits?: Pick<LogitsSpec, "scale" | "softCap">;
  layers?: LayerDifferences[];
  /** Default: the longest sequence that the rotary tables are for. */
  maxPositions?: number;
  /** Names outside layers. */
  names?: Partial<typeof llamaNames>;
}

/** An architecture that differs from Llama in some respects. */
export interface LlamaLike
  extends Pick<ModelDescriptor, "modelType" | "summary" | "classes">,
    Partial<Omit<ModelDescriptor, "modelType" | "summary" | "classes" | "describe">> {
  differences?(config: ConfigReader, sizes: DecoderSizes): Differences;
  /** Heads share the model's width: head_dim may not say anything else, or there must be as many as divide it. */
  evenHeads?: boolean;
}

/** Of an architecture without biases whose config has no say in it. */
export const noBias = { qkv: false, output: false, feedForward: false } as const;

const llamaNames = { tokens: "embed_tokens", layers: "layers", norm: "norm", head: "lm_head" };

const llamaNorms: NormNames = { attention: "input_layernorm", feedForward: "post_attention_layernorm" };

/** Makes a descriptor of what differs from Llama. */
export function llamaLike({ differences, evenHeads, ...own }: LlamaLike): ModelDescriptor {
  return {
    bodyClasses: own.classes.map((name) => name.replace(/ForCausalLM$/, "Model")),
    aliases: {},
    fixedKeys: {},
    bodyPrefixes: ["model.", ""],
    ignoredTensors: [/(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/],
    ...own,
    // pretraining_tp only cut the same products into pieces, in transformers 4.
    ignoredKeys: ["attention_dropout", "initializer_range", "pretraining_tp", ...(own.ignoredKeys ?? [])],
    describe(config) {
      const sizes = readSizes(config, evenHeads ?? false);
      return describeDecoder(own.modelType, config, sizes, differences?.(config, sizes) ?? {});
    },
  };
}

function readSizes(config: ConfigReader, evenHeads: boolean): DecoderSizes {
  const layers = config.integer("num_hidden_layers", { maximum: limits.layers });
  const hidden = config.integer("hidden_size", { maximum: limits.width });
  const heads = config.integer("num_attention_heads", { maximum: limits.heads });
  const kvHeads = readKvHeads(config, heads);
  const given = config.integer("head_dim", { maximum: limits.headDim, nullable: true, unset: 0 });
  if (hidden % heads !== 0 && (given === 0 || evenHeads)) {
    throw config.wrong("hidden_size", `a multiple of the number of attention heads, ${heads}`);
  }
  const positions = config.integer("max_position_embeddings", { maximum: limits.positions, unset: 2048 });
  return { layers, hidden, heads, kvHeads, headDim: given || hidden / heads, positions };
}

function describeDecoder(
  family: string,
  config: ConfigReader,
  sizes: DecoderSizes,
  differences: Differences,
): ArchitectureDescription {
  const { hidden, headDim } = sizes;
  const vocabSize = config.integer("vocab_size", { maximum: limits.vocabulary });
  checkPairs(config, headDim);
  const ropes = differences.ropes ?? [readRope(config, sizes, differences.rope)];
  const normSpec = differences.norm ?? readNorm(config, "rms", "rms_norm_eps", 1e-6);
  const layers = readLayers(config, sizes, differences, ropes, normSpec);
  const names = { ...llamaNames, ...differences.names };
  const tied = config.flag("tie_word_embeddings", false);
  const scale = differences.embeddingScale;
  return {
    spec: {
      family,
      vocabSize,
      hiddenSize: hidden,
      maxPositions: differences.maxPositions ?? Math.min(...ropes.map(({ maxPositions }) => maxPositions)),
      embedding: { width: hidden, ...(scale === undefined ? {} : { scale }) },
      ...kindsOf(layers.map(({ spec }) => spec)),
      rotaryTables: ropes.map(({ rotary }) => rotary),
      output: { kind: "logits", tied, norm: normSpec, ...differences.logits },
    },
    body: [
      stored("embed.tokens.weight", `${names.tokens}.weight`, [vocabSize, hidden]),
      ...layers.flatMap(({ places }, layer) => inLayer(layer, names.layers, places)),
      ...normPlaces("norm", names.norm, hidden, differences),
    ],
    head: linear("head", names.head, vocabSize, hidden, differences.bias?.head ?? false),
  };
}

function checkPairs(config: ConfigReader, headDim: number): void {
  if (headDim % 2 === 0) return;
  const key = config.has("head_dim") ? "head_dim" : "hidden_size";
  throw config.wrong(key, `heads of even width (rotary positions turn pairs), found ${headDim}`);
}

function readLayers(
  config: ConfigReader,
  sizes: DecoderSizes,
  differences: Differences,
  ropes: readonly ReadRope[],
  normSpec: NormSpec,
): { spec: LayerSpec; places: WeightPlace[] }[] {
  const { hidden } = sizes;
  const { norms = llamaNorms, residual = "sequential", rotaryLayout: layout = "half", residualScale } = differences;
  const input = norms.attention !== undefined;
  const output = norms.attentionOutput !== undefined;
  const attentionPlaces = differences.attentionPlaces ?? readAttentionPlaces(config, sizes, differences);
  const isOwn = differences.layers?.every(({ feedForward }) => feedForward) ?? false;
  const shared = isOwn ? undefined : (differences.feedForward ?? readFeedForward(config, hidden, differences.bias));
  const normsOf = (part: "attn" | "mlp", before?: string, behind?: string) => [
    ...(before === undefined ? [] : normPlaces(`${part}.norm`, before, hidden, differences)),
    ...(behind === undefined ? [] : normPlaces(`${part}.out_norm`, behind, hidden, differences)),
  ];
  return Array.from({ length: sizes.layers }, (_, index) => {
    const layer = differences.layers?.[index] ?? {};
    const feedForward = layer.feedForward ?? (shared as FeedForward);
    const table = layer.rotary ?? 0;
    const dims = table === "none" ? 0 : (ropes[table] as ReadRope).dims;
    const positions =
      table === "none" ? ({ kind: "none" } as const) : ({ kind: "rotary", dims, layout, table } as const);
    const mask = layer.mask ?? differences.attention?.mask;
    const spec: LayerSpec = {
      attention: {
        ...attention(sizes, positions),
        ...differences.attention,
        ...(mask ? { mask } : {}),
        ...layer.attention,
      },
      feedForward: feedForward.spec,
      norms: { norm: normSpec, input, output },
      residual,
      ...(residualScale === undefined ? {} : { residualScale }),
    };
    const places = [
      ...normsOf("attn", norms.attention, norms.attentionOutput),
      ...attentionPlaces,
      ...(differences.layerPlaces ?? []),
      ...normsOf("mlp", norms.feedForward, norms.feedForwardOutput),
      ...feedForward.places,
    ];
    return { spec, places };
  });
}

const attentionMatrices = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"] as const;

function readAttentionPlaces(config: ConfigReader, sizes: DecoderSizes, { bias = {} }: Differences): WeightPlace[] {
  const isGiven = bias.qkv !== undefined && bias.output !== undefined;
  const inConfig = isGiven ? false : config.flag("attention_bias", false);
  return separateQkv(sizes, attentionMatrices, bias.qkv ?? inConfig, bias.output ?? inConfig);
}

/** Names of Llama's feed-forward matrices. */
const llamaMatrices = { gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj" };

export interface FeedForwardOptions {
  names?: { gate?: string; up: string; down: string };
  sizeKey?: string;
  activationKey?: string;
  /** Activations by the names that configs have for them. */
  known?: typeof activations;
}

/** A feed-forward network of intermediate_size, with a gate where one is among the names. */
export function readFeedForward(
  config: ConfigReader,
  hidden: number,
  bias: Differences["bias"] = {},
  {
    names = llamaMatrices,
    sizeKey = "intermediate_size",
    activationKey = "hidden_act",
    known = activations,
  }: FeedForwardOptions = {},
): FeedForward {
  const size = config.integer(sizeKey, { maximum: limits.ffn });
  const activation = config.choice(activationKey, known, "silu");
  const spec = (names.gate === undefined ? plainFeedForward : gatedFeedForward)(size, activation);
  const hasBias = bias.feedForward ?? config.flag("mlp_bias", false);
  return { spec, places: feedForwardPlaces(spec, hidden, names, hasBias) };
}

function normPlaces(
  role: string,
  tensor: string,
  width: number,
  { normTensors = "weight" }: Differences,
): WeightPlace[] {
  return normTensors === "none" ? [] : norm(role, tensor, width, normTensors === "weight and bias");
}
