import { defaultConfig } from "./types.js";

/**
 * What a key does here. `followed`: what its name says. `always`: the engine does it whether it is set or not. `none`: nothing. `refused`: it is
 * an error. `renamed`: it is a deprecated name of another key.
 */
export type ConfigEffect = "followed" | "always" | "none" | "refused" | "renamed";

/** What a key holds, in words of docs/deepspeed-config.md; values.ts has a rule for each. */
export type ConfigType =
  | "anything"
  | "boolean or object"
  | "boolean"
  | "data type"
  | "integer above 0"
  | "integer"
  | "list or null"
  | "list"
  | "object or null"
  | "object"
  | "path or null"
  | "path, object or null"
  | "string or null"
  | "string"
  | '"standard" or "residual"'
  | '"symmetric" or "asymmetric"';

/** A key of the DeepSpeed inference config. */
export interface ConfigKey {
  /** Full path: "tensor_parallel.tp_size". */
  name: string;
  /** Its other name, in the same object. */
  alias?: string;
  type: ConfigType;
  effect: ConfigEffect;
  /** What the key does, or why it has no effect. Warnings and docs/deepspeed-config.md use it. */
  meaning: string;
  /** The key that replaces this deprecated one. */
  renamedTo?: string;
}

const noTriton = "the engine has its own kernels and does not use Triton";
const groupsFromLauncher = "ranks are threads, or processes that a launcher started";
const expertsFromModel = "the model's config.json describes experts, and tensor_parallel shards them";
const notQuantised = "weights are not quantized";
const namedElsewhere = "write checkpoint, base_dir and save_mp_checkpoint_path at the top level instead";
const layersFromArchitecture = "each architecture states how its layers are sharded";

/** Every key of DeepSpeed 0.19's DeepSpeedInferenceConfig (deepspeed/inference/config.py), in its order, deprecated ones last. */
export const configKeys: readonly ConfigKey[] = [
  row("replace_with_kernel_inject", "boolean", "always", "kernels are always fused", "kernel_inject"),
  row("dtype", "data type", "followed", "element type of weights and KV cache; default: that of the checkpoint"),
  row("tensor_parallel", "object", "followed", "its keys follow", "tp"),
  row("tensor_parallel.enabled", "boolean", "followed", "false: one rank, whatever tp_size says"),
  row(
    "tensor_parallel.tp_size",
    "integer",
    "followed",
    "number of ranks: from 1 to the number of query heads, at most 64",
  ),
  row(
    "tensor_parallel.tp_grain_size",
    "integer",
    "none",
    "shards are whole heads, and blocks of 16 neurons and vocabulary rows",
  ),
  row("tensor_parallel.mpu", "anything", "none", groupsFromLauncher),
  row("tensor_parallel.tp_group", "anything", "none", groupsFromLauncher),
  row("enable_cuda_graph", "boolean", "always", "decode steps on CUDA always use graphs; CPUs have none"),
  row("use_triton", "boolean", "none", noTriton),
  row("triton_autotune", "boolean", "none", noTriton),
  row("zero", "object", "none", "ZeRO is for training; tensor_parallel.tp_size shards a model"),
  row("triangular_masking", "boolean", "none", "each architecture has its own mask", "tm"),
  row("moe", "boolean or object", "none", "its keys follow; a boolean is moe.enabled"),
  row("moe.enabled", "boolean", "none", expertsFromModel),
  row("moe.ep_size", "integer", "none", expertsFromModel),
  row("moe.moe_experts", "list", "none", expertsFromModel, "num_experts"),
  row("moe.type", '"standard" or "residual"', "none", expertsFromModel),
  row("moe.ep_mp_group", "anything", "none", expertsFromModel),
  row("moe.ep_group", "anything", "none", expertsFromModel, "expert_group"),
  row("keep_module_on_host", "boolean", "none", "weights are kept only on the device that computes with them"),
  row("quant", "object", "none", "its keys follow"),
  row("quant.enabled", "boolean", "none", notQuantised),
  row("quant.activation", "object", "none", "its keys follow"),
  ...quantRows("quant.activation"),
  row("quant.weight", "object", "none", "its keys follow"),
  ...quantRows("quant.weight"),
  row("quant.weight.quantized_initialization", "object", "none", notQuantised),
  row("quant.weight.post_init_quant", "object", "none", notQuantised),
  row("quant.qkv", "object", "none", "its keys follow"),
  row("quant.qkv.enabled", "boolean", "none", notQuantised),
  row("checkpoint", "path, object or null", "followed", "the checkpoint JSON, or its path"),
  row("base_dir", "string", "followed", "folder of the paths in the checkpoint JSON"),
  row("set_empty_params", "boolean", "none", "weights always come from the checkpoint"),
  row("save_mp_checkpoint_path", "path or null", "followed", "folder to write the sharded checkpoint to"),
  row("checkpoint_config", "object", "none", "its keys follow", "ckpt_config"),
  row("checkpoint_config.checkpoint_dir", "path or null", "none", namedElsewhere),
  row("checkpoint_config.save_mp_checkpoint_path", "path or null", "none", namedElsewhere),
  row("checkpoint_config.base_dir", "string or null", "none", namedElsewhere),
  row("return_tuple", "boolean", "none", "forward returns an object"),
  row("training_mp_size", "integer", "none", "the checkpoint JSON says how many ranks wrote it"),
  row("replace_method", "string", "none", "there is one method; DeepSpeed ignores it too, remove it"),
  row("injection_policy", "object or null", "none", layersFromArchitecture, "injection_dict"),
  row("injection_policy_tuple", "list or null", "none", layersFromArchitecture),
  row("config", "object or null", "refused", "unless it is empty: change the model's config.json instead", "args"),
  row(
    "max_out_tokens",
    "integer above 0",
    "followed",
    "maximum number of tokens of a sequence, prompt included; default: the model's context",
    "max_tokens",
  ),
  row(
    "min_out_tokens",
    "integer",
    "followed",
    "number of tokens of a sequence that must fit, else an error",
    "min_tokens",
  ),
  row("transposed_mode", "boolean", "none", "the engine chooses the layout of weights"),
  renamed("mp_size", "integer", "tensor_parallel.tp_size"),
  renamed("mpu", "anything", "tensor_parallel.mpu"),
  renamed("ep_size", "integer", "moe.ep_size"),
  renamed("ep_group", "anything", "moe.ep_group", "expert_group"),
  renamed("ep_mp_group", "anything", "moe.ep_mp_group", "expert_mp_group"),
  renamed("moe_experts", "list", "moe.moe_experts"),
  renamed("moe_type", '"standard" or "residual"', "moe.type"),
];

function row(name: string, type: ConfigType, effect: ConfigEffect, meaning: string, alias?: string): ConfigKey {
  return { name, type, effect, meaning, ...(alias === undefined ? {} : { alias }) };
}

function renamed(name: string, type: ConfigType, renamedTo: string, alias?: string): ConfigKey {
  return { ...row(name, type, "renamed", `deprecated: write ${renamedTo}`, alias), renamedTo };
}

function quantRows(parent: string): ConfigKey[] {
  return [
    row(`${parent}.enabled`, "boolean", "none", notQuantised),
    row(`${parent}.num_bits`, "integer", "none", notQuantised),
    row(`${parent}.q_type`, '"symmetric" or "asymmetric"', "none", notQuantised),
    row(`${parent}.q_groups`, "integer", "none", notQuantised),
  ];
}

/** The keys of each object that has keys of its own, by the object's name; "" is the config itself. */
export const keysOf: ReadonlyMap<string, readonly ConfigKey[]> = new Map(
  [...new Set(configKeys.map(({ name }) => parentOf(name)))].map((parent) => [
    parent,
    configKeys.filter(({ name }) => parentOf(name) === parent),
  ]),
);

function parentOf(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf(".")));
}

/** A key's name without the objects that it is in. */
export function lastPart(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

/** The value at a dotted name; undefined where there is none. */
export function valueAt(config: object, name: string): unknown {
  return name
    .split(".")
    .reduce<unknown>((value, part) => (value as Record<string, unknown> | undefined)?.[part], config);
}

/** What a key is when it is not given; of a deprecated one, what the key in its place is. `zero` has keys of training only. */
export function defaultOf({ name, renamedTo }: ConfigKey): unknown {
  return name === "zero" ? {} : valueAt(defaultConfig, renamedTo ?? name);
}
