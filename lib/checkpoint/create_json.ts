import type { Dirent } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { invalidArgument } from "../base/errors.js";
import { type Logger, readLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import { pythonJson } from "../base/python_json.js";
import { replaceFile } from "../base/replace_file.js";
import { checkpointError, listed } from "./errors.js";
import { namePattern } from "./name_pattern.js";
import { isWeightName, statPath, systemError } from "./weight_file.js";

/** A DeepSpeed checkpoint index. */
export interface CheckpointsJson {
  /** DeepSpeed's name of this form. */
  type: "ds_model";
  /** Paths of the weight files, sorted. */
  checkpoints: string[];
  /** Written as `1.0`, like in Python. */
  version: number;
}

/** Which files to list, and how. All options are optional; the defaults are those of TorchServe. */
export interface CheckpointsJsonOptions {
  /** Patterns of file names (`*`, `?`, `[ab]`). Default `*.[bp][it][n]`, which is .bin, .btn, .pin and .ptn. */
  patterns?: readonly string[];
  /** List `*.safetensors` too. Default false. */
  safetensors?: boolean;
  /** Leave out files whose names say that they hold no weights: optimizer.bin, training_args.bin, scheduler.bin, rng_state*, hidden files and folders, ... Default false. */
  weightsOnly?: boolean;
  /** Write paths relative to modelPath, so that the index can be moved with the weights. Pass modelPath as baseDir when you use it. Default false. */
  relative?: boolean;
  /** Receives messages. Default: none does. */
  logger?: Logger;
}

/** What `Path.rglob` gets in `create_checkpoints_json`. */
const originalPattern = "*.[bp][it][n]";

/**
 * Writes the DeepSpeed checkpoint index of a folder: `{"type": "ds_model", "checkpoints": [...], "version": 1.0}`. It
 * lists the same files and paths as `create_checkpoints_json` of TorchServe (ts/handler_utils/distributed/deepspeed.py): subfolders
 * and hidden files are included, links to files are followed, links to folders are not. Unlike there, the list is sorted, the file is written
 * atomically, and an empty list is an error.
 *
 * @param modelPath Folder of the weights. Paths in the index begin with it as given: a relative path stays relative.
 * @param file The index to write or replace. Its folder must exist.
 * @returns The content of the index.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT; ERR_CHECKPOINT if modelPath is not a folder or holds no such files, or the index cannot be
 * written.
 */
export async function createCheckpointsJson(
  modelPath: string,
  file: string,
  options?: CheckpointsJsonOptions,
): Promise<CheckpointsJson> {
  checkPath("file", file);
  const { logger } = readOptions(options);
  const json = await listCheckpoints(modelPath, options);
  await requireFolderOf(file);
  logger.info(`Creating deepspeed checkpoint file ${file}`);
  await replaceFile(file, formatCheckpointsJson(json)).catch((error: unknown) => {
    throw checkpointError({ file }, `cannot be written: ${(error as Error).message}`, error);
  });
  return json;
}

/** What createCheckpointsJson() would write. @throws As it does. */
export async function listCheckpoints(modelPath: string, options?: CheckpointsJsonOptions): Promise<CheckpointsJson> {
  checkPath("modelPath", modelPath);
  const { patterns, weightsOnly, relative } = readOptions(options);
  const tests = patterns.map(namePattern);
  const found: string[] = [];
  await walk(modelPath, "", found, {
    enters: (name) => !weightsOnly || !name.startsWith("."),
    takes: (name) => tests.some((test) => test(name)) && (!weightsOnly || isWeightName(name)),
  });
  if (found.length === 0) {
    throw checkpointError(
      { file: modelPath },
      `holds no checkpoint files, expected ${listed(patterns)} in it or below${weightsOnly ? ", optimizer states and the like left out" : ""}. ` +
        "Name other files by patterns, or safetensors",
    );
  }
  const prefix = relative ? "" : pathPrefix(modelPath);
  return { type: "ds_model", checkpoints: found.map((name) => prefix + name).sort(), version: 1 };
}

/** The text of an index, as `json.dump` writes it: Python reads the version as a float again. */
export function formatCheckpointsJson({ type, checkpoints }: CheckpointsJson): string {
  return `{"type": "${type}", "checkpoints": ${pythonJson(checkpoints)}, "version": 1.0}`;
}

function checkPath(name: string, value: unknown): void {
  if (typeof value !== "string" || value === "") throw invalidArgument(name, "a path", value);
}

function readOptions(options: unknown) {
  const names = [
    "patterns",
    "safetensors",
    "weightsOnly",
    "relative",
    "logger",
  ] satisfies (keyof CheckpointsJsonOptions)[];
  const reader = new OptionReader("createCheckpointsJson option", options, names);
  const given = reader.get("patterns");
  if (
    given !== undefined &&
    !(Array.isArray(given) && given.length > 0 && given.every((one) => typeof one === "string"))
  ) {
    throw invalidArgument("patterns", "an array of patterns, at least one", given);
  }
  const patterns = [...((given as string[] | undefined) ?? [originalPattern])];
  if (reader.boolean("safetensors", false)) patterns.push("*.safetensors");
  return {
    patterns,
    weightsOnly: reader.boolean("weightsOnly", false),
    relative: reader.boolean("relative", false),
    logger: readLogger(reader.get("logger")),
  };
}

interface Selection {
  /** By a folder's name. */
  enters(name: string): boolean;
  /** By a file's name. */
  takes(name: string): boolean;
}

/** Collects the files below a folder, by their paths within it. */
async function walk(root: string, below: string, found: string[], selection: Selection): Promise<void> {
  const folder = below === "" ? root : path.join(root, below);
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw systemError(folder, error);
  });
  for (const entry of entries) {
    const name = below === "" ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) {
      if (selection.enters(entry.name)) await walk(root, name, found, selection);
    } else if (selection.takes(entry.name) && (await isFile(entry, path.join(root, name)))) found.push(name);
  }
}

async function isFile(entry: Dirent, file: string): Promise<boolean> {
  if (!entry.isSymbolicLink()) return entry.isFile();
  return stat(file).then(
    (target) => target.isFile(),
    () => false, // it leads nowhere
  );
}

/** As pathlib writes a folder before a name: no `.` and no empty parts, and `..` kept, since before it may be a link. */
function pathPrefix(folder: string): string {
  const parts = folder.split("/").filter((part) => part !== "" && part !== ".");
  const joined = parts.map((part) => `${part}/`).join("");
  return folder.startsWith("/") ? `/${joined}` : joined;
}

async function requireFolderOf(file: string): Promise<void> {
  const folder = path.dirname(file);
  if (!(await statPath(folder)).isDirectory()) {
    throw checkpointError({ file: folder }, `is no folder, expected the one for ${path.basename(file)}`);
  }
}
