import type { Logger } from "../base/logger.js";
import { dtypeBytes } from "./dtypes.js";
import { checkpointError, listed, quote } from "./errors.js";
import {
  isTensor,
  kindOfPickle,
  PickleDict,
  PickleList,
  type PickleStorage,
  type PickleTensor,
  PickleTuple,
  type PickleValue,
} from "./pickle_values.js";
import { countElements } from "./shapes.js";
import { isCount } from "./torch_globals.js";
import type { FileTensor } from "./weight_file.js";

/** Where a storage's bytes begin in the file. @throws ERR_CHECKPOINT where they are not there */
export type LocateStorage = (storage: PickleStorage, tensor: string) => Promise<number> | number;

/** Keys under which training scripts put the state dict of the model. */
const wrapperKeys = ["state_dict", "model", "module", "model_state_dict"];

/** Keys under which they put tensors that are no weights. */
const trainingKey = /optim|scheduler|scaler|rng|random|callbacks|loops|hyper_parameters|args|config/i;

/** Wrappers in wrappers, at most. */
const kMaxWrappers = 3;

/** Megatron-LM's files: the state dicts of modules inside of each other, beside numbers such as checkpoint_version. */
export interface NestedStateDict {
  /** Gets the numbers at the top of the file. */
  numbers: Map<string, number>;
}

/**
 * The tensors of an unpickled state dict, in its order.
 *
 * @param nested Expect dicts inside of dicts, which lend their names: "language_model.embedding.word_embeddings.weight".
 * @throws ERR_CHECKPOINT where it is none, or one of its tensors cannot be read
 */
export async function listStateDict(
  file: string,
  root: PickleValue,
  locate: LocateStorage,
  logger: Logger,
  nested?: NestedStateDict,
): Promise<FileTensor[]> {
  const tensors: FileTensor[] = [];
  const found = nested === undefined ? findStateDict(file, root, logger) : flattenStateDict(file, root, nested);
  for (const [name, tensor] of found) {
    tensors.push(await resolveTensor(file, name, tensor, locate));
  }
  return tensors;
}

function findStateDict(file: string, root: PickleValue, logger: Logger): Map<string, PickleTensor> {
  let dict = root;
  for (let depth = 0; ; depth++) {
    if (!(dict instanceof PickleDict)) {
      throw checkpointError({ file }, `holds ${kindOfPickle(dict)}, expected a state dict: names with tensors`);
    }
    const { tensors, nested, plain } = sortEntries(file, dict);
    if (tensors.size > 0) {
      if (nested.length > 0) throw nestedError(file, nested);
      if (plain.length > 0) logger.debug(`${file}: ignored values that are no tensors: ${listed(plain.map(quote))}`);
      return tensors;
    }
    const wrappers = nested.filter((key) => wrapperKeys.includes(key));
    const others = nested.filter((key) => !wrappers.includes(key) && !trainingKey.test(key));
    const [wrapper] = wrappers;
    if (wrapper === undefined || wrappers.length > 1 || others.length > 0 || depth === kMaxWrappers) {
      if (nested.length > 0) throw nestedError(file, nested);
      const found = plain.length > 0 ? `only plain values: ${listed(plain.map(quote))}` : "nothing";
      throw checkpointError({ file }, `holds no tensors, found ${found}`);
    }
    const left = nested.filter((key) => key !== wrapper);
    logger.debug(`${file}: took the weights from ${quote(wrapper)}`);
    if (left.length > 0) logger.info(`${file}: ignored what training left there: ${listed(left.map(quote))}`);
    dict = dict.entries.get(wrapper) as PickleValue;
  }
}

/** Modules in modules, at most. */
const kMaxModules = 16;

function flattenStateDict(file: string, root: PickleValue, { numbers }: NestedStateDict): Map<string, PickleTensor> {
  if (!(root instanceof PickleDict)) {
    throw checkpointError({ file }, `holds ${kindOfPickle(root)}, expected a dict of modules or of tensors`);
  }
  for (const [key, value] of root.entries) {
    if (typeof key === "string" && typeof value === "number") numbers.set(key, value);
  }
  const modules = ["module", "model"].filter((key) => root.entries.get(key) instanceof PickleDict);
  if (modules.length > 1) throw checkpointError({ file }, "has both a module and a model, expected one of them");
  const top = modules[0] === undefined ? root : (root.entries.get(modules[0]) as PickleDict);
  const tensors = new Map<string, PickleTensor>();
  const open: { dict: PickleDict; prefix: string; depth: number }[] = [{ dict: top, prefix: "", depth: 0 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { dict, prefix, depth } = next;
    if (depth > kMaxModules) throw checkpointError({ file }, `has modules more than ${kMaxModules} deep`);
    for (const [key, value] of dict.entries) {
      if (typeof key !== "string" || (depth === 0 && trainingKey.test(key))) continue;
      const name = prefix + key;
      if (value instanceof PickleDict) open.push({ dict: value, prefix: `${name}.`, depth: depth + 1 });
      if (!isTensor(value)) continue;
      if (tensors.has(name)) throw checkpointError({ file, tensor: name }, "is there twice, in modules of one name");
      tensors.set(name, value);
    }
  }
  if (tensors.size === 0) throw checkpointError({ file }, "holds no tensors");
  return tensors;
}

function nestedError(file: string, nested: readonly string[]) {
  return checkpointError(
    { file },
    `holds tensors inside of ${listed(nested.map(quote))}, and it is not clear which are the weights: ` +
      `expected a flat state dict, or one under ${wrapperKeys.map(quote).join(", ")}`,
  );
}

/** The entries of a dict: tensors, values with tensors somewhere inside, and other values. */
function sortEntries(file: string, dict: PickleDict) {
  const tensors = new Map<string, PickleTensor>();
  const nested: string[] = [];
  const plain: string[] = [];
  const containsTensor = tensorFinder(file);
  for (const [key, value] of dict.entries) {
    const name = typeof key === "string" ? key : kindOfPickle(key);
    if (isTensor(value)) {
      if (typeof key !== "string") {
        throw checkpointError({ file }, `holds a tensor under ${kindOfPickle(key)}, expected names`);
      }
      tensors.set(key, value);
    } else if (containsTensor(value)) nested.push(name);
    else plain.push(name);
  }
  return { tensors, nested, plain };
}

/** Looks into so many values, at most: a pickle may hold the same large value under any number of names. */
const kMaxVisits = 10_000_000;

/** Tells whether a tensor is anywhere inside of a value. Values may be deep and hold themselves: so no recursion. */
function tensorFinder(file: string): (root: PickleValue) => boolean {
  const withoutTensors = new Set<PickleValue>();
  let visits = 0;
  return (root) => {
    const seen = new Set<PickleValue>();
    const open = [root];
    for (let value = open.pop(); value !== undefined; value = open.pop()) {
      if (++visits > kMaxVisits) throw checkpointError({ file }, "is too tangled to look for weights in it");
      if (isTensor(value)) return true;
      if (typeof value !== "object" || value === null || seen.has(value) || withoutTensors.has(value)) continue;
      seen.add(value);
      if (value instanceof PickleDict) for (const item of value.entries.values()) open.push(item);
      if (value instanceof PickleTuple || value instanceof PickleList) for (const item of value.items) open.push(item);
    }
    for (const value of seen) withoutTensors.add(value);
    return false;
  };
}

async function resolveTensor(
  file: string,
  name: string,
  tensor: PickleTensor,
  locate: LocateStorage,
): Promise<FileTensor> {
  const place = { file, tensor: name };
  if (tensor.problem !== undefined) throw checkpointError(place, tensor.problem);
  const { dtype, storage } = tensor;
  if (dtype === undefined || storage === undefined) {
    throw checkpointError(
      place,
      `is of ${tensor.dtypeName}, which shardspeed cannot read: use a float32, float16 or bfloat16 checkpoint`,
    );
  }
  const shape = readCounts(tensor.shape);
  const strides = readCounts(tensor.strides);
  if (shape === undefined)
    throw checkpointError(place, "has a shape that is not a tuple of whole numbers of at least 0");
  if (strides === undefined) {
    throw checkpointError(place, "has strides that are not a tuple of whole numbers of at least 0");
  }
  if (strides.length !== shape.length) {
    throw checkpointError(place, `has ${strides.length} strides for ${shape.length} dimensions`);
  }
  const { offset } = tensor;
  if (!isCount(offset)) throw checkpointError(place, `has ${kindOfPickle(offset)} for its storage offset`);
  const elements = countElements(shape);
  if (elements === undefined) throw checkpointError(place, `has a shape [${shape}] that overflows`);
  const size = dtypeBytes[dtype];
  const needed = elements === 0 ? 0 : (offset + lastElement(shape, strides) + 1) * size;
  if (!(needed <= storage.bytes)) {
    throw checkpointError(
      place,
      `reaches to byte ${needed} of its storage ${quote(storage.key)}, which has ${storage.bytes} ` +
        `(shape [${shape}], strides [${strides}], offset ${offset})`,
    );
  }
  const start = await locate(storage, name);
  // An empty tensor may lie anywhere: at the start of its storage it lies inside of the file.
  return { name, dtype, shape, strides, byteOffset: start + storage.offset + (elements === 0 ? 0 : offset * size) };
}

function lastElement(shape: readonly number[], strides: readonly number[]): number {
  return shape.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), 0);
}

function readCounts(value: PickleValue): number[] | undefined {
  if (!(value instanceof PickleTuple || value instanceof PickleList)) return undefined;
  return value.items.every(isCount) ? [...(value.items as number[])] : undefined;
}
