import type { ConfigReader } from "../config.js";
import { linear } from "../descriptor.js";
import { limits } from "../limits.js";
import { type Differences, llamaLike } from "../llama_like.js";
import { alibiSlopes } from "../parts/alibi.js";
import { fusedQkv } from "../parts/attention.js";

/** Baichuan (2023), as the code that is published with its weights computes it. */
export const baichuan = llamaLike({
  modelType: "baichuan",
  summary: "Baichuan 7B (rotary positions) and 13B (ALiBi): Llama with queries, keys and values in one matrix",
  classes: ["BaichuanForCausalLM", "BaiChuanForCausalLM"],
  bodyClasses: ["BaichuanModel"],
  defaults: {
    ...{ hidden_size: 4096, num_hidden_layers: 32, num_attention_heads: 32, intermediate_size: 11_008 },
    vocab_size: 64_000,
  },
  // Every head has keys and values of its own, and there is one base.
  fixedKeys: { rope_scaling: null, rope_theta: 10_000 },
  differences(config, sizes) {
    const { hidden, heads, kvHeads, headDim, layers } = sizes;
    if (kvHeads !== heads) throw config.wrong("num_key_value_heads", `the number of attention heads, ${heads}`);
    if (headDim !== hidden / heads) throw config.wrong("head_dim", `${hidden / heads}`);
    refuseSecond(config);
    const common: Differences = {
      bias: { feedForward: false },
      attentionPlaces: [
        ...fusedQkv(sizes, "self_attn.W_pack"),
        ...linear("attn.o", "self_attn.o_proj", hidden, hidden, false),
      ],
    };
    // 13B's config knows no max_position_embeddings.
    if (config.has("max_position_embeddings")) return common;
    const layer = { rotary: "none", attention: { positions: { kind: "alibi", slopes: alibiSlopes(heads) } } } as const;
    const maxPositions = config.integer("model_max_length", { maximum: limits.positions, unset: 4096 });
    return { ...common, ropes: [], layers: Array(layers).fill(layer), maxPositions };
  },
});

/** Baichuan2's head has rows of length one, whatever is stored; its vocabulary and z_loss_weight tell it apart. */
function refuseSecond(config: ConfigReader): void {
  for (const [key, isSecond] of [
    ["vocab_size", config.raw("vocab_size") === 125_696],
    ["z_loss_weight", config.has("z_loss_weight")],
  ] as const) {
    if (isSecond) throw config.wrong(key, "a model of the first Baichuan", "The head of Baichuan2 is not computed.");
  }
}
