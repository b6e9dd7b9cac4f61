import { llamaLike } from "../llama_like.js";
import { readMixture, routerTrainingKeys } from "../parts/experts.js";
import { graniteMultipliers } from "./granite.js";

/** Granite 3 with experts (IBM 2024), as transformers/models/granitemoe computes it. */
export const graniteMoe = llamaLike({
  modelType: "granitemoe",
  summary: "Granite 3 MoE: Granite's multipliers, experts in two tensors a layer",
  classes: ["GraniteMoeForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 32_000, max_position_embeddings: 2048, num_experts: 8, num_experts_per_tok: 2 },
  },
  ignoredKeys: routerTrainingKeys,
  differences: (config, { hidden }) => ({
    ...graniteMultipliers(config),
    feedForward: readMixture(config, hidden, {
      names: {
        router: "block_sparse_moe.router.layer",
        fused: {
          gateUp: "block_sparse_moe.input_linear.weight",
          down: "block_sparse_moe.output_linear.weight",
          rows: "outputs",
        },
        instead: {
          router: "block_sparse_moe.router",
          fused: {
            gateUp: "block_sparse_moe.experts.gate_up_proj",
            down: "block_sparse_moe.experts.down_proj",
            rows: "outputs",
          },
        },
      },
      sizeKey: "intermediate_size",
      router: { scoring: "topk-softmax" },
    }),
  }),
});
