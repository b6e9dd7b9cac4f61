// Named model shapes: config.json files of published sizes, for benches that need no checkpoint.
import { readFileSync } from "node:fs";

const llama = (sizes) => ({
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  torch_dtype: "float16",
  ...sizes,
});

const opt = (sizes) => ({
  model_type: "opt",
  architectures: ["OPTForCausalLM"],
  activation_function: "relu",
  do_layer_norm_before: true,
  vocab_size: 50272,
  max_position_embeddings: 2048,
  torch_dtype: "float16",
  word_embed_proj_dim: sizes.hidden_size,
  ...sizes,
});

export const shapes = {
  "llama-135m": llama({
    hidden_size: 576,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    intermediate_size: 1536,
    vocab_size: 49152,
    max_position_embeddings: 2048,
    tie_word_embeddings: true,
  }),
  "llama-1b": llama({
    hidden_size: 2048,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    intermediate_size: 8192,
    vocab_size: 32768,
    max_position_embeddings: 4096,
    tie_word_embeddings: true,
  }),
  "opt-125m": opt({ hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, ffn_dim: 3072 }),
  "opt-1.3b": opt({ hidden_size: 2048, num_hidden_layers: 24, num_attention_heads: 32, ffn_dim: 8192 }),
};

/** The config.json that a --shape option means: a known name, or the path of a file. */
export function readShape(shape) {
  if (Object.hasOwn(shapes, shape)) return shapes[shape];
  try {
    return JSON.parse(readFileSync(shape, "utf8"));
  } catch (error) {
    throw new Error(
      `Expected --shape to be one of ${Object.keys(shapes).join(", ")} or the path of a config.json: ${error.message}`,
    );
  }
}
