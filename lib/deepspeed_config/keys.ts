import { defaultConfig } from "./types.js";

/**
 * What a key does here. `followed`: what its name says. `always`: what it asks for is so in any case. `none`: nothing. `refused`: an engine
 * with it is an error. `renamed`: a deprecated name of another key.
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
  /** With the objects that it is in: "tensor_parallel.tp_size". */
  name: string;
  /** Its other name, in the same object. */
  alias?: string;
  type: ConfigType;
  effect: ConfigEffect;
  /** What it does, or for a key without effect why. Warnings and docs/deepspeed-config.md say it. */
  meaning: string;
  /** The key that took a deprecated one's place. */
  renamedTo?: string;
}

const noTriton = "kernels are the engine's own, none is Triton's";
const groupsFromLauncher = "ranks are threads, or the processes that a launcher has started";
const expertsFromModel = "experts are described by the model's config.json, and divided as tensor_parallel says";
const notQuantised = "nothing is quantised here";
const namedElsewhere = "write checkpoint, base_dir and save_mp_checkpoint_path at the top instead";
const layersFromArchitecture = "each architecture states which of its layers are divided by rows";

/** Every key of DeepSpeed 0.19's DeepSpeedInferenceConfig (deepspeed/inference/config.py), in its order, deprecated ones last. */
export const configKeys: readonly ConfigKey[] = [
  row("replace_with_kernel_inject", "boolean", "always", "kernels are fused with it and without", "kernel_inject"),
  row("dtype", "data type", "followed", "element type of weights and KV cache; without it, the checkpoint's own"),
  row("tensor_parallel", "object", "followed", "its keys follow", "tp"),
  row("tensor_parallel.enabled", "boolean", "followed", "false: one rank, whatever tp_size says"),
  row(
    "tensor_parallel.tp_size",
    "integer",
    "followed",
    "ranks that the model is divided among, from 1 to as many as it has heads, and 64",
  ),
  row(
    "tensor_parallel.tp_grain_size",
    "integer",
    "none",
    "ranks get whole heads, and blocks of 16 neurons and vocabulary rows",
  ),
  row("tensor_parallel.mpu", "anything", "none", groupsFromLauncher),
  row("tensor_parallel.tp_group", "anything", "none", groupsFromLauncher),
  row(
    "enable_cuda_graph",
    "boolean",
    "always",
    "steps on CUDA run from graphs with it and without, on CPUs there are none",
  ),
  row("use_triton", "boolean", "none", noTriton),
  row("triton_autotune", "boolean", "none", noTriton),
  row("zero", "object", "none", "ZeRO is for training, tensor_parallel.tp_size divides a model here"),
  row("triangular_masking", "boolean", "none", "each architecture has its own mask", "tm"),
  row("moe", "boolean or object", "none", "its keys follow; a boolean is moe.enabled"),
  row("moe.enabled", "boolean", "none", expertsFromModel),
  row("moe.ep_size", "integer", "none", expertsFromModel),
  row("moe.moe_experts", "list", "none", expertsFromModel, "num_experts"),
  row("moe.type", '"standard" or "residual"', "none", expertsFromModel),
  row("moe.ep_mp_group", "anything", "none", expertsFromModel),
  row("moe.ep_group", "anything", "none", expertsFromModel, "expert_group"),
  row("keep_module_on_host", "boolean", "none", "weights go where they are computed with, and only there"),
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
  row("base_dir", "string", "followed", "folder that the checkpoint JSON's paths start from"),
  row("set_empty_params", "boolean", "none", "weights come from the checkpoint in any case"),
  row("save_mp_checkpoint_path", "path or null", "followed", "folder that the divided checkpoint is written to"),
  row("checkpoint_config", "object", "none", "its keys follow", "ckpt_config"),
  row("checkpoint_config.checkpoint_dir", "path or null", "none", namedElsewhere),
  row("checkpoint_config.save_mp_checkpoint_path", "path or null", "none", namedElsewhere),
  row("checkpoint_config.base_dir", "string or null", "none", namedElsewhere),
  row("return_tuple", "boolean", "none", "forward returns an object"),
  row("training_mp_size", "integer", "none", "the number of a checkpoint's parts is in its checkpoint JSON"),
  row("replace_method", "string", "none", "there is one method; upstream ignores it too, remove it"),
  row("injection_policy", "object or null", "none", layersFromArchitecture, "injection_dict"),
  row("injection_policy_tuple", "list or null", "none", layersFromArchitecture),
  row("config", "object or null", "refused", "unless it is empty: change the model's config.json instead", "args"),
  row(
    "max_out_tokens",
    "integer above 0",
    "followed",
    "most tokens of a sequence, prompt and new ones together; without it, the model's own context",
    "max_tokens",
  ),
  row("min_out_tokens", "integer", "followed", "tokens of a sequence that there must be room for", "min_tokens"),
  row("transposed_mode", "boolean", "none", "weights are laid out as the kernels want them"),
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
