import type { LayerSpec, ModelLabels, ModelSpec, OutputSpec, Task } from "../native/spec.js";

export type { Task };

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
  /** What config.json's class is for: "causal-lm", "sequence-classification" or another task; "base" without a head. */
  task: Task;
  /** What stands behind the last layer: a head that makes logits of tokens, classes of the sequence or of each token, or none. */
  head: OutputSpec["kind"];
  /** Whether generate() works: a head of logits, and tokens that see no later ones. */
  generates: boolean;
  /** Of a head of classes, else 0. */
  classes: number;
  /** Their names, by index. */
  labels: readonly string[];
  /** Number of token types, 0 where the model has none. */
  tokenTypes: number;
  /** Whether forward() gives a poolerOutput. */
  pooler: boolean;
}

/** A PEFT adapter that a model's weights were merged with. */
export interface AdapterInfo {
  /** Its folder, as an absolute path. */
  folder: string;
  /** How it changes matrices: by adding a product of two small ones, or by scaling the rows of the sum as well. */
  method: "LoRA" | "DoRA";
  /** Number of modules that it adds products to. */
  modules: number;
  /** The largest rank of these products. */
  rank: number;
  /** Number of tensors that it has whole: biases and modules_to_save. */
  replacedTensors: number;
}

/** Whether some layer's tokens see later ones: a sequence is computed as a whole then. */
export function seesLater(spec: ModelSpec): boolean {
  return spec.kinds.some(({ attention: { mask } }) => mask.kind === "full" || mask.kind === "band");
}

export function modelInfo(spec: ModelSpec, labels?: ModelLabels): ModelInfo {
  const { output } = spec;
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
    tiedHead: output.kind === "logits" && output.tied,
    task: labels?.task ?? "causal-lm",
    head: output.kind,
    generates: output.kind === "logits" && !seesLater(spec),
    classes: "count" in output ? output.count : 0,
    labels: labels?.names ?? [],
    tokenTypes: spec.embedding.tokenTypes?.count ?? 0,
    pooler: output.kind === "hidden" && output.pooler !== undefined,
  };
}
