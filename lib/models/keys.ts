import { ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import { showValue, truncate } from "../base/text.js";
import type { ModelSpec } from "../native/spec.js";
import { type ConfigReader, unsupportedKey } from "./config.js";
import type { KeyReport, ModelDescriptor } from "./descriptor.js";

/**
 * Keys that any config may have and that do not change what inference computes, by what they are for. Those of transformers are what
 * PreTrainedConfig and GenerationConfig of versions 4 and 5 write, and what older ones wrote. Some count in models that read them:
 * tie_word_embeddings where there are scores of all tokens, use_sliding_window where there are windows.
 */
export const bookkeepingKeys: ReadonlySet<string> = new Set(
  Object.values({
    origin: `_auto_class _commit_hash _from_model_config _model_name_or_path _name_or_path architectures auto_map
      base_model_name_or_path custom_pipelines finetuning_task is_composition model_type name_or_path
      transformers.js_config transformers_version transformers_weights unsloth_fixed unsloth_version`,
    running: `_attn_implementation _attn_implementation_autoset _attn_implementation_internal _experts_implementation
      _experts_implementation_internal _flash_attn_2_enabled _output_attentions _pre_quantization_dtype attn_implementation
      chunk_size_feed_forward dtype experts_implementation gradient_checkpointing is_decoder max_window_layers
      output_attentions output_hidden_states output_past return_dict return_dict_in_generate tf_legacy_loss
      tie_encoder_decoder tie_last_hidden_states tie_word_embeddings torch_dtype torchscript use_bfloat16 use_cache
      use_return_dict use_sliding_window xla_device`,
    tokens: `bos_token_id decoder_start_token_id eos_token_id forced_bos_token_id forced_eos_token_id mask_token_id
      model_max_length pad_token_id prefix sep_token_id tokenizer_class unk_token_id`,
    classes: "id2label label2id num_labels problem_type task_specific_params",
    generation: `assistant_confidence_threshold assistant_early_exit assistant_lookbehind bad_words_ids
      begin_suppress_tokens cache_config cache_implementation compile_config constraints disable_compile
      diversity_penalty do_sample dola_layers early_stopping encoder_no_repeat_ngram_size encoder_repetition_penalty
      epsilon_cutoff eta_cutoff exponential_decay_length_penalty force_words_ids generation_config guidance_scale
      is_assistant length_penalty low_memory max_length max_matching_ngram_size max_new_tokens max_time min_length
      min_new_tokens min_p no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule num_beam_groups
      num_beams num_return_sequences output_logits output_scores penalty_alpha prefill_chunk_size
      prompt_lookup_num_tokens remove_invalid_values renormalize_logits repetition_penalty sequence_bias stop_strings
      suppress_tokens target_lookbehind temperature token_healing top_h top_k top_p typical_p use_model_defaults
      watermarking_config`,
  }).flatMap((keys) => keys.split(/\s+/)),
);

type Neutral = (value: unknown) => boolean;
const off: Neutral = (value) => value === null || value === false;
const unset: Neutral = (value) => value === null;
const one: Neutral = (value) => value === null || value === 1;
const zeroOrOff: Neutral = (value) => off(value) || value === 0;
const atMostOne: Neutral = (value) => value === null || value === 0 || value === 1;
const empty: Neutral = (value) =>
  off(value) || (typeof value === "object" && value !== null && Object.keys(value).length === 0);

/**
 * Keys that change the arithmetic in models of this kind and that nothing here computes, each with the values at which
 * they change nothing. A descriptor that reads one of them takes it out of this table for its architecture.
 */
const arithmeticKeys: Readonly<Record<string, Neutral>> = {
  add_cross_attention: off,
  alibi: off,
  attention_bias: off,
  attention_chunk_size: unset,
  attention_multiplier: unset,
  attn_logit_softcapping: zeroOrOff,
  attn_temperature_tuning: zeroOrOff,
  clip_qkv: unset,
  compression_config: empty,
  cross_attention_hidden_size: unset,
  dim_model_base: unset,
  embedding_multiplier: one,
  final_logit_softcapping: zeroOrOff,
  is_causal: (value) => value === null || value === true,
  is_encoder_decoder: off,
  layer_types: (value) =>
    value === null ||
    (Array.isArray(value) && value.every((type) => type === "full_attention" || type === "attention")),
  lm_head_bias: off,
  lm_head_multiplier: one,
  logit_scale: one,
  logits_scaling: one,
  mlp_bias: off,
  moe_num_experts: atMostOne,
  multi_query: off,
  n_routed_experts: atMostOne,
  new_decoder_architecture: off,
  no_rope_layers: empty,
  nope_layers: empty,
  num_experts: atMostOne,
  num_local_experts: atMostOne,
  num_sink_tokens: zeroOrOff,
  parallel_attn: off,
  per_layer_config: empty,
  pruned_heads: empty,
  qk_layernorm: off,
  qk_norm: off,
  quantization: empty,
  quantization_config: empty,
  query_pre_attn_scalar: unset,
  residual_multiplier: one,
  rope_interleave: off,
  rope_interleaved: off,
  rotary_pct: one,
  scale_depth: unset,
  scale_emb: one,
  use_dynamic_ntk: off,
  use_logn_attn: off,
  use_parallel_residual: off,
  use_qk_norm: off,
};

const quantizationKeys: ReadonlySet<string> = new Set(["compression_config", "quantization", "quantization_config"]);

function quantized(key: string, value: unknown): ShardspeedError {
  const method = isObject(value) ? (value.quant_method ?? value.format ?? value.mode) : undefined;
  const named = typeof method === "string" ? ` (${truncate(method)})` : "";
  return new ShardspeedError(
    "ERR_UNSUPPORTED_MODEL",
    `config.json has ${key} = ${showValue(value)}: the model's weights are quantized${named}, expected float32, float16, bfloat16 or float64 ones. ` +
      "Take the model that it was quantized from.",
  );
}

const advice = "shardspeed does not compute it; leaving it out would change what the model says.";

/**
 * Judges the keys of a config that was described: read by the descriptor, known not to matter, known to change the arithmetic (refused
 * unless neutral), or unknown.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL naming key and value
 */
export function judgeKeys(config: ConfigReader, descriptor: ModelDescriptor, spec: ModelSpec): KeyReport {
  const report: KeyReport = { used: config.read(), neutral: [], ignored: [], unknown: [] };
  for (const key of config.unread()) {
    const value = config.peek(key);
    if (key === "sliding_window") {
      if (slides(config, spec)) throw unsupportedKey(key, value, "null or a window that no sequence outgrows", advice);
      report.neutral.push(key);
    } else if (Object.hasOwn(descriptor.fixedKeys, key)) {
      const only = descriptor.fixedKeys[key];
      if (value !== null && value !== only) throw unsupportedKey(key, value, String(only), advice);
      report.neutral.push(key);
    } else if (bookkeepingKeys.has(key) || descriptor.ignoredKeys.includes(key)) {
      report.ignored.push(key);
    } else if (Object.hasOwn(arithmeticKeys, key)) {
      if (!arithmeticKeys[key]?.(value)) {
        if (quantizationKeys.has(key)) throw quantized(key, value);
        throw unsupportedKey(key, value, "no such setting, or a neutral value", advice);
      }
      report.neutral.push(key);
    } else {
      report.unknown.push(key);
    }
  }
  return report;
}

function slides(config: ConfigReader, spec: ModelSpec): boolean {
  const window = config.peek("sliding_window");
  if (window === null || config.peek("use_sliding_window") === false) return false;
  return typeof window !== "number" || !(window >= spec.maxPositions);
}
