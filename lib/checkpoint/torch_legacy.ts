import type { Logger } from "../base/logger.js";
import { dtypeBytes } from "./dtypes.js";
import { checkpointError, quote } from "./errors.js";
import { readPickle } from "./pickle.js";
import { type PickleEnvironment, pickleLimits } from "./pickle_machine.js";
import {
  kindOfPickle,
  PickleDict,
  PickleError,
  PickleList,
  type PickleStorage,
  PickleTruncated,
  PickleTuple,
  type PickleValue,
} from "./pickle_values.js";
import { buildTorch, findTorchGlobal, isCount, parseStorageId, reduceTorch } from "./torch_globals.js";
import { listStateDict, type NestedStateDict } from "./torch_state.js";
import type { FileTensor, WeightFile } from "./weight_file.js";

/** torch's serialization.py: MAGIC_NUMBER and PROTOCOL_VERSION. */
const kMagicNumber = 0x1950a86a20f9469cfc6cn;
const kProtocolVersion = 1001;

/** What is read first, and doubled until the pickles are complete: mostly enough, and little of the weights. */
const kFirstReadBytes = 64 * 1024;

/** Each storage begins with its number of elements. */
const kCountBytes = 8;

/**
 * The tensors of a file that torch.save wrote before torch 1.6 (or with `_use_new_zipfile_serialization=False`): five
 * pickles - magic number, version, machine, the object, the keys of its storages - and then the storages in that order,
 * each behind its number of elements (torch's serialization.py, `_legacy_load`).
 *
 * @throws ERR_CHECKPOINT
 */
export async function readTorchLegacy(
  file: WeightFile,
  logger: Logger,
  nested?: NestedStateDict,
): Promise<FileTensor[]> {
  const stream = await readPickles(file);
  const starts = await findStorages(file, stream, logger);
  const locate = (storage: PickleStorage, tensor: string): number => {
    const start = starts.get(storage.key);
    if (start !== undefined) return start;
    throw checkpointError({ file: file.path, tensor }, `its storage ${quote(storage.key)} is not in the file`);
  };
  return await listStateDict(file.path, stream.object, locate, logger, nested);
}

interface LegacyStream {
  object: PickleValue;
  /** As the object's pickle first named them: that tells how many bytes an element has. */
  storages: Map<string, PickleStorage>;
  /** In the order of the file. */
  keys: string[];
  /** Where the pickles end. */
  end: number;
}

async function readPickles(file: WeightFile): Promise<LegacyStream> {
  for (let length = kFirstReadBytes; ; length *= 2) {
    const bytes = await file.read(0, Math.min(length, file.bytes));
    try {
      return parsePickles(bytes);
    } catch (error) {
      if (!(error instanceof PickleError)) throw error;
      if (!(error instanceof PickleTruncated) || bytes.length === file.bytes) {
        throw checkpointError({ file: file.path }, `its pickle ${error.message}`, error);
      }
      if (length >= pickleLimits.bytes) {
        throw checkpointError({ file: file.path }, `has pickles of more than ${pickleLimits.bytes} bytes`);
      }
    }
  }
}

function parsePickles(bytes: Buffer): LegacyStream {
  const plain: PickleEnvironment = {
    findGlobal: findTorchGlobal,
    reduce: reduceTorch,
    build: buildTorch,
    loadPersistent: () => {
      throw new PickleError("has a persistent id outside of its object");
    },
  };
  const magic = readPickle(bytes, plain);
  if (magic.value !== kMagicNumber) throw new PickleError("does not begin with torch's magic number: not a torch file");
  const version = readPickle(bytes, plain, magic.end);
  if (version.value !== kProtocolVersion) {
    throw new PickleError(`has version ${kindOfPickle(version.value)}, expected ${kProtocolVersion}`);
  }
  const machine = readPickle(bytes, plain, version.end);
  if (machine.value instanceof PickleDict && machine.value.entries.get("little_endian") === false) {
    throw new PickleError("says that the file is big-endian, expected little-endian: save it on such a machine");
  }
  const storages = new Map<string, PickleStorage>();
  const object = readPickle(bytes, { ...plain, loadPersistent: storageLoader(storages) }, machine.end);
  const keys = readPickle(bytes, plain, object.end);
  return { object: object.value, storages, keys: readKeys(keys.value), end: keys.end };
}

function storageLoader(storages: Map<string, PickleStorage>): (id: PickleValue) => PickleValue {
  return (id) => {
    const { storage, rest } = parseStorageId(id);
    const first = storages.get(storage.key);
    if (first === undefined) storages.set(storage.key, storage);
    else if (first.bytes !== storage.bytes) {
      throw new PickleError(
        `has the storage ${quote(storage.key)} once with ${first.bytes} and once with ${storage.bytes} bytes`,
      );
    }
    const [view] = rest;
    return view === undefined || view === null ? storage : viewOf(storage, view);
  };
}

/** (key of the view, offset, size), both in elements: how torch before 0.4 shared memory between storages. */
function viewOf(storage: PickleStorage, view: PickleValue): PickleStorage {
  const [, offset, size] = view instanceof PickleTuple ? view.items : [];
  const elementBytes = storage.dtype === undefined ? 0 : dtypeBytes[storage.dtype];
  if (!isCount(offset) || !isCount(size) || !((offset + size) * elementBytes <= storage.bytes)) {
    throw new PickleError(`has a view that reaches out of its storage ${quote(storage.key)}`);
  }
  return { ...storage, offset: offset * elementBytes, bytes: size * elementBytes };
}

function readKeys(value: PickleValue): string[] {
  if (!(value instanceof PickleList)) throw new PickleError(`has ${kindOfPickle(value)} for its list of storages`);
  return value.items.map((key) => {
    if (typeof key === "string") return key;
    if (key instanceof Uint8Array) return Buffer.from(key).toString("latin1");
    throw new PickleError(`has ${kindOfPickle(key)} in its list of storages`);
  });
}

/** Where each storage's elements begin. */
async function findStorages(file: WeightFile, stream: LegacyStream, logger: Logger): Promise<Map<string, number>> {
  const place = { file: file.path };
  const starts = new Map<string, number>();
  let position = stream.end;
  for (const key of stream.keys) {
    const storage = stream.storages.get(key);
    if (storage === undefined) throw checkpointError(place, `has a storage ${quote(key)} that nothing refers to`);
    if (starts.has(key)) throw checkpointError(place, `has the storage ${quote(key)} twice`);
    if (storage.dtype === undefined) {
      throw checkpointError(place, `has a storage of ${storage.className}, which shardspeed cannot read`);
    }
    const elements = (await file.read(position, kCountBytes)).readBigInt64LE();
    const expected = storage.bytes / dtypeBytes[storage.dtype];
    if (elements !== BigInt(expected)) {
      throw checkpointError(
        place,
        `has a storage ${quote(key)} of ${elements} elements at byte ${position}, but its pickle says ${expected}`,
      );
    }
    position += kCountBytes;
    starts.set(key, position);
    position += storage.bytes;
    if (position > file.bytes) {
      throw checkpointError(
        place,
        `ends at byte ${file.bytes}, but its storage ${quote(key)} goes on to ${position}: it is truncated`,
      );
    }
  }
  if (position < file.bytes) logger.warn(`${file.path}: has ${file.bytes - position} bytes behind its last storage`);
  return starts;
}
