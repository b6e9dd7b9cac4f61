import type { AttentionMask, AttentionPositions, LayerSpec, ModelSpec, OutputSpec } from "../native/spec.js";

export type PartName = "layers" | "attention" | "feed-forward" | "norm" | "positions" | "vocabulary";

/** The parts of a model in words, for people. Of layers that differ, each form once. */
export function describeParts(spec: ModelSpec): Record<PartName, string> {
  const { hiddenSize, embedding, output } = spec;
  const each = (describe: (kind: LayerSpec) => string) => [...new Set(spec.kinds.map(describe))].join("; ");
  const width = embedding.width === hiddenSize ? "" : `, embeddings of ${embedding.width}`;
  return {
    layers: `${spec.layers.length} of ${hiddenSize}${width}`,
    attention: each(describeAttention),
    "feed-forward": each(describeFeedForward),
    norm: each(describeNorm) + (embedding.norm ? ", one behind the embedding" : ""),
    positions: `${describePositions(spec, each)}, up to ${spec.maxPositions.toLocaleString("en-US")} tokens`,
    vocabulary: `${spec.vocabSize.toLocaleString("en-US")} tokens, ${describeHead(output)}`,
  };
}

const masks: Readonly<Record<AttentionMask["kind"], (size: number) => string>> = {
  causal: () => "",
  window: (size) => `, each token sees ${size}`,
  chunk: (size) => `, in chunks of ${size}`,
  full: () => ", all tokens see all",
  band: (size) => `, each token sees ${size} on both sides`,
};

function describeHead(output: OutputSpec): string {
  switch (output.kind) {
    case "logits":
      return output.tied ? "head is the embedding" : "head of its own";
    case "hidden":
      return output.pooler ? "no head, a pooler" : "no head";
    case "classes":
      return `head of ${output.count} classes`;
    case "token-classes":
      return `head of ${output.count} classes for each token`;
  }
}

function describeAttention({ attention: { heads, kvHeads, headDim, mask, latent }, residual }: LayerSpec): string {
  const lower = latent ? `, keys and values from rows of ${latent.rank}` : "";
  const keys = kvHeads === heads ? lower : `, ${kvHeads} of keys and values`;
  const beside = residual === "parallel" || residual === "shared-norm parallel" ? ", beside the feed-forward" : "";
  return `${heads} heads of ${headDim}${keys}${masks[mask.kind]("size" in mask ? mask.size : 0)}${beside}`;
}

function describeFeedForward({ feedForward }: LayerSpec): string {
  const { size, gated, activation } = feedForward;
  const one = `${size}, ${gated ? "gated " : ""}${activation}`;
  if (feedForward.kind === "dense") return one;
  const shared = feedForward.shared ? `, one of ${feedForward.shared.size} for all tokens` : "";
  return `${feedForward.perToken} of ${feedForward.count} experts of ${one}${shared}`;
}

function describeNorm({ norms: { norm, input, output }, residual }: LayerSpec): string {
  const places = [
    ...(input ? ["before each block"] : []),
    ...(output ? ["on what each block computes"] : []),
    ...(residual === "post-norm" ? ["after each block"] : []),
  ];
  const shared = residual === "shared-norm parallel" ? "one for both blocks" : places.join(" and ");
  return `${norm.kind}, ${shared}, epsilon ${norm.epsilon}`;
}

function describePositions(spec: ModelSpec, each: (describe: (kind: LayerSpec) => string) => string): string {
  const names: Readonly<Record<AttentionPositions["kind"], string>> = {
    ...{ none: "", rotary: "rotary", alibi: "ALiBi" },
    buckets: "scores of distances",
    relative: "products with relative positions",
  };
  const changes = spec.rotaryTables.some((table) => table.dynamic) ? " (dynamic)" : "";
  const dynamic = spec.rotaryTables.some((table) => table.long) ? " (other frequencies for long sequences)" : changes;
  const inLayers = each(({ attention }) => names[attention.positions.kind]);
  const all = [
    ...(spec.embedding.positions ? [spec.embedding.positions.kind] : []),
    ...(inLayers === "" ? [] : [inLayers + dynamic]),
  ];
  return all.join(" and ") || "none";
}
