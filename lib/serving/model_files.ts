import { readdir } from "node:fs/promises";
import path from "node:path";
import { manifestName } from "../archive/manifest.js";
import { type ModelArchive, openArchive, openArchiveAs, openUnpacked } from "../archive/open.js";
import type { OpenArchiveOptions } from "../archive/open_options.js";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { splitSpec } from "../handler/load_handler.js";
import { findHandler, type HandlerSource, handlerInYaml } from "../handler/resolve_handler.js";
import type { ShippedHandlerName } from "../handler/shipped_names.js";
import { whyNotLoadable } from "../handler/typescript.js";
import { type FoundYaml, findModelConfigYaml, isThere } from "./configuration.js";

export interface ModelFilesOptions extends OpenArchiveOptions {
  /** model-config.yaml in place of the model's own. */
  modelConfigYaml?: string | undefined;
  /** As that of resolveHandler(). */
  handlerMap?: Readonly<Record<string, string>> | undefined;
  logger: Logger;
  /** Beginning of the name of the folder that an archive is unpacked to. Default: openArchive()'s. */
  temporaryPrefix?: string | undefined;
  /** Where another process has unpacked the archive. */
  unpacked?: string | undefined;
}

/** The files of a model that can be served, read as far as that runs none of its code. */
export interface ModelFiles {
  readonly archive: ModelArchive;
  /** undefined: it has no model-config.yaml. */
  readonly yaml: FoundYaml | undefined;
  /** What resolveHandler() takes. */
  readonly handlerSource: HandlerSource;
}

/** What TorchServe assumes as the handler of a folder without a manifest. */
const assumedHandler = "default_service_handler";
const defaultHandler: ShippedHandlerName = "TextGenerationHandler";

/**
 * Opens an archive, or a folder with the files of one, and reads its model-config.yaml. A model folder, with config.json and without a manifest,
 * has the shipped handler for text where its yaml names no other.
 *
 * @returns What the caller closes, by `archive`.
 * @throws ShardspeedError ERR_ARCHIVE, ERR_CONFIG, ERR_ABORTED; nothing is left behind.
 */
export async function openModelFiles(location: string, options: ModelFilesOptions): Promise<ModelFiles> {
  const { modelConfigYaml, handlerMap = {}, logger, temporaryPrefix, unpacked, ...archiveOptions } = options;
  const archive =
    unpacked !== undefined
      ? await openUnpacked(location, unpacked)
      : temporaryPrefix !== undefined
        ? await openArchiveAs(temporaryPrefix, location, archiveOptions)
        : await openArchive(location, archiveOptions);
  try {
    const { folder } = archive;
    const yaml = await findModelConfigYaml(modelConfigYaml ?? archive.configFile, folder, logger, options.signal);
    const raw = yaml?.parsed.raw ?? {};
    const isPlainModel = archive.handler === assumedHandler && (await isThere(path.join(folder, "config.json")));
    if (archive.handler === assumedHandler && !isPlainModel) await checkIsModel(archive, raw, handlerMap);
    const handler = isPlainModel && handlerInYaml(raw) === undefined ? defaultHandler : archive.handler;
    return { archive, yaml, handlerSource: { handler, modelDir: folder, yaml: raw, handlerMap } };
  } catch (error) {
    await archive.close();
    throw withoutTemporaryFolder(error, archive, location);
  }
}

/** @throws ShardspeedError ERR_HANDLER for a folder that is none of a model, nor one of an archive's files. */
async function checkIsModel(
  { folder, temporary }: ModelArchive,
  raw: Parameters<typeof handlerInYaml>[0],
  handlerMap: Readonly<Record<string, string>>,
): Promise<void> {
  if (temporary || handlerInYaml(raw) !== undefined || Object.hasOwn(handlerMap, assumedHandler)) return;
  const names = await readdir(folder);
  if (names.some((name) => name.startsWith(assumedHandler)) || (await isThere(path.join(folder, manifestName)))) return;
  throw new ShardspeedError(
    "ERR_HANDLER",
    `${folder} has neither config.json, as a model folder, nor ${manifestName}, as the files of an archive, nor a ${assumedHandler}.`,
  );
}

/** Files are archives; a folder is one where it has a manifest, or a model-config.yaml and no model of its own. */
export async function isModelArchive(location: string, isFolder: boolean): Promise<boolean> {
  if (!isFolder) return true;
  const has = (name: string) => isThere(path.join(location, name));
  return (await has(manifestName)) || ((await has("model-config.yaml")) && !(await has("config.json")));
}

/**
 * What runs a model: the name of a shipped handler, or of the module in its files. The module is not loaded: that would run it, and who looks
 * into an archive may not trust it yet.
 *
 * @throws ShardspeedError ERR_HANDLER where there is none, or one that this Node does not load.
 */
export async function nameHandler(source: HandlerSource): Promise<string> {
  const found = await findHandler(source);
  if ("shipped" in found) return found.shipped.name;
  const { file } = splitSpec(found.module);
  if (await isThere(path.resolve(source.modelDir, file))) {
    const reason = whyNotLoadable(file);
    if (reason === undefined) return found.module;
    throw new ShardspeedError("ERR_HANDLER", `The model's handler is ${found.module}, and ${reason}.`);
  }
  throw new ShardspeedError("ERR_HANDLER", `The model's handler is ${found.module}, but there is no ${file} in it.`);
}

/** The folder that an archive was unpacked to is gone when its name is read: messages name the archive in its place. */
export function nameArchive(text: string, { folder, temporary }: ModelArchive, location: string): string {
  return temporary ? text.replaceAll(`${folder}${path.sep}`, `${location}: `) : text;
}

/** The same for an error. */
export function withoutTemporaryFolder(error: unknown, archive: ModelArchive, location: string): unknown {
  if (!ShardspeedError.isInstance(error)) return error;
  const message = nameArchive(error.message, archive, location);
  return message === error.message ? error : new ShardspeedError(error.code, message, { cause: error });
}
