import type { z as zod } from "zod";
import { isPlainObject } from "../base/json.js";
import { lazyLibrary } from "../base/lazy_library.js";
import { type ConfigDtype, defaultConfig } from "./types.js";

export type ConfigSchema = ReturnType<typeof buildSchema>;
/** Every key with its default; deprecated ones where they are given. */
export type ConfigValues = zod.infer<ConfigSchema>;

const zodLibrary = lazyLibrary<{ z: typeof zod }>("zod");
let schema: ConfigSchema | undefined;

/**
 * The types of DeepSpeed's DeepSpeedInferenceConfig, with what pydantic's lax mode makes of other ones. Names are not checked here
 * (names.ts). Made when a config is first read.
 */
export function configSchema(): ConfigSchema {
  schema ??= buildSchema(zodLibrary().z);
  return schema;
}

/** All spellings of DeepSpeed (DtypeEnum), in small letters, without the "torch." that each may begin with. */
const dtypes: ReadonlyMap<string, ConfigDtype> = new Map([
  ...["float16", "fp16", "half"].map((name) => [name, "torch.float16"] as const),
  ...["float32", "fp32", "float"].map((name) => [name, "torch.float32"] as const),
  ...["bfloat16", "bf16", "bfloat"].map((name) => [name, "torch.bfloat16"] as const),
  ["int8", "torch.int8"],
]);

/** What a spelling of a dtype means; undefined for what is none. */
export function canonicalDtype(found: unknown): ConfigDtype | undefined {
  return typeof found === "string" ? dtypes.get(found.toLowerCase().replace(/^torch\./, "")) : undefined;
}

/** Pydantic's integers: "2", "1_000", 2.0 and true are integers too. */
function toInteger(value: unknown): unknown {
  if (typeof value === "boolean") return Number(value);
  const number =
    typeof value === "string" && /^[+-]?\d+(_\d+)*(\.0+)?$/.test(value.trim())
      ? Number(value.trim().replaceAll("_", ""))
      : value;
  return number === 0 ? 0 : number; // not -0
}

const words: ReadonlyMap<unknown, boolean> = new Map([
  ...["1", "on", "t", "true", "y", "yes", 1].map((word) => [word, true] as const),
  ...["0", "off", "f", "false", "n", "no", 0].map((word) => [word, false] as const),
]);

/** Pydantic's booleans: 1, "on", "Yes" and their like are booleans too. */
function toBoolean(value: unknown): unknown {
  return words.get(typeof value === "string" ? value.toLowerCase() : value) ?? value;
}

type Types = ReturnType<typeof valueTypes>;

function valueTypes(z: typeof zod) {
  const names = ["fp16", "bf16", "fp32", "int8"].map((name) => `"${name}"`).join(", ");
  return {
    dtype: z.preprocess(
      (value) => canonicalDtype(value) ?? value,
      z.enum(
        ["torch.float16", "torch.float32", "torch.bfloat16", "torch.int8"],
        `expected ${names} or another name of these`,
      ),
    ),
    integer: z.preprocess(toInteger, z.int()),
    boolean: z.preprocess(toBoolean, z.boolean()),
    text: z.string(),
    anything: z.unknown(),
    list: z.array(z.unknown()),
    object: z.custom<Record<string, unknown>>(isPlainObject, "expected an object"),
    policy: z.custom<Record<string, unknown> | Map<unknown, unknown>>(
      (value) => isPlainObject(value) || value instanceof Map,
      "expected an object",
    ),
    moeType: z.enum(["residual", "standard"], 'expected "residual" or "standard"'),
    quantType: z.enum(["asymmetric", "symmetric"], 'expected "symmetric" or "asymmetric"'),
  };
}

function parallelSchema(z: typeof zod, { boolean, integer, anything }: Types) {
  const { enabled, tp_size, tp_grain_size } = defaultConfig.tensor_parallel;
  return z.object({
    enabled: boolean.default(enabled),
    tp_size: integer.default(tp_size),
    tp_grain_size: integer.default(tp_grain_size),
    mpu: anything.default(null),
    tp_group: anything.default(null),
  });
}

function moeSchema(z: typeof zod, { boolean, integer, list, moeType, anything }: Types) {
  const { enabled, ep_size, moe_experts, type } = defaultConfig.moe;
  const keys = {
    enabled: boolean.default(enabled),
    ep_size: integer.default(ep_size),
    moe_experts: list.default(() => [...moe_experts]),
    type: moeType.default(type),
    ep_mp_group: anything.default(null),
    ep_group: anything.default(null),
  };
  const orBoolean = (value: unknown) => {
    const enabled = toBoolean(value);
    return typeof enabled === "boolean" ? { enabled } : value;
  };
  return z.preprocess(orBoolean, z.object(keys, "expected true, false or an object"));
}

function quantSchema(z: typeof zod, { boolean, integer, object, quantType }: Types) {
  const { enabled, num_bits, q_type, q_groups } = defaultConfig.quant.activation;
  const target = {
    enabled: boolean.default(enabled),
    num_bits: integer.default(num_bits),
    q_type: quantType.default(q_type),
    q_groups: integer.default(q_groups),
  };
  const weight = {
    ...target,
    quantized_initialization: object.default(() => ({})),
    post_init_quant: object.default(() => ({})),
  };
  return z.object({
    enabled: boolean.default(defaultConfig.quant.enabled),
    activation: z.object(target).prefault({}),
    weight: z.object(weight).prefault({}),
    qkv: z.object({ enabled: boolean.default(defaultConfig.quant.qkv.enabled) }).prefault({}),
  });
}

function checkpointSchema(z: typeof zod, { text }: Types) {
  return z.object({
    checkpoint_dir: text.nullable().default(null),
    save_mp_checkpoint_path: text.nullable().default(null),
    base_dir: text.nullable().default(null),
  });
}

function buildSchema(z: typeof zod) {
  const types = valueTypes(z);
  const { boolean, integer, text, list, object, anything } = types;
  const checkpoint = z.union([text, object, z.null()], "expected a path, an object or null");
  const unset = defaultConfig;
  return z.object({
    replace_with_kernel_inject: boolean.default(unset.replace_with_kernel_inject),
    dtype: types.dtype.default(unset.dtype),
    tensor_parallel: parallelSchema(z, types).prefault({}),
    enable_cuda_graph: boolean.default(unset.enable_cuda_graph),
    use_triton: boolean.default(unset.use_triton),
    triton_autotune: boolean.default(unset.triton_autotune),
    zero: object.optional(),
    triangular_masking: boolean.default(unset.triangular_masking),
    moe: moeSchema(z, types).prefault({}),
    keep_module_on_host: boolean.default(unset.keep_module_on_host),
    quant: quantSchema(z, types).prefault({}),
    checkpoint: checkpoint.default(null),
    base_dir: text.default(unset.base_dir),
    set_empty_params: boolean.default(unset.set_empty_params),
    save_mp_checkpoint_path: text.nullable().default(null),
    checkpoint_config: checkpointSchema(z, types).prefault({}),
    return_tuple: boolean.default(unset.return_tuple),
    training_mp_size: integer.default(unset.training_mp_size),
    replace_method: text.default(unset.replace_method),
    injection_policy: types.policy.nullable().default(null),
    injection_policy_tuple: list.nullable().default(null),
    config: object.nullable().default(null),
    max_out_tokens: integer.refine((value) => value > 0, "expected more than 0").default(unset.max_out_tokens),
    min_out_tokens: integer.default(unset.min_out_tokens),
    transposed_mode: boolean.default(unset.transposed_mode),
    mp_size: integer.optional(),
    mpu: anything.optional(),
    ep_size: integer.optional(),
    ep_group: anything.optional(),
    ep_mp_group: anything.optional(),
    moe_experts: list.optional(),
    moe_type: types.moeType.optional(),
  });
}
