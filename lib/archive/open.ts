import type { Stats } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { isError } from "../base/errors.js";
import { kindOfFile, systemCode } from "../base/system_errors.js";
import { openInput } from "./content.js";
import { archiveError, checkAborted, toArchiveError } from "./errors.js";
import { type ArchiveManifest, manifestName, maxManifestBytes, parseManifest } from "./manifest.js";
import { type OpenArchiveOptions, type ResolvedOpenOptions, readLocation, resolveOpenOptions } from "./open_options.js";
import { unpackTar } from "./unpack_tar.js";
import { unpackZip } from "./unpack_zip.js";
import { UnpackedFolder } from "./unpacked_folder.js";

/** An opened model archive. */
export interface ModelArchive {
  /** Folder of its files. */
  readonly folder: string;
  /** The manifest; without one, the values that TorchServe assumes. */
  readonly manifest: ArchiveManifest;
  /** Name that the model is served under: of the manifest, else of the file or folder. */
  readonly modelName: string;
  /** Version of the model: of the manifest, else "1.0". */
  readonly version: string;
  /** A file in the folder, `module:name`, or the name of a handler that needs no file. */
  readonly handler: string;
  /** Path of the `model-config.yaml`, if the manifest names one. */
  readonly configFile: string | undefined;
  /** Whether the folder is temporary. */
  readonly temporary: boolean;
  /** Removes a temporary folder. May be called again. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** How the name of a folder begins that an archive is unpacked to. */
const temporaryPrefix = "shardspeed-archive-";

/**
 * Opens a model archive: a `.mar` (zip), a `.tar.gz`, as torch-model-archiver and {@link packArchive} make them, or a
 * folder. The format is detected from the contents. A folder is used in place; other formats are unpacked to a new
 * temporary folder that only this user can read, and that `close()` removes.
 *
 * Nothing is written outside of that folder, and links and devices are refused. Without a manifest, the name of the model is
 * that of the file, the version "1.0", the handler "default_service_handler", as in TorchServe (ModelArchive.java).
 *
 * @throws ShardspeedError ERR_ARCHIVE if the archive is missing, damaged, unsafe, above a limit, or has an invalid manifest;
 * ERR_INVALID_ARGUMENT, ERR_ABORTED. No unpacked file remains.
 */
export async function openArchive(location: string, options?: OpenArchiveOptions): Promise<ModelArchive> {
  return openArchiveAs(temporaryPrefix, location, options);
}

/** openArchive() with a beginning of the temporary folder's name. */
export async function openArchiveAs(
  prefix: string,
  location: string,
  options?: OpenArchiveOptions,
): Promise<ModelArchive> {
  const resolved = resolveOpenOptions(options);
  const source = path.resolve(readLocation(location));
  checkAborted(resolved.signal);
  const stats = await stat(source).catch((error: unknown) => {
    throw toArchiveError(source, error);
  });
  if (stats.isDirectory()) return describeArchive(source, source, undefined);
  const temporary = await makeTemporaryFolder(prefix);
  try {
    const folder = await unpack(source, stats, temporary, resolved);
    return await describeArchive(source, folder, temporary);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    resolved.progress.rethrow();
    throw asUnpackError(source, error, resolved.signal);
  }
}

/**
 * An archive that another process has unpacked, and removes.
 *
 * @param location The archive, which messages name.
 * @param folder The `folder` of that process's ModelArchive.
 * @throws ShardspeedError ERR_ARCHIVE where it is not whole any more.
 */
export async function openUnpacked(location: string, folder: string): Promise<ModelArchive> {
  const archive = await describeArchive(path.resolve(readLocation(location)), folder, undefined);
  return { ...archive, temporary: true };
}

async function makeTemporaryFolder(start: string): Promise<string> {
  const prefix = path.join(tmpdir(), start);
  return mkdtemp(prefix).catch((error: unknown) => {
    throw toArchiveError(prefix, error);
  });
}

/** Gives the folder in `target` that the archive's files lie in. */
async function unpack(source: string, stats: Stats, target: string, options: ResolvedOpenOptions): Promise<string> {
  if (!stats.isFile()) throw archiveError(source, `is ${kindOfFile(stats)}, expected a model archive`);
  const start = await readStart(source, 4);
  if (start.length === 0) throw archiveError(source, "is empty, expected a model archive");
  let root = target;
  const folder = new UnpackedFolder(source, target, options.limits, options.signal);
  if (start.equals(Buffer.from("PK\x03\x04")) || start.equals(Buffer.from("PK\x05\x06"))) {
    await unpackZip(source, folder, options);
  } else if (start[0] === 0x1f && start[1] === 0x8b) {
    await unpackTar(source, folder, options);
    root = await findRoot(source, target);
  } else {
    throw archiveError(source, "is no model archive: expected a zip archive (.mar), a .tar.gz or a folder");
  }
  if (folder.files === 0) throw archiveError(source, "holds no files, expected a model archive");
  return root;
}

/** The first bytes of a file: at most `most`. */
async function readStart(file: string, most: number): Promise<Buffer> {
  const { handle } = await openInput(file);
  try {
    const buffer = Buffer.alloc(most);
    let length = 0;
    for (let read = -1; read !== 0 && length < most; length += read) {
      read = (await handle.read(buffer, length, most - length)).bytesRead;
    }
    return buffer.subarray(0, length);
  } catch (error) {
    throw toArchiveError(file, error);
  } finally {
    await handle.close();
  }
}

/** What the libraries and the readers throw says how the archive is damaged. */
function asUnpackError(source: string, error: unknown, signal: AbortSignal | undefined): Error {
  checkAborted(signal);
  if (!isError(error) || "syscall" in error) return toArchiveError(source, error, signal);
  const ours = toArchiveError(source, error, signal);
  return ours === error ? ours : archiveError(source, `is damaged: ${error.message.slice(0, 300)}`, error);
}

async function describeArchive(source: string, folder: string, temporary: string | undefined): Promise<ModelArchive> {
  const manifest = (await readManifest(folder, source)) ?? assumedManifest(source);
  const { modelName, modelVersion, handler, configFile } = manifest.model;
  const yamlFile = configFile === undefined ? undefined : path.join(folder, configFile);
  if (yamlFile !== undefined && !(await isFile(yamlFile))) {
    const name = JSON.stringify(configFile);
    throw archiveError(source, `its manifest names the configFile ${name}, and there is no file of that name in it`);
  }
  let removed: Promise<void> | undefined;
  const close = async () => {
    if (temporary === undefined) return;
    removed ??= rm(temporary, { recursive: true, force: true }).catch((error: unknown) => {
      removed = undefined;
      throw toArchiveError(temporary, error);
    });
    await removed;
  };
  return {
    folder,
    manifest,
    modelName,
    version: modelVersion,
    handler: handler ?? defaultHandler,
    configFile: yamlFile,
    temporary: temporary !== undefined,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** In a `.tar.gz` all is in one folder, whose name does not matter. */
async function findRoot(source: string, unpacked: string): Promise<string> {
  const entries = await readdir(unpacked, { withFileTypes: true });
  const manifestFolder = path.dirname(manifestName);
  if (entries.some(({ name }) => name === manifestFolder)) return unpacked;
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(unpacked, name));
  const withManifest: string[] = [];
  for (const folder of folders) if (await isFile(path.join(folder, manifestName))) withManifest.push(folder);
  if (withManifest.length > 1) {
    const names = withManifest.map((folder) => path.basename(folder)).sort();
    throw archiveError(source, `holds more than one model archive, expected one: ${JSON.stringify(names.slice(0, 5))}`);
  }
  if (withManifest.length === 1) return withManifest[0] as string;
  return entries.length === 1 && folders.length === 1 ? (folders[0] as string) : unpacked;
}

async function isFile(file: string): Promise<boolean> {
  return stat(file).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

async function readManifest(folder: string, source: string): Promise<ArchiveManifest | undefined> {
  const file = path.join(folder, manifestName);
  // The temporary folder says nothing to a reader of the message.
  const shown = folder === source ? file : `${source}: ${manifestName}`;
  const stats = await stat(file).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw toArchiveError(shown, error);
  });
  if (stats === undefined) return undefined;
  if (!stats.isFile()) throw archiveError(shown, `is ${kindOfFile(stats)}, expected a regular file`);
  const bytes = await readStart(file, maxManifestBytes + 1);
  if (bytes.length > maxManifestBytes) {
    throw archiveError(shown, `is larger than ${maxManifestBytes} bytes, too large for a manifest`);
  }
  return parseManifest(shown, bytes);
}

const defaultHandler = "default_service_handler";

function assumedManifest(source: string): ArchiveManifest {
  const name = path.basename(source).replace(/\.(mar|tar\.gz|tgz|zip)$/i, "");
  // What no name of a model has would be trouble in URLs and paths.
  const modelName = name.replace(/[^A-Za-z0-9_\-.]/g, "_").replace(/^[^A-Za-z0-9]+/, "") || "model";
  return { runtime: "python", model: { modelName, handler: defaultHandler, modelVersion: "1.0" } };
}
