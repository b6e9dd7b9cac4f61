import { linear } from "../descriptor.js";
import { llamaLike, readFeedForward } from "../llama_like.js";
import { groupedQkv } from "../parts/attention.js";

/** InternLM2 and 2.5 (Cai et al. 2024, arXiv:2403.17297), as the code that is published with their weights computes them. */
export const internlm2 = llamaLike({
  modelType: "internlm2",
  summary: "InternLM2, 2.5: Llama with queries, keys and values by groups in one matrix",
  classes: ["InternLM2ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 103_168, max_position_embeddings: 2048 },
  },
  differences(config, sizes) {
    const { hidden, heads, headDim } = sizes;
    const hasBias = config.flag("bias", true);
    const matrices = { gate: "feed_forward.w1", up: "feed_forward.w3", down: "feed_forward.w2" };
    return {
      names: { tokens: "tok_embeddings", head: "output" },
      norms: { attention: "attention_norm", feedForward: "ffn_norm" },
      attentionPlaces: [
        ...groupedQkv(sizes, "attention.wqkv", hasBias),
        ...linear("attn.o", "attention.wo", hidden, heads * headDim, hasBias),
      ],
      feedForward: readFeedForward(config, hidden, { feedForward: false }, { names: matrices }),
    };
  },
});
