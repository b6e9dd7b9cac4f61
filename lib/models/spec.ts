export type Activation =
  | "none"
  | "relu"
  | "relu_squared"
  | "gelu"
  | "gelu_tanh"
  | "quick_gelu"
  | "silu"
  | "tanh"
  | "sigmoid";

/** Rotary position embedding in the rotate-half layout: element j turns with element j + headDim / 2. */
export interface RotarySpec {
  /** (headDim / 2), rounded to fp32 as the reference computes them. */
  inverseFrequencies: number[];
  /** Multiplies cos and sin (YaRN's attention factor). */
  amplitude: number;
  /** Dynamic NTK: past `originalPositions` the base grows with the length of the sequence. */
  dynamic?: { base: number; factor: number; originalPositions: number };
}

/** What a model computes: sizes and choices. Plain data: it crosses to C++ as it is (src/model/spec.h has the same fields). */
export interface ModelSpec {
  /** The descriptor's name: "opt", "gpt2", "llama". */
  family: string;
  layers: number;
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Width of a token embedding row; another than hiddenSize means projections after it and before the head. */
  embeddingSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffnSize: number;
  /** Longest sequence, prompt and new tokens. */
  maxPositions: number;
  /** down(activation(gate(x)) * up(x)) instead of down(activation(up(x))). */
  gatedFfn: boolean;
  activation: Activation;
  norm: "layer" | "rms";
  normPlacement: "pre" | "post";
  normEpsilon: number;
  /** Whether a norm stands before the head. */
  finalNorm: boolean;
  positions: "none" | "learned" | "rotary";
  /** Row of the learned table that holds position 0. */
  positionOffset: number;
  rotary?: RotarySpec;
  /** (layers): multiplies q k^T. */
  attentionScales: number[];
  /** The head is the token embedding. */
  tiedHead: boolean;
}

/** Types that weights may be stored as. */
export type WeightDtype = "float32" | "float16" | "bfloat16";

/**
 * A weight role's place in a checkpoint, ready for C++: role names are
 *
 *   embed.tokens.weight (vocab, embedding)       embed.positions.weight (rows, hidden)
 *   embed.projection.weight (hidden, embedding)  head.projection.weight (embedding, hidden)
 *   layers.N.attn.norm.{weight,bias}             layers.N.mlp.norm.{weight,bias}
 *   layers.N.attn.{q,k,v,o}.{weight,bias}        layers.N.mlp.{gate,up,down}.{weight,bias}
 *   norm.{weight,bias}                           head.{weight,bias}   (no head.weight where tied)
 *
 * with (out, in) shapes. An absent bias role is no bias; an absent norm weight is ones.
 */
export interface WeightView {
  role: string;
  /** The checkpoint's name of it, for messages. */
  tensor: string;
  dtype: WeightDtype;
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

/** Everything C++ needs to load a model. */
export interface WeightPlan {
  files: { path: string; bytes: number }[];
  weights: WeightView[];
}
