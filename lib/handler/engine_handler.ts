import { stat } from "node:fs/promises";
import path from "node:path";
import { type ErrorCode, httpStatuses, invalidArgument, ShardspeedError } from "../base/errors.js";
import { settleLogger } from "../base/logger.js";
import { nearestKey } from "../base/nearest.js";
import type { Engine } from "../engine/engine.js";
import { initInference } from "../loading/init.js";
import { BaseDeepSpeedHandler } from "./base_deepspeed_handler.js";
import type { Context } from "./context.js";
import { deviceOption, type InitEngine, openDsEngine } from "./ds_engine.js";
import { fromText } from "./generation_parameters.js";

const ownKeys = ["type", "model_path", "model_name", "max_length", "profile"];

/**
 * Base of the handlers that this package has. It opens the engine that model-config.yaml describes: `handler.model_path` (relative to the archive;
 * default: the archive, if it holds a config.json), `deviceType`, and by getDsEngine() where there is a section `deepspeed`. It reads
 * `handler.max_length`, and refuses single requests of a batch.
 */
export abstract class EngineHandler extends BaseDeepSpeedHandler {
  /** The engine, once initialized. */
  engine: Engine | undefined;
  /** `max_length` of the yaml: so many tokens a text may have at most. */
  protected maxLength: number | undefined;
  readonly #init: InitEngine<Engine>;

  /** @param init Function that opens the engine. Default initInference(). */
  constructor(init: InitEngine<Engine> = initInference) {
    super();
    this.#init = init;
  }

  /** @throws ShardspeedError ERR_CONFIG for an invalid yaml, and the errors of getDsEngine() and initInference(). */
  override async initialize(ctx: Context): Promise<void> {
    await super.initialize(ctx);
    this.context = ctx;
    this.manifest = ctx.manifest;
    const section = readSection(ctx);
    const unknown = Object.keys(section).filter((name) => !ownKeys.includes(name) && !this.isSetting(name));
    warnOfUnknownKeys(ctx, unknown, [...ownKeys, ...this.settings()]);
    try {
      this.maxLength = readMaxLength(section.max_length);
      this.readSettings(section);
    } catch (error) {
      if (!ShardspeedError.isInstance(error)) throw error;
      throw new ShardspeedError("ERR_CONFIG", `The model config yaml, handler: ${error.message}`, { cause: error });
    }
    this.engine = await openEngine(ctx, section, this.#init);
    this.model = this.engine.module;
    this.initialized = true;
  }

  /** Disposes of the engine. */
  async dispose(): Promise<void> {
    await this.engine?.dispose();
  }

  /** Names of the keys of `handler` that readSettings() reads. */
  protected settings(): readonly string[] {
    return [];
  }

  /** Whether readSettings() reads this key of `handler`, also under another spelling. */
  protected isSetting(name: string): boolean {
    return this.settings().includes(name);
  }

  /** Reads the keys of `handler` that are a subclass's own. @throws ShardspeedError for a value that is wrong. */
  protected readSettings(_section: Record<string, unknown>): void {}

  /** The engine. @throws ShardspeedError ERR_HANDLER before initialize(). */
  protected get opened(): Engine {
    if (this.engine === undefined) throw new ShardspeedError("ERR_HANDLER", "The handler has not been initialised.");
    return this.engine;
  }

  /** Gives one request of a batch the status of its error; returns its response. */
  protected refuse(error: unknown, place: number): unknown {
    const { code, message } = error as ShardspeedError;
    const status = httpStatuses[code];
    this.context?.setResponseStatus(status, null, place);
    this.context?.requestProcessor[place]?.addResponseProperty("content-type", "application/json");
    return { code: status, type: status === 400 ? "BadRequestException" : "InternalServerException", message };
  }
}

/** What ends one request only. Anything else is the whole batch's. */
const ownCodes: readonly ErrorCode[] = [
  "ERR_INVALID_ARGUMENT",
  "ERR_CONTEXT_LENGTH",
  "ERR_TOKENIZER",
  "ERR_ABORTED",
  "ERR_NUMERIC",
  "ERR_OUT_OF_MEMORY",
];

/** @throws the error, where it is not of one request alone. */
export function keepIfOwn(error: unknown): { error: unknown } {
  if (ShardspeedError.isInstance(error) && ownCodes.includes(error.code)) return { error };
  throw error;
}

function readSection({ modelYamlConfig: yaml }: Context): Record<string, unknown> {
  const section = yaml?.handler ?? {};
  if (typeof section === "string") return {}; // the handler's name alone
  if (typeof section === "object" && !Array.isArray(section)) return section;
  const { message } = invalidArgument("handler", "a map", section);
  throw new ShardspeedError("ERR_CONFIG", `The model config yaml is wrong. ${message}`);
}

function warnOfUnknownKeys({ logger }: Context, unknown: readonly string[], known: readonly string[]): void {
  for (const name of unknown) {
    const near = nearestKey(name, known);
    settleLogger(logger).warn(
      `The model config yaml has an unknown key handler.${name}.${near ? ` Did you mean ${near}?` : ""}`,
    );
  }
}

function readMaxLength(given: unknown): number | undefined {
  const value = fromText(given ?? undefined, "integer");
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    throw invalidArgument("max_length", "an integer of at least 1", value);
  return value as number;
}

async function openEngine(ctx: Context, section: Record<string, unknown>, init: InitEngine<Engine>): Promise<Engine> {
  const { model_dir: modelDir } = ctx.systemProperties;
  const modelPath = section.model_path ?? (await ownFolder(modelDir));
  if (modelPath !== undefined && (typeof modelPath !== "string" || modelPath === "")) {
    const { message } = invalidArgument("handler.model_path", "a path", modelPath);
    throw new ShardspeedError("ERR_CONFIG", `The model config yaml is wrong. ${message}`);
  }
  if (modelPath === undefined) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      "The model config yaml has no handler.model_path, expected the path of a model folder, and the archive holds no model itself.",
    );
  }
  const folder = path.resolve(modelDir, modelPath);
  const { modelName, systemProperties, modelYamlConfig: yaml, logger, signal } = ctx;
  if (yaml === null || !Object.hasOwn(yaml, "deepspeed")) {
    return init(folder, { ...deviceOption(yaml), logger, ...(signal ? { signal } : {}) });
  }
  const modelYamlConfig = { ...yaml, handler: { ...section, model_path: modelPath } };
  return openDsEngine(folder, { modelName, systemProperties, logger, signal, modelYamlConfig }, init);
}

async function ownFolder(modelDir: string): Promise<string | undefined> {
  return stat(path.join(modelDir, "config.json")).then(
    () => modelDir,
    () => undefined,
  );
}
