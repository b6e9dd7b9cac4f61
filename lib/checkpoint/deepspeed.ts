import { stat } from "node:fs/promises";
import path from "node:path";
import { type Logger, silentLogger } from "../base/logger.js";
import { checkMegatronVersion, type DeepSpeedCheckpoint, readDeepSpeedJson } from "./deepspeed_json.js";
import { checkpointError, listed, quote } from "./errors.js";
import { openCheckpoint } from "./index.js";
import { readWeights } from "./read_weights.js";
import type { Checkpoint, TensorEntry } from "./types.js";
import { isWeightName, WeightFile } from "./weight_file.js";

export interface OpenDeepSpeedOptions {
  /** Roots to look for the files in, most important first. Beside them: the JSON's own base_dir, its folder, the working directory. */
  roots?: readonly (string | undefined)[];
  logger?: Logger;
  signal?: AbortSignal;
}

/** An opened checkpoint, and in which names and layout its tensors are. */
export interface OpenedDeepSpeed {
  checkpoint: Checkpoint;
  /** Set where the tensors are Megatron-LM's: the layout of its fused queries, keys and values. */
  megatronVersion: number | undefined;
}

/**
 * Opens the files that a DeepSpeed checkpoint JSON names. Pieces of tensors stay apart: the model's description says how they fit together.
 *
 * @param source The JSON: an object or a path.
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_ABORTED
 */
export async function openDeepSpeedCheckpoint(
  source: object | string,
  options: OpenDeepSpeedOptions = {},
): Promise<OpenedDeepSpeed> {
  const { logger = silentLogger, signal } = options;
  const json = await readDeepSpeedJson(source, { logger, ...(signal ? { signal } : {}) });
  const roots = [json.baseDir, ...(options.roots ?? []), json.folder, "."].filter((root) => root !== undefined);
  const find = (name: string) => findFile(name, roots, json.where);
  const whole = await inTurn(json.whole.filter(keepsWeights(json, logger)), find);
  const shards = await inTurn(json.shards, (names) => inTurn(names, find));
  const checkpoint: Checkpoint = { path: json.where, files: [], tensors: new Map() };
  const numbers: Map<string, number>[] = [];
  const read = async (file: string) => readFile(checkpoint, file, json, numbers, logger, signal);
  for (const file of whole) {
    const opened = (await stat(file)).isDirectory() ? await openFolder(checkpoint, file, options) : await read(file);
    for (const entry of opened) addWhole(checkpoint, entry);
  }
  await addShards(checkpoint, shards, read);
  if (checkpoint.tensors.size === 0) {
    throw checkpointError({ file: json.where }, `names files without tensors: ${listed(json.whole)}`);
  }
  return { checkpoint, megatronVersion: json.type === "Megatron" ? chooseVersion(json, numbers) : undefined };
}

/** One after the other, so that the first that fails is the one that is told. */
async function inTurn<From, To>(items: readonly From[], make: (item: From) => Promise<To>): Promise<To[]> {
  const made: To[] = [];
  for (const item of items) made.push(await make(item));
  return made;
}

/** TorchServe's index lists everything that ends like weights, so also what an optimizer has left there. */
function keepsWeights({ where }: DeepSpeedCheckpoint, logger: Logger): (name: string) => boolean {
  return (name) => {
    if (isWeightName(path.basename(name))) return true;
    logger.info(`${where}: left out ${quote(name)}, which by its name holds no weights`);
    return false;
  };
}

/**
 * The first place where a file is. Paths in an index may have been written from another folder than the one that they are read from, with the
 * root in them or without: what is there counts.
 */
async function findFile(name: string, roots: readonly string[], where: string): Promise<string> {
  const tried: string[] = [];
  const plain = path.isAbsolute(name) ? [name] : roots.map((root) => path.resolve(root, name));
  const repeating = path.isAbsolute(name) ? [] : roots.flatMap((root) => withoutRepetition(root, name));
  for (const file of [...plain, ...repeating]) {
    if (tried.includes(file)) continue;
    if ((await stat(file).catch(() => undefined)) !== undefined) return file;
    tried.push(file);
  }
  throw checkpointError({ file: where }, `names ${quote(name)}, which is not there. Looked for ${listed(tried)}`);
}

/** Where the name begins with the last folders of the root, as TorchServe's index does: the file in the root itself. */
function withoutRepetition(root: string, name: string): string[] {
  const parts = path.normalize(name).split(path.sep);
  const above = path.resolve(root).split(path.sep);
  const counts = parts.map((_, at) => at).filter((at) => at > 0);
  const isTail = (count: number) => parts.slice(0, count).every((part, at) => part === above.at(at - count));
  return counts.filter(isTail).map((count) => path.resolve(root, ...parts.slice(count)));
}

async function readFile(
  checkpoint: Checkpoint,
  file: string,
  json: DeepSpeedCheckpoint,
  numbers: Map<string, number>[],
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<TensorEntry[]> {
  const nested = json.type === "Megatron" ? { numbers: new Map<string, number>() } : undefined;
  if (nested) numbers.push(nested.numbers);
  return WeightFile.use(file, signal, async (opened) => {
    const number = checkpoint.files.push({ path: file, bytes: opened.bytes }) - 1;
    return (await readWeights(opened, logger, nested)).map((tensor) => ({ ...tensor, file: number }));
  });
}

/** `checkpoints` may name a folder, as DeepSpeed's tutorial does. */
async function openFolder(
  checkpoint: Checkpoint,
  folder: string,
  { logger, signal }: OpenDeepSpeedOptions,
): Promise<TensorEntry[]> {
  const opened = await openCheckpoint(folder, { ...(logger ? { logger } : {}), ...(signal ? { signal } : {}) });
  const first = checkpoint.files.length;
  checkpoint.files.push(...opened.files);
  return [...opened.tensors.values()].map((entry) => ({ ...entry, file: first + entry.file }));
}

function addWhole(checkpoint: Checkpoint, entry: TensorEntry): void {
  const other = checkpoint.tensors.get(entry.name);
  if (other !== undefined) throw twice(checkpoint, entry, other);
  checkpoint.tensors.set(entry.name, entry);
}

function twice(checkpoint: Checkpoint, entry: TensorEntry, other: TensorEntry) {
  const file = checkpoint.files[entry.file]?.path ?? checkpoint.path;
  const holder = checkpoint.files[other.file]?.path;
  return checkpointError({ file, tensor: entry.name }, `is in ${holder} too: it is not clear which one counts`);
}

async function addShards(
  checkpoint: Checkpoint,
  shards: readonly string[][],
  read: (file: string) => Promise<TensorEntry[]>,
): Promise<void> {
  if (shards.length === 0) return;
  const pieces = new Map<string, TensorEntry[]>();
  for (const [rank, files] of shards.entries()) {
    for (const file of files) {
      for (const entry of await read(file)) {
        const whole = checkpoint.tensors.get(entry.name);
        const own = pieces.get(entry.name) ?? [];
        const other = own[rank] ?? (own.length === 0 ? whole : undefined);
        if (other !== undefined) throw twice(checkpoint, entry, other);
        if (own.length < rank) throw lacking(checkpoint, entry.name, own.length);
        own.push(entry);
        pieces.set(entry.name, own);
        if (rank === 0) checkpoint.tensors.set(entry.name, entry);
      }
    }
  }
  for (const [name, own] of pieces) {
    // Some leave to rank 0 what no rank has alone, such as biases that are added once: it has to be whole then.
    if (own.length === 1) pieces.delete(name);
    else if (own.length < shards.length) throw lacking(checkpoint, name, own.length);
  }
  checkpoint.pieces = pieces;
}

function lacking(checkpoint: Checkpoint, tensor: string, rank: number) {
  return checkpointError(
    { file: checkpoint.path, tensor },
    `is not in the files of rank ${rank}, as it is in those of others: tp_size (or mp_size) says how many ranks wrote the files`,
  );
}

function chooseVersion(
  { where, version, shards }: DeepSpeedCheckpoint,
  numbers: readonly Map<string, number>[],
): number {
  const wrong = (message: string) => checkpointError({ file: where }, message);
  const size = numbers[0]?.get("mp_world_size");
  if (size !== undefined && size !== shards.length) {
    throw wrong(
      `names the files of ${shards.length} ranks, but the first of them says that ${size} wrote the checkpoint`,
    );
  }
  const chosen = version ?? numbers[0]?.get("checkpoint_version") ?? 0;
  checkMegatronVersion(chosen, wrong);
  return chosen;
}
