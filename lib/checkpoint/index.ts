import path from "node:path";
import { invalidArgument } from "../base/errors.js";
import { type Logger, silentLogger } from "../base/logger.js";
import { checkpointError, listed, quote } from "./errors.js";
import { chooseFiles } from "./folder.js";
import { type CheckpointIndex, readIndex } from "./index_json.js";
import { readWeights } from "./read_weights.js";
import type { Checkpoint } from "./types.js";
import { statPath, WeightFile } from "./weight_file.js";

export type { Checkpoint, CheckpointFile, StorageDtype, TensorEntry } from "./types.js";

export interface OpenCheckpointOptions {
  /** Gets warnings, such as tensors that an index does not know. Default: nobody does. */
  logger?: Logger;
  signal?: AbortSignal;
}

/**
 * Finds out which tensors a checkpoint has and where they lie: safetensors, and torch files as a zip archive or the
 * older stream, in one file or sharded. Reads headers only, runs nothing of a pickle, and leaves no file open.
 *
 * @param location a model folder, one weights file, or the index of a sharded checkpoint (`*.index.json`)
 * @returns tensors in the order of the files, and in each file in its order
 * @throws ERR_CHECKPOINT with file, tensor and reason; ERR_ABORTED
 */
export async function openCheckpoint(location: string, options: OpenCheckpointOptions = {}): Promise<Checkpoint> {
  if (typeof location !== "string" || location === "") {
    throw invalidArgument("the checkpoint", "a path to a model folder or weights file", location);
  }
  const { logger = silentLogger, signal } = options;
  const { folder, files, index } = await findFiles(path.resolve(location), logger, signal);
  const checkpoint: Checkpoint = { path: path.resolve(location), files: [], tensors: new Map() };
  for (const name of files) await addFile(checkpoint, path.join(folder, name), logger, signal);
  if (index !== undefined) compareWithIndex(checkpoint, folder, index, logger);
  if (checkpoint.tensors.size === 0) {
    throw checkpointError({ file: path.resolve(location) }, `holds no tensors in ${listed(files)}`);
  }
  return checkpoint;
}

interface FoundFiles {
  folder: string;
  /** Names, relative to the folder. */
  files: string[];
  index?: CheckpointIndex;
}

async function findFiles(location: string, logger: Logger, signal: AbortSignal | undefined): Promise<FoundFiles> {
  if ((await statPath(location)).isDirectory()) {
    const choice = await chooseFiles(location, logger);
    if ("files" in choice) return { folder: location, files: choice.files };
    return await filesOfIndex(location, choice.index, signal);
  }
  const folder = path.dirname(location);
  const name = path.basename(location);
  return name.endsWith(".json") ? await filesOfIndex(folder, name, signal) : { folder, files: [name] };
}

async function filesOfIndex(folder: string, name: string, signal: AbortSignal | undefined): Promise<FoundFiles> {
  const index = await readIndex(path.join(folder, name), signal);
  const missing: string[] = [];
  for (const file of index.files) {
    await statPath(path.join(folder, file)).catch(() => missing.push(file));
  }
  if (missing.length > 0) {
    throw checkpointError(
      { file: index.path },
      `names ${missing.length} of ${index.files.length} files that are missing or cannot be reached: ${listed(missing)}`,
    );
  }
  return { folder, files: index.files, index };
}

async function addFile(
  checkpoint: Checkpoint,
  file: string,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<void> {
  const number = checkpoint.files.length;
  await WeightFile.use(file, signal, async (opened) => {
    checkpoint.files.push({ path: file, bytes: opened.bytes });
    for (const tensor of await readWeights(opened, logger)) {
      const other = checkpoint.tensors.get(tensor.name);
      if (other !== undefined) {
        const where = checkpoint.files[other.file]?.path;
        throw checkpointError({ file, tensor: tensor.name }, `is in ${where} too: it is not clear which one counts`);
      }
      checkpoint.tensors.set(tensor.name, { ...tensor, file: number });
    }
  });
}

/**
 * What the files hold beyond the index is used, as transformers does. What they lack of it is noted: tools that leave a tied head out of a
 * shard leave its name in the index, and whether a model needs a tensor is not known here.
 */
function compareWithIndex(checkpoint: Checkpoint, folder: string, index: CheckpointIndex, logger: Logger): void {
  const elsewhere: string[] = [];
  const promised = new Map<string, string>();
  for (const [tensor, file] of index.weightMap) {
    const entry = checkpoint.tensors.get(tensor);
    const holder = entry === undefined ? undefined : checkpoint.files[entry.file]?.path;
    if (holder === undefined) promised.set(tensor, file);
    else if (holder !== path.join(folder, file)) {
      elsewhere.push(`${quote(tensor)} (${file}, found in ${path.basename(holder)})`);
    }
  }
  if (elsewhere.length > 0) {
    throw checkpointError({ file: index.path }, `names tensors that are not in their files: ${listed(elsewhere)}`);
  }
  if (promised.size > 0) {
    checkpoint.promised = promised;
    logger.debug(`${index.path}: names ${listed([...promised.keys()].map(quote))}, which its files do not hold`);
  }
  const unlisted = [...checkpoint.tensors.keys()].filter((name) => !index.weightMap.has(name));
  if (unlisted.length > 0) {
    logger.warn(`${index.path}: does not name ${listed(unlisted.map(quote))}, which its files hold`);
  }
}
