import { linear } from "../descriptor.js";
import { llamaLike, noBias, readFeedForward } from "../llama_like.js";
import { fusedQkv } from "../parts/attention.js";
import { stackedGate } from "../parts/feed_forward.js";
import { readWindow } from "../parts/layer_types.js";
import { ropeTypes } from "../parts/rope_types.js";

const { default: plain, longrope } = ropeTypes;

/** Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024, arXiv:2404.14219), as transformers/models/phi3 computes them. */
export const phi3 = llamaLike({
  modelType: "phi3",
  summary: "Phi-3, Phi-3.5, Phi-4: queries, keys and values in one matrix, gate and up in another; longrope, window",
  classes: ["Phi3ForCausalLM"],
  defaults: {
    ...{ hidden_size: 3072, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 8192 },
    ...{ vocab_size: 32_064, max_position_embeddings: 4096, original_max_position_embeddings: 4096 },
    rms_norm_eps: 1e-5,
  },
  ignoredKeys: ["embd_pdrop", "original_max_position_embeddings", "resid_pdrop"],
  differences(config, sizes) {
    const { hidden, heads, headDim } = sizes;
    const { spec } = readFeedForward(config, hidden, noBias);
    return {
      attention: { mask: readWindow(config) },
      attentionPlaces: [
        ...fusedQkv(sizes, "self_attn.qkv_proj"),
        ...linear("attn.o", "self_attn.o_proj", hidden, heads * headDim, false),
      ],
      feedForward: { spec, places: stackedGate(spec, hidden, "mlp.gate_up_proj", "mlp.down_proj") },
      // Older configs call longrope by two other names.
      rope: { partial: 1, types: { default: plain, longrope, su: longrope, yarn: longrope } },
    };
  },
});
