import { norm } from "../descriptor.js";
import { llamaLike } from "../llama_like.js";
import { readNorm } from "../parts/norms.js";

/** StableLM (Stability AI 2023), as transformers/models/stablelm computes it. */
export const stablelm = llamaLike({
  modelType: "stablelm",
  summary:
    "StableLM: layer norms, rotary positions on a part of each head, norms of heads, one part after or beside the other",
  classes: ["StableLmForCausalLM"],
  defaults: {
    ...{ hidden_size: 2560, num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 32 },
    ...{ intermediate_size: 6912, vocab_size: 50_304, max_position_embeddings: 4096 },
  },
  ignoredKeys: ["hidden_dropout"],
  differences(config, { hidden, heads, kvHeads, headDim }) {
    if (headDim !== hidden / heads)
      throw config.wrong("head_dim", `hidden_size / num_attention_heads, ${hidden / heads}`);
    const layerNorm = readNorm(config, "layer", "layer_norm_eps", 1e-5);
    const isParallel = config.flag("use_parallel_residual", false);
    const hasHeadNorms = config.flag("qk_layernorm", false);
    const eachHead = (role: string, tensor: string, count: number) =>
      Array.from({ length: count }, (_, head) =>
        norm(role, `${tensor}.norms.${head}`, headDim, false).map((place) => ({ ...place, firstCol: head * headDim })),
      ).flat();
    return {
      norm: layerNorm,
      normTensors: "weight and bias",
      norms: { attention: "input_layernorm", ...(isParallel ? {} : { feedForward: "post_attention_layernorm" }) },
      residual: isParallel ? "shared-norm parallel" : "sequential",
      bias: { qkv: config.flag("use_qkv_bias", false), output: false, feedForward: false },
      rope: { partial: 0.25 },
      ...(hasHeadNorms && {
        attention: { qkNorm: { span: "head", norm: layerNorm, headWeights: true } },
        layerPlaces: [
          ...eachHead("attn.q_norm", "self_attn.q_layernorm", heads),
          ...eachHead("attn.k_norm", "self_attn.k_layernorm", kvHeads),
        ],
      }),
    };
  },
});
