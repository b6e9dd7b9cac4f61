/*
 * What a model computes, as a tree of small variants: plain data that crosses to C++ as it is. src/model/spec.h has the same tree;
 * binding/spec.cpp reads it and refuses what it does not know, and test/native/spec.test.ts sends every value of every union through it.
 * An optional key that is absent is off.
 */

export const activationKinds = [
  "none",
  "relu",
  "relu_squared",
  "gelu",
  "gelu_tanh",
  "quick_gelu",
  "silu",
  "tanh",
  "sigmoid",
  // x > 0: p x^2 + x / 2, else n (e^x - 1 - x) + x / 2, by two learned numbers of each layer (Apertus).
  "xielu",
] as const;
export type Activation = (typeof activationKinds)[number];

export const normKinds = ["layer", "rms"] as const;

export interface NormSpec {
  kind: (typeof normKinds)[number];
  epsilon: number;
  /** Added to the weight that is stored, before it multiplies (Gemma, Nemotron: 1). */
  weightOffset?: number;
}

/** The frequencies of rotary position embedding (Su et al. 2021). */
export interface RotarySpec {
  /** (turned elements / 2), rounded to fp32 as the reference computes them. */
  inverseFrequencies: number[];
  /** Multiplies cos and sin (YaRN's attention factor). */
  amplitude: number;
  /** Dynamic NTK: past `originalPositions` the base grows with the length of the sequence. */
  dynamic?: { base: number; factor: number; originalPositions: number };
  /** Sequences of more than `originalPositions` tokens turn by these instead, from their first token on (Phi-3's longrope). */
  long?: { originalPositions: number; inverseFrequencies: number[]; amplitude: number };
}

/** What is added to the embedding of a token for its position. */
export type EmbeddingPositions =
  /** A row of a table of maxPositions + offset rows; `offset` is the row of position 0. */
  | { kind: "learned"; offset: number }
  /** Sines, then cosines, of (position + offset) / 10000^(j / (hiddenSize / 2 - 1)) (XGLM, M2M100). */
  | { kind: "sinusoidal"; offset: number };

export interface EmbeddingSpec {
  /** Of a token's row; another than hiddenSize means a projection behind it and one before the head. */
  width: number;
  /** Multiplies tokens' rows, before positions are added (Gemma, Granite). */
  scale?: number;
  positions?: EmbeddingPositions;
  /** A learned table of so many rows, of which each token's is added (BERT). */
  tokenTypes?: { count: number };
  /** Behind the embedding (BLOOM). */
  norm?: NormSpec;
  /** The projection stands behind positions, token types and norm, which are of its width then (ELECTRA, ALBERT); else ahead of them (OPT). */
  projectsLast?: boolean;
}

/** Which keys a query at position p sees. */
export type AttentionMask =
  /** [0, p] */
  | { kind: "causal" }
  /** [p - size + 1, p] (Mistral, Gemma-2) */
  | { kind: "window"; size: number }
  /** [p - p % size, p] (Llama 4) */
  | { kind: "chunk"; size: number }
  /** All of the sequence (encoders). */
  | { kind: "full" }
  /** [p - size, p + size] (ModernBERT) */
  | { kind: "band"; size: number };

/** Which element of a head turns with element j: j + dims / 2 (Llama, GPT-NeoX), or its neighbour (GPT-J, Cohere). */
export const rotaryLayouts = ["half", "interleaved"] as const;

export type AttentionPositions =
  /** Positions are in the embedding, or nowhere. */
  | { kind: "none" }
  /** The first `dims` elements of each query and key head turn, by the frequencies of ModelSpec.rotaryTables[table]. */
  | { kind: "rotary"; dims: number; layout: (typeof rotaryLayouts)[number]; table: number }
  /** Adds slope * (key position - query position) to the scaled score of each head (Press et al. 2022). */
  | { kind: "alibi"; slopes: number[] }
  /**
   * Adds a learned score of each head and bucket of distances to the scaled score (MPNet): role positions.scores, one table for all layers.
   * The distance key position - query position is in bucket bucketOf[distance + n], n = (bucketOf.length - 1) / 2; what is farther away in the
   * bucket of that end.
   */
  | { kind: "buckets"; buckets: number; bucketOf: number[] }
  /**
   * Adds products with rows of ModelSpec.relativeTable, as the layer's own queries and keys are made of them, to q k^T (DeBERTa): of the query
   * with the row of their distance as a key (`queries`), and of the key with that row as a query (`keys`). `separate`: matrices for these rows make
   * them, roles attn.k_relative and attn.q_relative, of those that the scores use.
   */
  | { kind: "relative"; queries: boolean; keys: boolean; separate?: boolean };

/**
 * Learned rows of distances, of the model's width: role positions.relative. The distance key position - query position has row
 * rowOf[distance + n], n = (rowOf.length - 1) / 2; what is farther away has the row of that end.
 */
export interface RelativeTable {
  rows: number;
  rowOf: number[];
  /** Of each row: role positions.relative_norm. */
  norm?: NormSpec;
}

/** What a norm of queries and keys spans: each head for itself (Qwen3), or all heads of a token (OLMo-2). */
export const qkNormSpans = ["head", "row"] as const;

/** Norms of queries and keys, whose weights are the roles attn.q_norm and attn.k_norm. */
export interface QkNormSpec {
  span: (typeof qkNormSpans)[number];
  norm: NormSpec;
  /** Where the span is a head: each head has weights of its own (Cohere, StableLM), else all share those of one. */
  headWeights?: boolean;
  /** Behind the turning of rotary positions (HunYuan, Llama 4), else ahead of it. */
  afterPositions?: boolean;
}

/**
 * Queries, keys and values from rows of lower rank (DeepSeek-V2): keys and values of all heads from one row of `rank` elements, and the first
 * positionDims elements of each key, which alone turn with positions, from a row that all heads have in common.
 */
export interface LatentAttention {
  /** Absent: queries come from the residual stream. */
  queryRank?: number;
  rank: number;
  positionDims: number;
  /** Of a value, at most headDim. */
  valueDim: number;
  /** Of the rows of lower rank. */
  norm: NormSpec;
}

export interface AttentionSpec {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Multiplies q k^T. */
  scale: number;
  mask: AttentionMask;
  positions: AttentionPositions;
  /** score = softCap tanh(score / softCap) */
  softCap?: number;
  /** q, k and v are limited to [-clamp, clamp], behind norms that stand ahead of the positions. */
  clamp?: number;
  qkNorm?: QkNormSpec;
  /** Each head has one logit more, which is learned (role attn.sinks) and whose value is zero (GPT-OSS). */
  sinks?: boolean;
  /** Queries, behind all else: q *= 1 + scale ln(1 + floor((position + offset) / period)) (Llama 4, Ministral 3). */
  temperature?: { scale: number; period: number; offset: number };
  latent?: LatentAttention;
}

/** down(activation(up(x))); gated: down(activation(gate(x)) * up(x)). */
export interface DenseFeedForward {
  kind: "dense";
  size: number;
  activation: Activation;
  gated: boolean;
}

/**
 * What a router makes of its logits, one an expert. Of equal scores the lower index counts as the larger.
 *
 * - softmax: over all experts; the largest are chosen
 * - topk-softmax: the largest logits are chosen, and the softmax is over those (GPT-OSS, GraniteMoE)
 * - sigmoid: of each logit; the largest are chosen (DeepSeek-V3, Llama 4)
 * - sparsemixer: the largest logits one after the other; the weight of each by a softmax over those that are left and near to it (Phi-3.5-MoE)
 */
export const routerScorings = ["softmax", "topk-softmax", "sigmoid", "sparsemixer"] as const;

export interface RouterSpec {
  scoring: (typeof routerScorings)[number];
  /** The weights of the chosen experts are divided by their sum. */
  normalise: boolean;
  /** Multiplies the weights, behind that. */
  scale?: number;
  /** Numbers that are added to scores where experts are chosen, and not where they are weighted: role mlp.router.correction (DeepSeek-V3). */
  correction?: boolean;
  /** Experts are chosen from `chosen` of `count` groups: those whose `best` largest scores have the largest sums (DeepSeek-V2 and V3). */
  groups?: { count: number; chosen: number; best: number };
  /** How far from the largest, as a share, sparsemixer takes a logit for near: twice this. */
  jitter?: number;
  /** The weight multiplies what an expert reads, and not what it computes (Llama 4). */
  weighsInput?: boolean;
}

/** An expert that computes every token, beside those that are chosen. */
export interface SharedExpert {
  size: number;
  /** What its downward product reads is multiplied by the sigmoid of a number of its own for each token: role mlp.shared.router (Qwen2-MoE). */
  gate?: "sigmoid";
}

/**
 * A mixture of experts (Shazeer et al. 2017, arXiv:1701.06538): each token is computed by `perToken` of `count` dense networks, which a router
 * chooses, and by the shared one; what they compute is added up by the router's weights.
 */
export interface ExpertsFeedForward {
  kind: "experts";
  count: number;
  perToken: number;
  /** Of one expert. */
  size: number;
  activation: Activation;
  gated: boolean;
  /** With g = min(gate, limit), u = up within [-limit, limit]: g sigmoid(alpha g) (u + 1) in place of activation(gate) * up (GPT-OSS). */
  clamped?: { limit: number; alpha: number };
  router: RouterSpec;
  shared?: SharedExpert;
}

export type FeedForwardSpec = DenseFeedForward | ExpertsFeedForward;

/**
 * How a layer adds what its two parts compute to its input x. Each part has a norm of its own, but for one kind.
 *
 * - sequential: x += attention(norm x), then x += feedForward(norm x)
 * - parallel: x += attention(norm x) + feedForward(other norm x)
 * - shared-norm parallel: the same with one norm for both
 * - post-norm: x = norm(x + attention(x)), then x = norm(x + feedForward(x))
 */
export const residualKinds = ["sequential", "parallel", "shared-norm parallel", "post-norm"] as const;

export interface NormPlacementSpec {
  norm: NormSpec;
  /** Ahead of each part: roles attn.norm and mlp.norm. */
  input: boolean;
  /** Of what a part computes, before it is added (OLMo-2; Gemma-2 has both): roles attn.out_norm and mlp.out_norm. */
  output: boolean;
  /** Attention reads its input as it is, although `input` is set (the first layer of ModernBERT). */
  skipsAttention?: boolean;
}

export interface LayerSpec {
  attention: AttentionSpec;
  feedForward: FeedForwardSpec;
  norms: NormPlacementSpec;
  residual: (typeof residualKinds)[number];
  /** Multiplies what a part computes, behind its output norm, before it is added (Granite). */
  residualScale?: number;
}

/** A dense layer ahead of a head, norm(activation(W x + b)): roles head.dense and head.norm. */
export interface TransformSpec {
  activation: Activation;
  norm?: NormSpec;
}

/** Whose hidden states classes of a sequence are read from: its first token, its last, or the mean of all. */
export const pickedRows = ["first", "last", "mean"] as const;

/** Scores of all tokens of the vocabulary. */
export interface LogitsSpec {
  kind: "logits";
  /** The head is the token embedding. */
  tied: boolean;
  norm?: NormSpec;
  /** Multiplies logits, behind the head's bias. */
  scale?: number;
  /** logit = softCap tanh(logit / softCap) */
  softCap?: number;
  /** To the width of the embedding (masked language models). */
  transform?: TransformSpec;
}

/** What a model makes of its hidden states; `norm` is theirs, whatever is made of them. */
export type OutputSpec =
  | LogitsSpec
  /** Nothing, or what a pooler makes of the first token's. */
  | { kind: "hidden"; norm?: NormSpec; pooler?: TransformSpec }
  /** Scores of classes, of a whole sequence. */
  | { kind: "classes"; pick: (typeof pickedRows)[number]; count: number; norm?: NormSpec; transform?: TransformSpec }
  /** Scores of classes, of each token. Where an answer begins and ends is two of them. */
  | { kind: "token-classes"; count: number; norm?: NormSpec; transform?: TransformSpec };

export interface ModelSpec {
  /** The descriptor's name: "opt", "gpt2", "llama". */
  family: string;
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Longest sequence, prompt and new tokens. */
  maxPositions: number;
  embedding: EmbeddingSpec;
  /** The kinds of layers that the model has: alternating windows, dense first layers and the like cost nothing. */
  kinds: LayerSpec[];
  /** layers[i] = index of its kind. */
  layers: number[];
  /** weightLayers[i] = the layer whose weights layer i has, itself or an earlier one of its kind (ALBERT). Absent: each has its own. */
  weightLayers?: number[];
  rotaryTables: RotarySpec[];
  /** Of layers whose positions are relative. */
  relativeTable?: RelativeTable;
  output: OutputSpec;
}

/** What a model is for, by the class that config.json names: which head stands behind its body. */
export type Task =
  | "causal-lm"
  | "masked-lm"
  | "sequence-classification"
  | "token-classification"
  | "question-answering"
  | "base";

/** The classes that a model tells apart, as config.json has them. */
export interface ModelLabels {
  task: Task;
  /** Names by their index; LABEL_0 and so on where config.json has none. */
  names: readonly string[];
  /** How scores are made of outputs: undefined where config.json leaves it to their number. */
  problemType: "regression" | "single_label_classification" | "multi_label_classification" | undefined;
}

/** Types that an engine holds its weights in. */
export const weightDtypes = ["float32", "float16", "bfloat16"] as const;
export type WeightDtype = (typeof weightDtypes)[number];

/** Types that a checkpoint may store weights as. float64 is converted where it is read. */
export const storedWeightDtypes = [...weightDtypes, "float64"] as const;
export type StoredWeightDtype = (typeof storedWeightDtypes)[number];

/**
 * A weight role's place in a checkpoint, ready for C++. roles.ts lists the roles, with (out, in) shapes. An absent bias role is no bias;
 * an absent norm weight is ones.
 */
export interface WeightView {
  role: string;
  /** The checkpoint's name of it, for messages. */
  tensor: string;
  dtype: StoredWeightDtype;
  /** Index into WeightPlan.files. */
  file: number;
  byteOffset: number;
  /** One or more dimensions; all but the last are rows, in order. */
  shape: number[];
  /** In elements. */
  strides: number[];
  /**
   * Where its first row and column belong in the role's tensor, default 0: a role may have several views, which then are tiles of its
   * tensor (of a checkpoint in shards, one a shard).
   */
  firstRow?: number;
  firstCol?: number;
}

/** What an adapter adds to the tensor of one role: scale * left * right. */
export interface LowRankAddition {
  role: string;
  scale: number;
  /** The rows of the role's tensor, rank columns. */
  left: WeightView;
  /** Rank rows, the columns of the role's tensor. */
  right: WeightView;
  /** The length that each row of the sum gets, one column (DoRA). */
  magnitude?: WeightView;
}

/** Everything C++ needs to load a model. */
export interface WeightPlan {
  files: { path: string; bytes: number }[];
  weights: WeightView[];
  /** One a role at most. */
  additions?: LowRankAddition[];
}
