import { llamaLike } from "../llama_like.js";

/** Llama (Touvron et al. 2023, arXiv:2302.13971), as transformers/models/llama computes it. */
export const llama = llamaLike({
  modelType: "llama",
  summary: "Llama: MHA, GQA and MQA, all rope types, biases, tied or not; also Yi, DeepSeek-LLM, Vicuna",
  classes: ["LlamaForCausalLM", "LLaMAForCausalLM"],
  bodyClasses: ["LlamaModel"],
  ignoredKeys: ["max_sequence_length"],
  // The reference insists on this even where head_dim is given.
  evenHeads: true,
});
