import path from "node:path";
import { isObject } from "../base/objects.js";
import { checkpointError, listed, quote } from "./errors.js";
import { nameForeignContent } from "./read_weights.js";
import { kindOf, parseStrictJson, StrictJsonError } from "./strict_json.js";
import { WeightFile } from "./weight_file.js";

/** As for safetensors headers: an index has a name and a file for each tensor, and so is smaller. */
const kMaxIndexBytes = 100_000_000;

/** Which file each tensor of a sharded checkpoint lies in. */
export interface CheckpointIndex {
  path: string;
  /** Names of the files, sorted; relative to the folder of the index. */
  files: string[];
  /** Tensor to file name. */
  weightMap: Map<string, string>;
}

/**
 * Reads the index of a sharded checkpoint, as transformers writes it: {"metadata": ..., "weight_map": {tensor: file}}.
 *
 * @throws ERR_CHECKPOINT, also for a file name that leads out of the folder
 */
export async function readIndex(indexPath: string, signal: AbortSignal | undefined): Promise<CheckpointIndex> {
  const place = { file: indexPath };
  const bytes = await WeightFile.use(indexPath, signal, async (file) => {
    if (file.bytes > kMaxIndexBytes) {
      throw checkpointError(place, `is ${file.bytes} bytes long, the limit of an index is ${kMaxIndexBytes}`);
    }
    return await file.read(0, file.bytes);
  });
  const foreign = nameForeignContent(bytes.subarray(0, 512));
  if (foreign !== undefined) throw checkpointError(place, `is ${foreign}`);
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(readWeightMap(indexPath, bytes))) {
    if (typeof file !== "string") {
      throw checkpointError({ file: indexPath, tensor }, `has ${kindOf(file)} for its file, expected a name`);
    }
    weightMap.set(tensor, insideFolder(indexPath, tensor, file));
  }
  if (weightMap.size === 0) throw checkpointError(place, "has an empty weight_map: it names no tensors");
  return { path: indexPath, files: [...new Set(weightMap.values())].sort(), weightMap };
}

function readWeightMap(indexPath: string, bytes: Buffer): Record<string, unknown> {
  let index: Record<string, unknown>;
  try {
    index = parseStrictJson(bytes);
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw checkpointError({ file: indexPath }, error.message);
  }
  if (isObject(index.weight_map)) return index.weight_map;
  const found = Object.hasOwn(index, "weight_map")
    ? `a weight_map that is ${kindOf(index.weight_map)}`
    : `only ${listed(Object.keys(index).map(quote)) || "an empty object"}`;
  throw checkpointError({ file: indexPath }, `has ${found}, expected a weight_map of tensors and their files`);
}

function insideFolder(indexPath: string, tensor: string, file: string): string {
  const leaves = path.isAbsolute(file) || path.win32.isAbsolute(file) || file.split(/[\\/]/).includes("..");
  const normal = path.normalize(file);
  if (leaves || file.includes("\0") || normal === "." || normal.endsWith("/")) {
    throw checkpointError(
      { file: indexPath, tensor },
      `is said to be in ${quote(file)}, expected the name of a file inside of the index's folder`,
    );
  }
  return normal;
}
