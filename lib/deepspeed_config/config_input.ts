import type { ConfigDtype } from "./types.js";

/** Names of element types. Case does not matter. */
export type DtypeName =
  | "fp16"
  | "float16"
  | "half"
  | "bf16"
  | "bfloat16"
  | "bfloat"
  | "fp32"
  | "float32"
  | "float"
  | ConfigDtype
  // A string of an unknown value is checked when it is read; this form of its type keeps the completion of the names above.
  | (string & {});

/** 2, or a spelling of it: "2", "1_000", "auto" for the default. */
export type ConfigInteger = number | string;

/** true, or a spelling of it: 1, "yes", "on", "auto" for the default. */
export type ConfigBoolean = boolean | number | string;

/**
 * The config of `deepspeed.init_inference(config=...)`: all keys of DeepSpeed 0.19, with their aliases and deprecated names. All are optional.
 * docs/deepspeed-config.md has a table of them. A key that is not among these is ERR_CONFIG.
 */
export interface DeepSpeedConfig {
  /** Kernels are always fused. Default false. */
  replace_with_kernel_inject?: ConfigBoolean;
  /** Other name of replace_with_kernel_inject. */
  kernel_inject?: ConfigBoolean;
  /** Element type of weights and KV cache. Default: that of the checkpoint. */
  dtype?: DtypeName;
  /** How the model is divided among ranks. */
  tensor_parallel?: TensorParallelConfig;
  /** Other name of tensor_parallel. */
  tp?: TensorParallelConfig;
  /** Decode steps on CUDA always use graphs; CPUs have none. Default false. */
  enable_cuda_graph?: ConfigBoolean;
  /** No effect: the engine has its own kernels. Default false. */
  use_triton?: ConfigBoolean;
  /** No effect: the engine has its own kernels. Default false. */
  triton_autotune?: ConfigBoolean;
  /** No effect: ZeRO is for training; tensor_parallel.tp_size shards a model. Default {}. */
  zero?: object;
  /** No effect: each architecture has its own mask. Default true. */
  triangular_masking?: ConfigBoolean;
  /** Other name of triangular_masking. */
  tm?: ConfigBoolean;
  /** No effect: the model's config.json describes experts. A boolean is moe.enabled. */
  moe?: ConfigBoolean | ExpertsConfig;
  /** No effect: weights are kept only on the device that computes with them. Default false. */
  keep_module_on_host?: ConfigBoolean;
  /** No effect: weights are not quantized. */
  quant?: QuantConfig;
  /** The checkpoint JSON, which lists the weight files, or its path. Default null: the files of the model folder. */
  checkpoint?: string | object | null;
  /** Folder of the paths in the checkpoint JSON. Default "". */
  base_dir?: string;
  /** No effect: weights always come from the checkpoint. Default false. */
  set_empty_params?: ConfigBoolean;
  /** Folder to write the sharded checkpoint to. Default null: none is written. */
  save_mp_checkpoint_path?: string | null;
  /** No effect: write checkpoint, base_dir and save_mp_checkpoint_path at the top level instead. */
  checkpoint_config?: CheckpointConfig;
  /** Other name of checkpoint_config. */
  ckpt_config?: CheckpointConfig;
  /** No effect: forward returns an object. Default true. */
  return_tuple?: ConfigBoolean;
  /** No effect: the checkpoint JSON says how many ranks wrote it. Default 1. */
  training_mp_size?: ConfigInteger;
  /** No effect: there is one method. Default "auto". */
  replace_method?: string;
  /** No effect: each architecture states how its layers are sharded. Default null. */
  injection_policy?: object | null;
  /** Other name of injection_policy. */
  injection_dict?: object | null;
  /** No effect: each architecture states how its layers are sharded. Default null. */
  injection_policy_tuple?: readonly unknown[] | null;
  /** Refused unless it is empty: change the model's config.json instead. Default null. */
  config?: object | null;
  /** Other name of config. */
  args?: object | null;
  /** Maximum number of tokens of a sequence, prompt included: more than 0. Default: the model's context. */
  max_out_tokens?: ConfigInteger;
  /** Other name of max_out_tokens. */
  max_tokens?: ConfigInteger;
  /** Number of tokens of a sequence that must fit, else an error. Default 1. */
  min_out_tokens?: ConfigInteger;
  /** Other name of min_out_tokens. */
  min_tokens?: ConfigInteger;
  /** No effect: the engine chooses the layout of weights. Default false. */
  transposed_mode?: ConfigBoolean;
  /** @deprecated Write tensor_parallel.tp_size. */
  mp_size?: ConfigInteger;
  /** @deprecated Write tensor_parallel.mpu. */
  mpu?: unknown;
  /** @deprecated Write moe.ep_size. */
  ep_size?: ConfigInteger;
  /** @deprecated Write moe.ep_group. */
  ep_group?: unknown;
  /** @deprecated Write moe.ep_group. */
  expert_group?: unknown;
  /** @deprecated Write moe.ep_mp_group. */
  ep_mp_group?: unknown;
  /** @deprecated Write moe.ep_mp_group. */
  expert_mp_group?: unknown;
  /** @deprecated Write moe.moe_experts. */
  moe_experts?: readonly unknown[];
  /** @deprecated Write moe.type. */
  moe_type?: "standard" | "residual" | (string & {});
}

/** `tensor_parallel` of a DeepSpeed config. */
export interface TensorParallelConfig {
  /** false: one rank, whatever tp_size says. Default true. */
  enabled?: ConfigBoolean;
  /** Number of ranks: from 1 to the number of query heads, at most 64. Default 1. */
  tp_size?: ConfigInteger;
  /** No effect: shards are whole heads, and blocks of 16 neurons and vocabulary rows. Default 64. */
  tp_grain_size?: ConfigInteger;
  /** No effect: ranks are threads, or processes that a launcher started. Default null. */
  mpu?: unknown;
  /** No effect: ranks are threads, or processes that a launcher started. Default null. */
  tp_group?: unknown;
}

/** `moe` of a DeepSpeed config: without effect, since the model's config.json describes experts. */
export interface ExpertsConfig {
  /** No effect. Default true. */
  enabled?: ConfigBoolean;
  /** No effect. Default 1. */
  ep_size?: ConfigInteger;
  /** No effect. Default [1]. */
  moe_experts?: readonly unknown[];
  /** Other name of moe_experts. */
  num_experts?: readonly unknown[];
  /** No effect. Default "standard". */
  type?: "standard" | "residual" | (string & {});
  /** No effect. Default null. */
  ep_mp_group?: unknown;
  /** No effect. Default null. */
  ep_group?: unknown;
  /** Other name of ep_group. */
  expert_group?: unknown;
}

/** `quant` of a DeepSpeed config: without effect, since weights are not quantized. */
export interface QuantConfig {
  /** No effect. Default true. */
  enabled?: ConfigBoolean;
  /** No effect. */
  activation?: QuantTargetConfig;
  /** No effect. */
  weight?: QuantWeightConfig;
  /** No effect. */
  qkv?: QkvQuantConfig;
}

/** `quant.activation` of a DeepSpeed config, and part of `quant.weight`. */
export interface QuantTargetConfig {
  /** No effect. Default true. */
  enabled?: ConfigBoolean;
  /** No effect. Default 8. */
  num_bits?: ConfigInteger;
  /** No effect. Default "symmetric". */
  q_type?: "symmetric" | "asymmetric" | (string & {});
  /** No effect. Default 1. */
  q_groups?: ConfigInteger;
}

/** `quant.weight` of a DeepSpeed config. */
export interface QuantWeightConfig extends QuantTargetConfig {
  /** No effect. Default {}. */
  quantized_initialization?: object;
  /** No effect. Default {}. */
  post_init_quant?: object;
}

/** `quant.qkv` of a DeepSpeed config. */
export interface QkvQuantConfig {
  /** No effect. Default true. */
  enabled?: ConfigBoolean;
}

/** `checkpoint_config` of a DeepSpeed config: without effect, since its keys stand at the top level. */
export interface CheckpointConfig {
  /** No effect: write checkpoint at the top level instead. Default null. */
  checkpoint_dir?: string | null;
  /** No effect: write save_mp_checkpoint_path at the top level instead. Default null. */
  save_mp_checkpoint_path?: string | null;
  /** No effect: write base_dir at the top level instead. Default null. */
  base_dir?: string | null;
}
