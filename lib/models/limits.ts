/** Sizes beyond which a config is taken for damaged: several times what any published model has. */
export const limits = {
  layers: 4096,
  heads: 16_384,
  headDim: 65_536,
  width: 1 << 18,
  ffn: 1 << 22,
  experts: 4096,
  /** Of all layers together: each has three matrices, or more, that are looked for by name. */
  allExperts: 1 << 18,
  vocabulary: 1 << 24,
  positions: 1 << 27,
} as const;
