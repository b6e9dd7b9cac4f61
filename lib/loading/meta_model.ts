import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { canonicalDtype } from "../deepspeed_config/dtype.js";
import { type ModelInfo, modelInfo } from "../engine/model_info.js";
import { describeModel, type ModelDescription, type WeightDtype } from "../models/index.js";
import { type ModelConfig, modelConfigFolder } from "./auto_config.js";

const marker = Symbol.for("shardspeed.metaModel");

/** A model without weights, like one that torch builds under `torch.device("meta")`. Made by modelFromConfig(). */
export class MetaModel {
  /** A copy of its config. */
  readonly config: ModelConfig;
  /** Element type of the weights; undefined if neither the caller nor the config names one: then that of the checkpoint. */
  readonly dtype: WeightDtype | undefined;
  /** The model folder of the config, if AutoConfig read it. */
  readonly folder: string | undefined;
  /** As torch calls a device without memory. */
  readonly device = "meta";
  /** @internal */
  readonly description: ModelDescription;

  /** @internal */
  constructor(
    config: ModelConfig,
    description: ModelDescription,
    dtype: WeightDtype | undefined,
    folder: string | undefined,
  ) {
    this.config = config;
    this.description = description;
    this.dtype = dtype;
    this.folder = folder;
    Object.defineProperty(this, marker, { value: true });
  }

  /** Family and sizes of the model. */
  get info(): ModelInfo {
    return modelInfo(this.description.spec);
  }

  /** @deprecated Use `info`, which it is. */
  get spec(): ModelInfo {
    return this.info;
  }

  /** Does nothing: for lines ported from Python. */
  eval(): this {
    return this;
  }

  /** True for meta models of any copy of this package in the process, unlike `instanceof`. */
  static isInstance(value: unknown): value is MetaModel {
    return typeof value === "object" && value !== null && marker in value;
  }
}

/** Options of modelFromConfig(). */
export interface ModelFromConfigOptions {
  /** In the spelling of torch or DeepSpeed: "float16", "torch.float16", "fp16", "half", "bf16", "fp32" ... Default: that of the config. */
  dtype?: string;
}

/**
 * Describes a model without allocating weights, like `AutoModelForCausalLM.from_config(config)` under `torch.device("meta")`. initInference
 * loads its weights from a checkpoint.
 *
 * @param config From AutoConfig.fromPretrained(), or the content of a config.json. It is not changed.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL for a model that cannot be computed; ERR_INVALID_ARGUMENT for options.
 */
export function modelFromConfig(config: ModelConfig, options?: ModelFromConfigOptions): MetaModel {
  const dtype = readDtype(new OptionReader("modelFromConfig option", options, ["dtype"]).get("dtype"));
  const copy = copyConfig(config);
  const description = describeModel(copy);
  return new MetaModel(copy, description, dtype ?? description.storedDtype, modelConfigFolder(config));
}

/** A copy: what was described must be what is loaded, whatever becomes of the caller's object. */
function copyConfig(config: ModelConfig): ModelConfig {
  try {
    return structuredClone(config);
  } catch (error) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `Expected the config to be plain data, as config.json holds: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

function readDtype(found: unknown): WeightDtype | undefined {
  if (found === undefined) return undefined;
  const dtype = canonicalDtype(found);
  if (dtype !== undefined && dtype !== "torch.int8") return dtype.replace("torch.", "") as WeightDtype;
  throw invalidArgument("dtype", '"float16", "bfloat16" or "float32"', found);
}
