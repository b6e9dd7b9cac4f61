/** The resolved values of `dtype`. */
export type ConfigDtype = "torch.float16" | "torch.float32" | "torch.bfloat16" | "torch.int8";

/**
 * A DeepSpeed inference config with every key filled in, under DeepSpeed 0.19's own names (deepspeed/inference/config.py): aliases and
 * deprecated keys are resolved. docs/deepspeed-config.md describes the effect of each key; many have none.
 */
export interface ResolvedDeepSpeedConfig {
  /** Default false. Kernels are always fused. */
  replace_with_kernel_inject: boolean;
  /** Default "torch.float16". An engine uses the dtype of the checkpoint if the config names none. */
  dtype: ConfigDtype;
  /** How the model is divided among ranks. */
  tensor_parallel: {
    /** Default true; with false, tp_size is 1. */
    enabled: boolean;
    /** Number of ranks. Default 1. */
    tp_size: number;
    /** Default 64. */
    tp_grain_size: number;
    /** Default null. */
    mpu: unknown;
    /** Default null. */
    tp_group: unknown;
  };
  /** Default false. Decode steps on CUDA always use graphs. */
  enable_cuda_graph: boolean;
  /** Default false. */
  use_triton: boolean;
  /** Default false. */
  triton_autotune: boolean;
  /** Default true. */
  triangular_masking: boolean;
  /** Without effect: the model's config.json describes experts. */
  moe: {
    /** Default true. */
    enabled: boolean;
    /** Default 1. */
    ep_size: number;
    /** Default [1]. */
    moe_experts: unknown[];
    /** Default "standard". */
    type: "residual" | "standard";
    /** Default null. */
    ep_mp_group: unknown;
    /** Default null. */
    ep_group: unknown;
  };
  /** Default false. */
  keep_module_on_host: boolean;
  /** Without effect: weights are not quantized. */
  quant: {
    /** Default true. */
    enabled: boolean;
    activation: QuantTarget;
    weight: QuantTarget & {
      /** Default {}. */
      quantized_initialization: Record<string, unknown>;
      /** Default {}. */
      post_init_quant: Record<string, unknown>;
    };
    qkv: {
      /** Default true. */
      enabled: boolean;
    };
  };
  /** A checkpoint JSON, or its path. Default null. */
  checkpoint: string | Record<string, unknown> | null;
  /** Folder of the paths in the checkpoint JSON. Default "". */
  base_dir: string;
  /** Default false. */
  set_empty_params: boolean;
  /** Folder to write the sharded checkpoint to. Default null: none is written. */
  save_mp_checkpoint_path: string | null;
  /** Without effect: its keys stand at the top level. */
  checkpoint_config: {
    /** Default null. */
    checkpoint_dir: string | null;
    /** Default null. */
    save_mp_checkpoint_path: string | null;
    /** Default null. */
    base_dir: string | null;
  };
  /** Default true. */
  return_tuple: boolean;
  /** Default 1. */
  training_mp_size: number;
  /** Default "auto". */
  replace_method: string;
  /** Default null. May be a Map, because keys are classes in Python. */
  injection_policy: Record<string, unknown> | Map<unknown, unknown> | null;
  /** Default null. */
  injection_policy_tuple: unknown[] | null;
  /** Replaces keys of the model's config.json. Default null. */
  config: Record<string, unknown> | null;
  /** Maximum number of tokens of a sequence, prompt included. Default 1024, but see docs/deepspeed-config.md. */
  max_out_tokens: number;
  /** Number of tokens of a sequence that must fit. Default 1. */
  min_out_tokens: number;
  /** Default false. */
  transposed_mode: boolean;
}

/** What would be quantized, and how. Without effect. */
export interface QuantTarget {
  /** Default true. */
  enabled: boolean;
  /** Default 8. */
  num_bits: number;
  /** Default "symmetric". */
  q_type: "asymmetric" | "symmetric";
  /** Default 1. */
  q_groups: number;
}

const quantTarget: QuantTarget = { enabled: true, num_bits: 8, q_type: "symmetric", q_groups: 1 };

/** What {} resolves to. Never handed out: results are made anew. */
export const defaultConfig: ResolvedDeepSpeedConfig = {
  replace_with_kernel_inject: false,
  dtype: "torch.float16",
  tensor_parallel: { enabled: true, tp_size: 1, tp_grain_size: 64, mpu: null, tp_group: null },
  enable_cuda_graph: false,
  use_triton: false,
  triton_autotune: false,
  triangular_masking: true,
  moe: { enabled: true, ep_size: 1, moe_experts: [1], type: "standard", ep_mp_group: null, ep_group: null },
  keep_module_on_host: false,
  quant: {
    enabled: true,
    activation: quantTarget,
    weight: { ...quantTarget, quantized_initialization: {}, post_init_quant: {} },
    qkv: { enabled: true },
  },
  checkpoint: null,
  base_dir: "",
  set_empty_params: false,
  save_mp_checkpoint_path: null,
  checkpoint_config: { checkpoint_dir: null, save_mp_checkpoint_path: null, base_dir: null },
  return_tuple: true,
  training_mp_size: 1,
  replace_method: "auto",
  injection_policy: null,
  injection_policy_tuple: null,
  config: null,
  max_out_tokens: 1024,
  min_out_tokens: 1,
  transposed_mode: false,
};
