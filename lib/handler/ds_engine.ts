import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type Logger, settleLogger } from "../base/logger.js";
import { resolveModelPath, runInModelFolder } from "../base/model_folder_scope.js";
import { isObject } from "../base/objects.js";
import { createCheckpointsJson, listCheckpoints } from "../checkpoint/create_json.js";
import type { Engine } from "../engine/engine.js";
import { initInference, readInitOptions } from "../loading/init.js";
import type { MetaModel } from "../loading/meta_model.js";
import type { InitOptions } from "../loading/options.js";

/** The part of a Context that getDsEngine() reads. */
export interface DsEngineContext {
  /** For messages. */
  readonly modelName: string;
  /** With the folder that relative paths start from. */
  readonly systemProperties: { readonly model_dir: string };
  /** model-config.yaml, parsed. */
  readonly modelYamlConfig: unknown;
  /** Receives messages. */
  readonly logger?: Logger;
  /** Cancels loading. */
  readonly signal?: AbortSignal | undefined;
}

/** initInference(), or its replacement in a test. */
export type InitEngine<Result> = (model: string | MetaModel, options: InitOptions) => Promise<Result>;

/**
 * Makes the engine that a model-config.yaml describes, like `get_ds_engine` of TorchServe (ts/handler_utils/distributed/deepspeed.py). It reads
 * `deepspeed.config`, `deepspeed.checkpoint`, `handler.model_path` and `deviceType`; paths are relative to the model folder of the context. The
 * index that `deepspeed.checkpoint` names is rewritten each time, with the .bin files of model_path, else its .safetensors or .pt files.
 *
 * @param model A meta model, or the path of a model folder, in the working directory or else in the context's model folder.
 * @throws ShardspeedError ERR_CONFIG for a missing or invalid key of the yaml; ERR_CHECKPOINT for missing weights or an index that cannot be
 * written; and the errors of initInference().
 */
export function getDsEngine(model: string | MetaModel, ctx: DsEngineContext): Promise<Engine> {
  return openDsEngine(model, ctx, initInference);
}

/** The same with another initInference(). */
export async function openDsEngine<Result>(
  model: string | MetaModel,
  ctx: DsEngineContext,
  init: InitEngine<Result>,
): Promise<Result> {
  const modelDir = ctx?.systemProperties?.model_dir;
  if (typeof modelDir !== "string") throw invalidArgument("ctx", "a context with systemProperties.model_dir", ctx);
  const { modelName, modelYamlConfig: yaml, logger, signal } = ctx;
  // In the order of the original, which decides the error where more than one thing is wrong.
  const handler = readSection(modelName, yaml, "handler");
  if (!Object.hasOwn(handler, "model_path")) throw missingKey(modelName, "handler.model_path");
  const section = readDeepspeedSection(modelName, yaml as Record<string, unknown>);
  const dsConfig = await findDsConfig(modelName, modelDir, section);
  const baseDir = path.resolve(modelDir, readPath(modelName, "handler.model_path", handler.model_path));
  const checkpoint = await writeCheckpoint(modelName, modelDir, section, baseDir, logger);
  const found = await resolveModel(model, modelDir);
  const others = { ...(logger ? { logger } : {}), ...(signal ? { signal } : {}) };
  warnOfIdleRanks(modelName, yaml, dsConfig.config, logger);
  return init(found, { ...dsConfig, ...checkpoint, baseDir, ...deviceOption(yaml), ...others });
}

/**
 * TorchServe starts as many processes as the yaml has ranks, and those beyond tp_size do nothing. Here the model is divided among tp_size ranks
 * whatever the yaml says, and who asked for more expects more.
 */
function warnOfIdleRanks(
  modelName: string,
  yaml: unknown,
  config: string | undefined,
  logger: Logger | undefined,
): void {
  if (logger === undefined || !isObject(yaml)) return;
  const torchrun = isObject(yaml.torchrun) ? yaml.torchrun["nproc-per-node"] : undefined;
  const [key, ranks] = yaml.parallelLevel
    ? ["parallelLevel", yaml.parallelLevel]
    : ["torchrun.nproc-per-node", torchrun];
  const { tpSize } = readInitOptions({ config }).config;
  if (typeof ranks !== "number" || ranks <= tpSize) return;
  settleLogger(logger).warn(
    `${modelName}: ${key} is ${ranks}, and the DeepSpeed config divides the model among ${tpSize === 1 ? "1 rank" : `${tpSize} ranks`}: ` +
      `the others would be idle. Set tensor_parallel.tp_size to ${ranks}, or ${key} to ${tpSize}`,
  );
}

/** A path as AutoConfig and AutoTokenizer find it. */
async function resolveModel(model: string | MetaModel, modelDir: string): Promise<string | MetaModel> {
  return typeof model === "string" ? runInModelFolder(modelDir, () => resolveModelPath(model)) : model;
}

/** `deviceType` as an option of initInference(): gpu without a GPU is an error, and with auto, or none, a GPU is taken where there is one. */
export function deviceOption(yaml: unknown): { device?: "cpu" | "cuda" } {
  const type = isObject(yaml) ? yaml.deviceType : undefined;
  const name = typeof type === "string" ? type.toLowerCase() : "";
  return name === "cpu" ? { device: "cpu" } : name === "gpu" ? { device: "cuda" } : {};
}

function configError(message: string): ShardspeedError {
  return new ShardspeedError("ERR_CONFIG", message);
}

function missingKey(modelName: string, key: string): ShardspeedError {
  return configError(`${modelName}: the model config yaml has no key ${key}. Add it.`);
}

function wrongKey(modelName: string, key: string, expected: string, found: unknown): ShardspeedError {
  const { message } = invalidArgument(key, expected, found);
  return configError(`${modelName}: the model config yaml is wrong. ${message}`);
}

function readSection(modelName: string, yaml: unknown, key: string): Record<string, unknown> {
  if (!isObject(yaml)) throw wrongKey(modelName, "it", `a map with a key ${key}`, yaml);
  if (!Object.hasOwn(yaml, key)) throw missingKey(modelName, key);
  const section = yaml[key];
  if (!isObject(section)) throw wrongKey(modelName, key, "a map", section);
  return section;
}

function readDeepspeedSection(modelName: string, yaml: Record<string, unknown>): Record<string, unknown> {
  if (!Object.hasOwn(yaml, "deepspeed")) {
    throw configError(`${modelName} has no deepspeed config in model config yaml file`);
  }
  return readSection(modelName, yaml, "deepspeed");
}

function readPath(modelName: string, key: string, value: unknown): string {
  if (typeof value !== "string" || value === "") throw wrongKey(modelName, key, "a path", value);
  return value;
}

async function findDsConfig(
  modelName: string,
  modelDir: string,
  section: Record<string, unknown>,
): Promise<{ config?: string }> {
  if (!Object.hasOwn(section, "config")) return {};
  const { config: value } = section;
  if (typeof value !== "string") throw wrongKey(modelName, "deepspeed.config", "the path of a JSON file", value);
  const config = pythonJoin(modelDir, value);
  const found: Stats | undefined = await stat(config).catch(() => undefined);
  if (found === undefined) throw configError(`${modelName} has no deepspeed config file ${config}`);
  if (found.isDirectory()) {
    throw wrongKey(modelName, "deepspeed.config", `the path of a JSON file (${config} is a folder)`, value);
  }
  return { config };
}

async function writeCheckpoint(
  modelName: string,
  modelDir: string,
  section: Record<string, unknown>,
  modelPath: string,
  logger: Logger | undefined,
): Promise<{ checkpoint?: string }> {
  if (!Object.hasOwn(section, "checkpoint")) return {};
  const value = readPath(modelName, "deepspeed.checkpoint", section.checkpoint);
  const checkpoint = pythonJoin(modelDir, value);
  const choices = [
    { weightsOnly: true },
    { patterns: ["*.safetensors"], weightsOnly: true },
    { patterns: ["*.pt"], weightsOnly: true },
  ];
  for (const choice of choices) {
    // Without the files that only training needs: an engine could make nothing of them.
    if (!(await holdsFiles(modelPath, choice))) continue;
    await createCheckpointsJson(modelPath, checkpoint, { ...choice, ...(logger ? { logger } : {}) });
    return { checkpoint };
  }
  await createCheckpointsJson(modelPath, checkpoint, logger ? { logger } : {});
  return { checkpoint };
}

async function holdsFiles(modelPath: string, choice: { patterns?: string[]; weightsOnly: boolean }): Promise<boolean> {
  return listCheckpoints(modelPath, choice).then(
    () => true,
    () => false,
  );
}

/** `os.path.join(folder, name)`: an absolute name wins, and nothing is normalised, so that messages show what the yaml says. */
function pythonJoin(folder: string, name: string): string {
  if (name.startsWith("/")) return name;
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}
