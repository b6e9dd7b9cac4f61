import { lstat, stat } from "node:fs/promises";
import path from "node:path";
import { invalidArgument, type ShardspeedError } from "../base/errors.js";
import { systemCode } from "../base/system_errors.js";
import { type Entry, InputReader } from "./content.js";
import { archiveError, checkAborted, plainArchiveError, toArchiveError } from "./errors.js";
import { collectInputs } from "./inputs.js";
import { isModelName, manifestName, modelNamePattern, writeManifest } from "./manifest.js";
import { NewFile } from "./new_file.js";
import { makeFolder } from "./new_folder.js";
import { type ArchiveFormat, type PackOptions, type ResolvedPackOptions, resolvePackOptions } from "./pack_options.js";
import { ProgressReporter } from "./progress.js";
import { writeTar } from "./tar_writer.js";
import { writeZip } from "./zip_writer.js";

/** Result of packArchive(). */
export interface PackedArchive {
  /** Path of the archive, or for "no-archive" of the folder. */
  path: string;
  /** Names of its files in the order of the archive: sorted, the manifest last. */
  files: string[];
  /** Size of the archive, or total size of the files of a folder. */
  bytes: number;
}

const suffixes: Record<ArchiveFormat, string> = {
  default: ".mar",
  "zip-store": ".mar",
  tgz: ".tar.gz",
  "no-archive": "",
};

/**
 * Makes a model archive in the layout of torch-model-archiver (model_packaging_utils.py). The same inputs
 * give the same bytes. Files are streamed, so they may be larger than memory. The archive gets its name when it is
 * complete.
 *
 * @throws ShardspeedError ERR_ARCHIVE if an input is missing, two inputs have the same name, or the archive exists already or
 * cannot be written; ERR_INVALID_ARGUMENT, ERR_ABORTED. No partial file remains.
 */
export async function packArchive(options: PackOptions): Promise<PackedArchive> {
  const resolved = resolvePackOptions(options);
  const date = readDate(process.env.SOURCE_DATE_EPOCH);
  checkAborted(resolved.signal);
  checkModelName(resolved.modelName);
  await checkExportPath(resolved.exportPath);
  const target = path.join(resolved.exportPath, `${resolved.modelName}${suffixes[resolved.archiveFormat]}`);
  const replace = await checkTarget(target, resolved);

  const inputs = await collectInputs(resolved, target);
  const manifest = Buffer.from(writeManifest(resolved, date));
  const progress = new ProgressReporter(resolved.onProgress);
  const reader = new InputReader(
    inputs.reduce((sum, { bytes }) => sum + bytes, 0),
    progress,
    resolved.signal,
  );
  const entries: Entry[] = [
    ...inputs.map((input) => reader.toEntry(input)),
    { name: manifestName, bytes: manifest.length, content: () => once(manifest) },
  ];
  const existing = { replace, existsError: () => existsError(target) };
  await write(target, existing, entries, resolved, date).catch((error: unknown) => {
    progress.rethrow();
    throw toArchiveError(target, error, resolved.signal);
  });
  const bytes = resolved.archiveFormat === "no-archive" ? reader.totalBytes + manifest.length : await sizeOf(target);
  return { path: target, files: entries.map(({ name }) => name), bytes };
}

async function sizeOf(file: string): Promise<number> {
  const stats = await stat(file).catch((error: unknown) => {
    throw toArchiveError(file, error);
  });
  return stats.size;
}

async function write(
  target: string,
  existing: { replace: boolean; existsError: () => Error },
  entries: readonly Entry[],
  { archiveFormat, modelName, signal }: ResolvedPackOptions,
  date: Date,
): Promise<void> {
  if (archiveFormat === "no-archive") {
    await makeFolder(target, existing, entries);
    return;
  }
  await NewFile.make(target, existing, (file) =>
    archiveFormat === "tgz"
      ? writeTar(file, entries, { folder: modelName, date, signal })
      : writeZip(file, entries, { store: archiveFormat === "zip-store", date, signal }),
  );
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

/** 1980 is the first year that zip archives know; with it an archive depends on nothing but its inputs. */
function readDate(epoch: string | undefined): Date {
  if (epoch === undefined || epoch === "") return new Date(Date.UTC(1980, 0, 1));
  const date = new Date(Number(epoch) * 1000);
  if (!/^\d+$/.test(epoch) || !(date.getTime() < Date.UTC(2108, 0, 1))) {
    throw invalidArgument("SOURCE_DATE_EPOCH", "seconds since 1970, before the year 2108", epoch);
  }
  return date;
}

function checkModelName(name: string): void {
  if (isModelName(name)) return;
  throw plainArchiveError(
    `Model name contains special characters.\nThe allowed regular expression filter for model name is: ${modelNamePattern}`,
  );
}

async function checkExportPath(exportPath: string): Promise<void> {
  const stats = await stat(exportPath).catch(() => undefined);
  if (stats?.isDirectory()) return;
  throw plainArchiveError(
    `Given export-path ${exportPath} is not a directory. Point to a valid export-path directory.`,
  );
}

/** Whether there is something to be replaced. */
async function checkTarget(target: string, { force, archiveFormat, logger }: ResolvedPackOptions): Promise<boolean> {
  const stats = await lstat(target).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw toArchiveError(target, error);
  });
  if (stats === undefined) return false;
  if (!force) throw existsError(target);
  if (archiveFormat !== "no-archive" && stats.isDirectory()) {
    throw archiveError(target, "is not replaced: it is a folder, and the archive is a file");
  }
  logger.warn(`Overwriting ${target} ...`);
  return true;
}

function existsError(target: string): ShardspeedError {
  return plainArchiveError(
    `${target} already exists.\nPlease specify --force/-f option to overwrite the model archive output file.\nSee -h/--help for more details.`,
  );
}
