import type { LayerSpec, ModelSpec } from "../native/spec.js";

/**
 * What a model is, in a few numbers. These keys stay; a later version may add others. Where layers differ, a number is that of the largest.
 */
export interface ModelInfo {
  /** config.json's model_type: "opt", "llama". */
  family: string;
  /** Number of layers. */
  layers: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Of queries. */
  heads: number;
  /** Of keys and values. */
  kvHeads: number;
  /** Elements of an attention head. */
  headDim: number;
  /** Neurons of a feed-forward network. */
  ffnSize: number;
  /** Token ids are below it. */
  vocabSize: number;
  /** Longest sequence that the model is made for, prompt and new tokens; engine.contextTokens is what it runs with. */
  maxPositions: number;
  /** Whether the head is the token embedding. */
  tiedHead: boolean;
}

export function modelInfo(spec: ModelSpec): ModelInfo {
  const most = (count: (layer: LayerSpec) => number) => Math.max(...spec.kinds.map(count));
  return {
    family: spec.family,
    layers: spec.layers.length,
    hiddenSize: spec.hiddenSize,
    heads: most(({ attention }) => attention.heads),
    kvHeads: most(({ attention }) => attention.kvHeads),
    headDim: most(({ attention }) => attention.headDim),
    ffnSize: most(({ feedForward }) => feedForward.size),
    vocabSize: spec.vocabSize,
    maxPositions: spec.maxPositions,
    tiedHead: spec.output.tied,
  };
}
