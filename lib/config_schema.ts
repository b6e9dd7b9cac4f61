import { z } from "zod";

/** As upstream reads them: "auto" is the default, whatever the type. */
function field<T extends z.ZodType>(schema: T) {
  return z.preprocess((value) => (value === "auto" ? undefined : value), schema.optional());
}

/** Pydantic's integers: "2", 2.0 and true are integers too. */
const integer = z.preprocess((value) => {
  if (typeof value === "boolean") return Number(value);
  return typeof value === "string" && /^\s*[+-]?\d+(\.0*)?\s*$/.test(value) ? Number(value) : value;
}, z.int());

const words = new Map<unknown, boolean>([
  ...["1", "on", "t", "true", "y", "yes", 1].map((word) => [word, true] as const),
  ...["0", "off", "f", "false", "n", "no", 0].map((word) => [word, false] as const),
]);

/** Pydantic's booleans: 1, "on", "Yes" and their like are booleans too. */
const boolean = z.preprocess(
  (value) => words.get(typeof value === "string" ? value.toLowerCase() : value) ?? value,
  z.boolean(),
);

const anyObject = z.record(z.string(), z.unknown());

const tensorParallel = z.strictObject({
  enabled: field(boolean),
  tp_size: field(integer),
  tp_grain_size: field(integer),
  mpu: field(z.unknown()),
  tp_group: field(z.unknown()),
});

const expertCounts = field(z.union([integer, z.array(integer)], "expected an integer or an array of them"));
const moeType = field(z.enum(["standard", "residual"]));
const moe = z.strictObject({
  enabled: field(boolean),
  ep_size: field(integer),
  moe_experts: expertCounts,
  num_experts: expertCounts,
  type: moeType,
  ep_mp_group: field(z.unknown()),
  ep_group: field(z.unknown()),
  expert_group: field(z.unknown()),
});

const quantTarget = {
  enabled: field(boolean),
  num_bits: field(integer),
  q_type: field(z.enum(["symmetric", "asymmetric"])),
  q_groups: field(integer),
};
const quant = z.strictObject({
  enabled: field(boolean),
  activation: field(z.strictObject(quantTarget)),
  weight: field(
    z.strictObject({ ...quantTarget, quantized_initialization: field(anyObject), post_init_quant: field(anyObject) }),
  ),
  qkv: field(z.strictObject({ enabled: field(boolean) })),
});

/** The keys of DeepSpeed 0.19's DeepSpeedInferenceConfig, deprecated ones included, aliases not. */
export const configSchema = z.strictObject({
  replace_with_kernel_inject: field(boolean),
  dtype: field(z.string()),
  tensor_parallel: field(tensorParallel),
  enable_cuda_graph: field(boolean),
  use_triton: field(boolean),
  triton_autotune: field(boolean),
  zero: field(anyObject),
  triangular_masking: field(boolean),
  moe: field(z.preprocess((value) => (typeof value === "boolean" ? { enabled: value } : value), moe)),
  keep_module_on_host: field(boolean),
  quant: field(quant),
  checkpoint: field(z.union([z.string(), anyObject], "expected a path or an object").nullable()),
  base_dir: field(z.string()),
  set_empty_params: field(boolean),
  save_mp_checkpoint_path: field(z.string().nullable()),
  checkpoint_config: field(
    z.strictObject({
      checkpoint_dir: field(z.string().nullable()),
      save_mp_checkpoint_path: field(z.string().nullable()),
      base_dir: field(z.string().nullable()),
    }),
  ),
  return_tuple: field(boolean),
  training_mp_size: field(integer),
  replace_method: z.string().optional(),
  injection_policy: field(anyObject.nullable()),
  injection_policy_tuple: field(z.array(z.unknown()).nullable()),
  config: field(anyObject.nullable()),
  max_out_tokens: field(integer.refine((value) => value > 0, "expected more than 0")),
  min_out_tokens: field(integer.refine((value) => value > 0, "expected more than 0")),
  transposed_mode: field(boolean),
  mp_size: field(integer),
  mpu: field(z.unknown()),
  ep_size: field(integer),
  ep_group: field(z.unknown()),
  ep_mp_group: field(z.unknown()),
  moe_experts: expertCounts,
  moe_type: moeType,
});

export type ConfigValues = z.infer<typeof configSchema>;

/** Other names of the same keys. */
export const aliases = {
  kernel_inject: "replace_with_kernel_inject",
  tp: "tensor_parallel",
  tm: "triangular_masking",
  ckpt_config: "checkpoint_config",
  injection_dict: "injection_policy",
  args: "config",
  max_tokens: "max_out_tokens",
  min_tokens: "min_out_tokens",
  expert_group: "ep_group",
  expert_mp_group: "ep_mp_group",
} as const satisfies Record<string, keyof ConfigValues>;

/** The known keys at a place in the config, for advice on misspelled ones. */
export function knownKeys(path: readonly PropertyKey[]): string[] {
  if (path.length === 0) return [...Object.keys(configSchema.shape), ...Object.keys(aliases)];
  const shapes: Record<string, object> = {
    tensor_parallel: tensorParallel.shape,
    moe: moe.shape,
    quant: quant.shape,
    "quant.activation": quantTarget,
    "quant.weight": { ...quantTarget, quantized_initialization: 0, post_init_quant: 0 },
  };
  return Object.keys(shapes[path.join(".")] ?? {});
}
