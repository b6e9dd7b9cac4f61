import type { ArchiveManifest } from "../archive/manifest.js";
import type { ExtractLimits } from "../archive/open_options.js";
import type { ArchiveProgress } from "../archive/progress.js";
import { throwIfAborted } from "../base/abort.js";
import { invalidArgument } from "../base/errors.js";
import { type Logger, readLogger } from "../base/logger.js";
import { isObject } from "../base/objects.js";
import { OptionReader } from "../base/option_reader.js";
import { Engine } from "../engine/engine.js";
import { Context } from "../handler/context.js";
import { makeHandler } from "../handler/resolve_handler.js";
import { type HandlerFunction, type HandlerObject, HandlerService } from "../handler/service.js";
import type { InitOptions } from "../loading/options.js";
import { effectiveSettings, type ModelConfigYaml, overlaySettings, type Settings } from "../torchserve_config/index.js";
import { type ModelFiles, openModelFiles, withoutTemporaryFolder } from "./model_files.js";

/** How a model is opened. */
export interface OpenModelOptions {
  /** Default: the name in the manifest, or that of the file. */
  modelName?: string;
  /** Path of a model-config.yaml to use instead of the model's own. */
  modelConfigYaml?: string;
  /** Values that take precedence over the yaml, by dotted name: `{ batchSize: 4, "handler.max_new_tokens": 16 }`. Handlers see them in the yaml. */
  settings?: Settings;
  /** Replacements of Python handlers, as in resolveHandler(). */
  handlerMap?: Readonly<Record<string, string>>;
  /**
   * Options of initInference() with which a shipped handler opens its engine, before what the model's files say. Other handlers open theirs
   * themselves. Default {}.
   */
  engineOptions?: Omit<InitOptions, "signal" | "logger">;
  /** Number of the first GPU, for the context of the handler. Default null. */
  gpuId?: number | null;
  /** As in openArchive(). */
  extractLimits?: Partial<ExtractLimits>;
  /** As in openArchive(). */
  onProgress?: (progress: ArchiveProgress) => void;
  /** Cancels opening and loading with ERR_ABORTED. Everything is then freed. */
  signal?: AbortSignal;
  /** Receives messages, also those of the handler. Default: none does. */
  logger?: Logger;
}

/** A model that answers batches. */
export interface OpenModel extends AsyncDisposable {
  /** Name that the model is served under. */
  readonly name: string;
  /** Version of the model. */
  readonly version: string;
  /** The archive with its files. The weights are usually elsewhere, see `handler.model_path` in model-config.yaml. */
  readonly folder: string;
  /** The archive's manifest; of a folder without one, an equivalent. */
  readonly manifest: ArchiveManifest;
  /** The effective settings of model-config.yaml. */
  readonly settings: ModelConfigYaml;
  /** What the handler gets beside each batch. */
  readonly context: Context;
  /** Runs batches. */
  readonly service: HandlerService;
  /** The engine of a shipped handler, or of another that has it as its property `engine`; undefined where there is none. */
  readonly engine: Engine | undefined;
  /** Waits for pending batches, ends the handler, and removes unpacked files. May be called again. */
  dispose(): Promise<void>;
}

const optionNames = [
  "modelName",
  "modelConfigYaml",
  "settings",
  "handlerMap",
  "engineOptions",
  "gpuId",
  "extractLimits",
  "onProgress",
  "signal",
  "logger",
] as const satisfies (keyof OpenModelOptions)[];

/**
 * Opens a model as a server does: its archive (`.mar`, `.tar.gz`, `.zip`) or folder, its model-config.yaml, and its handler, which is
 * initialized. A model folder without these gets TextGenerationHandler.
 *
 * @throws ShardspeedError ERR_ARCHIVE, ERR_CONFIG, ERR_HANDLER, ERR_ABORTED, ERR_INVALID_ARGUMENT, and the errors of the handler's
 * initialize(). Everything is then freed.
 */
export async function openModel(location: string, options?: OpenModelOptions): Promise<OpenModel> {
  const read = readOptions(options);
  const { modelConfigYaml, settings, handlerMap, extractLimits, onProgress, logger, signal } = read;
  // Wrong ones are said before anything is unpacked.
  effectiveSettings({ options: settings });
  const files = await openModelFiles(location, {
    ...(extractLimits ? { extractLimits } : {}),
    ...(onProgress ? { onProgress } : {}),
    ...(signal ? { signal } : {}),
    modelConfigYaml,
    handlerMap,
    logger,
  });
  // Loggers as they are given: handlers may know more of their methods.
  return startModel(files, location, { ...read, logger: options?.logger });
}

/** What starts a model whose files are open. */
export type StartModelOptions = Pick<
  OpenModelOptions,
  "modelName" | "settings" | "engineOptions" | "gpuId" | "signal" | "logger"
>;

/**
 * Makes and initializes the handler of a model whose files are open.
 *
 * @param location What messages name in place of a temporary folder.
 * @throws As openModel(). The files are then closed.
 */
export async function startModel(
  files: ModelFiles,
  location: string,
  { modelName, settings, engineOptions = {}, gpuId = null, signal, logger }: StartModelOptions,
): Promise<OpenModel> {
  const { archive, yaml } = files;
  let started: Started;
  let counted: ModelConfigYaml;
  try {
    counted = effectiveSettings({ options: settings, yaml: yaml?.parsed });
    const context = new Context({
      modelName: modelName ?? archive.modelName,
      modelDir: archive.folder,
      manifest: archive.manifest,
      batchSize: counted.batchSize,
      gpuId,
      modelYamlConfig: overlaySettings(yaml?.parsed.raw ?? {}, settings),
      logger,
      signal,
    });
    started = await startService(files, context, counted, engineOptions);
  } catch (error) {
    await archive.close();
    throw withoutTemporaryFolder(error, archive, location);
  }
  return toOpenModel(files, started, counted);
}

function readOptions(options: unknown) {
  const reader = new OptionReader("openModel option", options, optionNames);
  for (const name of ["modelName", "modelConfigYaml"]) {
    const value = reader.get(name);
    if (value !== undefined && (typeof value !== "string" || value === ""))
      throw invalidArgument(name, "a string that is not empty", value);
  }
  for (const name of ["settings", "handlerMap", "engineOptions"]) {
    const value = reader.get(name);
    if (value !== undefined && !isObject(value)) throw invalidArgument(name, "an object", value);
  }
  const given = (options ?? {}) as OpenModelOptions;
  return { ...given, signal: reader.signal("signal"), logger: readLogger(reader.get("logger")) };
}

interface Started {
  service: HandlerService;
  handler: HandlerObject | HandlerFunction;
}

/** Where the handler cannot be started, what it holds by then is given back. */
async function startService(
  files: ModelFiles,
  context: Context,
  settings: ModelConfigYaml,
  engineOptions: InitOptions,
): Promise<Started> {
  const source = { ...files.handlerSource, yaml: context.modelYamlConfig };
  const handler = await makeHandler(source, engineOptions);
  const service = new HandlerService(handler, context, { overlaps: settings.continuousBatching });
  try {
    await service.initialize();
    // A handler that does not look at the signal is ended when it is done.
    throwIfAborted(context.signal, `The opening of ${context.modelName}`);
    return { service, handler };
  } catch (error) {
    await service.dispose().catch(() => {}); // it was not whole
    throw error;
  }
}

function toOpenModel({ archive }: ModelFiles, { service, handler }: Started, settings: ModelConfigYaml): OpenModel {
  const { engine } = handler as { engine?: unknown };
  let disposed: Promise<void> | undefined;
  const dispose = () => {
    disposed ??= service.dispose().finally(() => archive.close());
    return disposed;
  };
  return {
    name: service.context.modelName,
    version: archive.version,
    folder: archive.folder,
    manifest: archive.manifest,
    settings,
    context: service.context,
    service,
    engine: engine instanceof Engine ? engine : undefined,
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
}
