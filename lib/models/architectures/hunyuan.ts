import type { ConfigReader } from "../config.js";
import { llamaLike } from "../llama_like.js";
import { headNorms } from "../parts/attention.js";
import { readNorm } from "../parts/norms.js";
import { ntkAlpha, type RopeType, ropeTypes } from "../parts/rope_types.js";

/** With alpha, HunYuan's dynamic is another thing: frequencies of one larger base for all lengths. */
const dynamic: RopeType = (parameters: ConfigReader, context) =>
  (parameters.peek("alpha") ?? 0) === 0 ? ropeTypes.dynamic(parameters, context) : ntkAlpha(parameters, context);

/** Dense models of HunYuan (Tencent 2025), as transformers/models/hunyuan_v1_dense computes them. */
export const hunyuan = llamaLike({
  modelType: "hunyuan_v1_dense",
  summary: "HunYuan (dense): Llama with norms of heads behind their rotary positions, and a rope type of its own",
  classes: ["HunYuanDenseV1ForCausalLM"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    ...{ vocab_size: 290_943, max_position_embeddings: 2048, rms_norm_eps: 1e-5 },
  },
  ignoredKeys: ["eod_token_id"],
  differences(config, sizes) {
    const norm = readNorm(config, "rms", "rms_norm_eps", 1e-5);
    const heads = headNorms(norm, sizes, "self_attn.query_layernorm", "self_attn.key_layernorm", {
      afterPositions: true,
    });
    return { ...heads, bias: { feedForward: false }, rope: { types: { ...ropeTypes, dynamic } } };
  },
});
