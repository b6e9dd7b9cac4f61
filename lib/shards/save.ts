import { randomBytes } from "node:crypto";
import { mkdir, realpath, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { abortedError, throwIfAborted } from "../base/abort.js";
import { nativeError, type ShardspeedError } from "../base/errors.js";
import { replaceFile } from "../base/replace_file.js";
import { checkpointError } from "../checkpoint/errors.js";
import { bytesOf } from "../models/weights/tiles.js";
import type { EnginePlan, NativeBinding, WritePlan } from "../native/binding.js";
import type { ShardLayout, ShardTensor } from "./layout.js";

/** DeepSpeed's name of the index that it writes beside the shards. */
export const shardIndexName = "ds_inference_config.json";

export interface SaveShardsOptions {
  /** Made where it is not there. */
  folder: string;
  layout: ShardLayout;
  /** The files that the views of the layout refer to. */
  files: WritePlan["files"];
  dtype: EnginePlan["dtype"];
  signal?: AbortSignal | undefined;
  onProgress?: ((savedBytes: number, totalBytes: number) => void) | undefined;
}

const wholeName = "non-tp.safetensors";
const rankName = (rank: number) => `tp_${String(rank).padStart(2, "0")}_00.safetensors`;

/**
 * Writes the files of a pre-sharded checkpoint: those of some ranks, and the one with what no rank has alone. Each appears when it is whole.
 *
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_ABORTED; nothing half-written is left.
 */
export async function saveShards(
  binding: NativeBinding,
  { folder, layout, files, dtype, signal, onProgress }: SaveShardsOptions,
  ranks: readonly number[],
  withWhole: boolean,
): Promise<void> {
  await makeFolders(folder).catch((error: Error) => {
    throw checkpointError({ file: folder }, `cannot be made: ${error.message}`, error);
  });
  await refuseOwnSources(folder, layout, files);
  // From the first file that is replaced on, an index that is there would name files of two checkpoints.
  await rm(path.join(folder, shardIndexName), { force: true }).catch((error: Error) => {
    throw checkpointError({ file: path.join(folder, shardIndexName) }, `cannot be replaced: ${error.message}`, error);
  });
  const jobs = [
    ...(withWhole ? [{ name: wholeName, tensors: layout.whole }] : []),
    ...ranks.map((rank) => ({ name: rankName(rank), tensors: layout.ranks[rank] ?? [] })),
  ];
  const totalBytes = jobs.reduce((sum, { tensors }) => sum + dataBytes(tensors, dtype), 0);
  let saved = 0;
  for (const { name, tensors } of jobs) {
    const report = onProgress && ((bytes: number) => onProgress(saved + bytes, totalBytes));
    await writeFileOf(binding, path.join(folder, name), { tensors, files, dtype }, signal, report);
    saved += dataBytes(tensors, dtype);
  }
}

/** A file that is replaced while it is read from would be lost, whatever comes of the new one. */
async function refuseOwnSources(folder: string, layout: ShardLayout, files: WritePlan["files"]): Promise<void> {
  const real = (name: string) => realpath(name).catch(() => path.resolve(name));
  const sources = await Promise.all(files.map((file) => real(file.path)));
  for (const name of [wholeName, ...layout.ranks.map((_, rank) => rankName(rank))]) {
    const file = path.join(folder, name);
    if (!sources.includes(await real(file))) continue;
    throw checkpointError(
      { file },
      "is where the weights are read from, so it cannot be written. Name another folder as save_mp_checkpoint_path, or leave it out",
    );
  }
}

/** Not by mkdir's `recursive`, which tries for ever where a folder is there but nothing can be made in it, as in /proc. */
async function makeFolders(folder: string): Promise<void> {
  const isThere = async (name: string) => (await stat(name).catch(() => undefined))?.isDirectory() === true;
  const parent = path.dirname(folder);
  if (await isThere(folder)) return;
  if (parent !== folder && !(await isThere(parent))) await makeFolders(parent);
  await mkdir(folder).catch(async (error: unknown) => {
    // Another rank may have made it in the meantime.
    if (!(await isThere(folder))) throw error;
  });
}

/** Writes the index, which makes the shards a checkpoint: last, when all of them are there. Source: replace_module.py, save_mp_checkpoint_path. */
export async function saveShardIndex({ folder, layout, dtype }: SaveShardsOptions): Promise<void> {
  const index = {
    type: "ds_model",
    base_dir: path.resolve(folder),
    checkpoints: { non_tp: [wholeName], tp: layout.ranks.map((_, rank) => rankName(rank)) },
    version: 1,
    parallelization: "tp",
    tp_size: layout.ranks.length,
    dtype: `torch.${dtype}`,
  };
  const target = path.join(folder, shardIndexName);
  await replaceFile(target, `${JSON.stringify(index, null, 2)}\n`).catch((error: Error) => {
    throw checkpointError({ file: target }, `cannot be written: ${error.message}`, error);
  });
}

async function writeFileOf(
  binding: NativeBinding,
  target: string,
  content: { tensors: readonly ShardTensor[]; files: WritePlan["files"]; dtype: EnginePlan["dtype"] },
  signal: AbortSignal | undefined,
  report: ((bytes: number) => void) | undefined,
): Promise<void> {
  throwIfAborted(signal);
  const temporary = `${target}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  const job = binding.writeTensors(toWritePlan(temporary, content));
  const cancel = () => job.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  let failure: { error: unknown } | undefined;
  const timer = setInterval(() => {
    try {
      report?.(job.writtenBytes());
    } catch (error) {
      failure ??= { error }; // the caller's own: it ends the call that it belongs to
      job.cancel();
    }
  }, 100);
  try {
    await job.done.catch((error) => {
      if (signal?.aborted) throw abortedError(signal);
      throw failure === undefined ? nativeError(error as ShardspeedError, error) : failure.error;
    });
    if (failure) throw failure.error;
    report?.(job.writtenBytes());
    await rename(temporary, target).catch((error: Error) => {
      throw checkpointError({ file: target }, `cannot be written: ${error.message}`, error);
    });
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener("abort", cancel);
  }
}

function dataBytes(tensors: readonly ShardTensor[], dtype: EnginePlan["dtype"]): number {
  return tensors.reduce((sum, { shape }) => sum + elements(shape) * bytesOf(dtype), 0);
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

const storedNames = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const;

function toWritePlan(
  file: string,
  { tensors, files, dtype }: { tensors: readonly ShardTensor[]; files: WritePlan["files"]; dtype: EnginePlan["dtype"] },
): WritePlan {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const { name, shape } of tensors) {
    const bytes = elements(shape) * bytesOf(dtype);
    header[name] = { dtype: storedNames[dtype], shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  return {
    path: file,
    header: encodeHeader(header),
    files,
    tensors: tensors.map(({ shape, views }) => ({
      rows: shape.slice(0, -1).reduce((product, size) => product * size, 1),
      cols: shape.at(-1) as number,
      dtype,
      views,
    })),
  };
}

/** The length of the JSON in eight bytes, then the JSON, filled up with spaces so that the data is aligned. */
function encodeHeader(header: object): Uint8Array {
  const json = Buffer.from(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = Buffer.alloc(8 + length, " ");
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  return bytes;
}
