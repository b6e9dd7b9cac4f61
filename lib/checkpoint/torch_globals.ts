import { dtypeBytes, torchStorageDtypes, unreadableTorchDtypes, unreadableTorchStorages } from "./dtypes.js";
import { quote } from "./errors.js";
import {
  type GlobalMeaning,
  isStorage,
  isTensor,
  kindOfPickle,
  PickleDict,
  PickleError,
  PickleGlobal,
  PickleList,
  PickleSet,
  type PickleStorage,
  type PickleTensor,
  PickleTuple,
  type PickleValue,
} from "./pickle_values.js";
import type { StorageDtype } from "./types.js";

/**
 * The names that a pickle may use, and what they mean here: about what torch.load takes with weights_only=True (torch's
 * _weights_only_unpickler.py), less what is no plain dense tensor. Any other name is an error.
 */
export function findTorchGlobal(module: string, name: string): PickleGlobal {
  // Protocols 0 to 2 write the names of Python 2.
  const moduleNow = module === "__builtin__" ? "builtins" : module;
  const fullName = `${moduleNow}.${name}`;
  const found = allowed.get(fullName);
  if (found !== undefined) return found;
  const written = `${module}.${name}`.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
  const shown = module === moduleNow ? written : `${written} (builtins.${name.slice(0, 100)})`;
  throw new PickleError(
    `refers to ${shown}, which is not on the list of what weights may refer to. Nothing of it was run. ${advice(fullName)}`,
  );
}

function advice(fullName: string): string {
  if (fullName.startsWith("torch._utils._rebuild_") || fullName.startsWith("torch.distributed.")) {
    return "Save the weights as plain dense tensors, best in safetensors";
  }
  return "Save model.state_dict() alone, best in safetensors; do not load files from sources that you do not trust";
}

/** Makes what a call of `callable` with `args` means. @throws PickleError where it is no call that weights need */
export function reduceTorch(callable: PickleValue, args: PickleTuple): PickleValue {
  if (!(callable instanceof PickleGlobal)) throw new PickleError(`calls ${kindOfPickle(callable)}`);
  const { name, meaning } = callable;
  if (meaning.kind === "constructor") return meaning.call(args.items);
  // Parameter.__new__(data, requires_grad)
  if (meaning.kind === "parameter type") return tensorArgument(name, args.items[0]);
  throw new PickleError(`calls ${name}`);
}

/** State set on dicts and tensors is Python attributes such as `_metadata`: nothing that weights need. */
export function buildTorch(object: PickleValue, state: PickleValue): PickleValue {
  if (object instanceof PickleDict && object.ordered && state instanceof PickleDict) return object;
  if (isTensor(object) && (state instanceof PickleDict || state === null)) return object;
  throw new PickleError(`sets the state of ${kindOfPickle(object)} to ${kindOfPickle(state)}`);
}

/** The five parts of a persistent id of torch: ("storage", class, key, location, elements, ...). */
export function parseStorageId(id: PickleValue): { storage: PickleStorage; rest: readonly PickleValue[] } {
  const parts = id instanceof PickleTuple ? id.items : [];
  const [tag, type, key, location, elements, ...rest] = parts.map(bytesAsText);
  if (tag === "module") {
    throw new PickleError("holds a whole module and not its weights: save model.state_dict(), best in safetensors");
  }
  if (
    tag !== "storage" ||
    !(type instanceof PickleGlobal) ||
    type.meaning.kind !== "storage" ||
    typeof key !== "string" ||
    typeof location !== "string" ||
    !isCount(elements)
  ) {
    throw new PickleError("has a persistent id that is not a torch storage");
  }
  const { dtype } = type.meaning;
  // The size of a storage of unknown dtype does not matter: no tensor of it will be read.
  const bytes = dtype === undefined ? 0 : elements * dtypeBytes[dtype];
  if (!Number.isSafeInteger(bytes)) throw new PickleError(`has a storage ${quote(key)} of impossible size`);
  return { storage: { kind: "storage", key, dtype, className: type.name, offset: 0, bytes }, rest };
}

/** Files of Python 2 have bytes where those of Python 3 have strings. */
function bytesAsText(value: PickleValue): PickleValue {
  return value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value;
}

export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

const meanings: [string, GlobalMeaning][] = [
  ...constructors({
    "collections.OrderedDict": makeOrderedDict,
    "torch._utils._rebuild_tensor": (args) => rebuildTensor("torch._utils._rebuild_tensor", args, 4),
    "torch._utils._rebuild_tensor_v2": (args) => rebuildTensor("torch._utils._rebuild_tensor_v2", args, 6, 6),
    "torch._utils._rebuild_tensor_v3": rebuildTensorV3,
    "torch._utils._rebuild_parameter": (args) => tensorArgument("torch._utils._rebuild_parameter", args[0]),
    "torch._utils._rebuild_parameter_with_state": (args) =>
      tensorArgument("torch._utils._rebuild_parameter_with_state", args[0]),
    "torch._utils._rebuild_meta_tensor_no_storage": rebuildMetaTensor,
    "torch._tensor._rebuild_from_type_v2": rebuildFromType,
    "torch.Size": makeSize,
    "torch.device": () => ({ kind: "other", name: "torch.device" }),
    "torch.serialization._get_layout": () => ({ kind: "other", name: "torch.layout" }),
    "_codecs.encode": encodeBytes,
    "builtins.set": makeSet,
    "builtins.frozenset": makeSet,
    "builtins.bytearray": makeByteArray,
    "builtins.complex": () => ({ kind: "other", name: "a complex number" }),
  }),
  ...storageClasses(),
  ...dtypes(),
  ["torch.Tensor", { kind: "tensor type" }],
  ["torch._tensor.Tensor", { kind: "tensor type" }],
  ["torch.nn.parameter.Parameter", { kind: "parameter type" }],
];

const allowed: ReadonlyMap<string, PickleGlobal> = new Map(
  meanings.map(([name, meaning]) => [name, new PickleGlobal(name, meaning)]),
);

function* constructors(
  table: Record<string, (args: readonly PickleValue[]) => PickleValue>,
): Generator<[string, GlobalMeaning]> {
  for (const [name, call] of Object.entries(table)) yield [name, { kind: "constructor", call }];
}

function* storageClasses(): Generator<[string, GlobalMeaning]> {
  for (const module of ["torch", "torch.cuda", "torch.storage"]) {
    for (const [name, dtype] of torchStorageDtypes) yield [`${module}.${name}`, { kind: "storage", dtype }];
    for (const name of unreadableTorchStorages) yield [`${module}.${name}`, { kind: "storage", dtype: undefined }];
  }
  // Without a type of their own: bytes.
  yield ["torch.storage.UntypedStorage", { kind: "storage", dtype: "uint8" }];
  yield ["torch.UntypedStorage", { kind: "storage", dtype: "uint8" }];
  // Says nothing of its elements: torch cannot load it either.
  yield ["torch.storage.TypedStorage", { kind: "storage", dtype: undefined }];
}

function* dtypes(): Generator<[string, GlobalMeaning]> {
  for (const dtype of Object.keys(dtypeBytes) as StorageDtype[]) yield [`torch.${dtype}`, { kind: "dtype", dtype }];
  for (const name of unreadableTorchDtypes) {
    if (!(name in dtypeBytes)) yield [`torch.${name}`, { kind: "dtype", dtype: undefined }];
  }
}

function makeOrderedDict(args: readonly PickleValue[]): PickleValue {
  const dict = new PickleDict(true);
  const [pairs] = args;
  if (pairs === undefined) return dict;
  // Python 2 wrote OrderedDict([[key, value], ...]).
  if (!(pairs instanceof PickleList)) throw wrongArguments("collections.OrderedDict");
  for (const pair of pairs.items) {
    const items = pair instanceof PickleTuple || pair instanceof PickleList ? pair.items : [];
    if (items.length !== 2) throw wrongArguments("collections.OrderedDict");
    dict.set(items[0] as PickleValue, items[1] as PickleValue);
  }
  return dict;
}

/** (storage, storage offset, size, stride, requires_grad, backward hooks, metadata): the first four are what counts. */
function rebuildTensor(name: string, args: readonly PickleValue[], least: number, metadataAt?: number): PickleTensor {
  const [storage, offset, shape, strides] = args;
  if (args.length < least || storage === undefined || !isStorage(storage)) throw wrongArguments(name);
  const metadata = metadataAt === undefined ? undefined : args[metadataAt];
  return {
    kind: "tensor",
    storage,
    dtype: storage.dtype,
    dtypeName: storage.className,
    offset: offset as PickleValue,
    shape: shape as PickleValue,
    strides: strides as PickleValue,
    ...problemOf(metadata),
  };
}

/** As above, with the dtype in front of the metadata: for dtypes that have no storage class. */
function rebuildTensorV3(args: readonly PickleValue[]): PickleTensor {
  const dtype = args[6];
  if (!(dtype instanceof PickleGlobal) || dtype.meaning.kind !== "dtype") {
    throw wrongArguments("torch._utils._rebuild_tensor_v3");
  }
  const tensor = rebuildTensor("torch._utils._rebuild_tensor_v3", args, 7, 7);
  return { ...tensor, dtype: dtype.meaning.dtype, dtypeName: dtype.name };
}

/** A set conj or neg bit means that the bytes are not the values. */
function problemOf(metadata: PickleValue | undefined): { problem?: string } {
  if (metadata === undefined || metadata === null) return {};
  if (!(metadata instanceof PickleDict)) return { problem: `has ${kindOfPickle(metadata)} for metadata` };
  for (const [key, value] of metadata.entries) {
    if (value === false) continue;
    const bit = typeof key === "string" ? quote(key) : kindOfPickle(key);
    return {
      problem: `has ${bit} set, so its bytes are not its values: save it after resolve_conj() and resolve_neg()`,
    };
  }
  return {};
}

function rebuildMetaTensor(args: readonly PickleValue[]): PickleTensor {
  const [dtype, shape, strides] = args;
  if (!(dtype instanceof PickleGlobal) || dtype.meaning.kind !== "dtype") {
    throw wrongArguments("torch._utils._rebuild_meta_tensor_no_storage");
  }
  return {
    kind: "tensor",
    storage: undefined,
    dtype: dtype.meaning.dtype,
    dtypeName: dtype.name,
    offset: 0,
    shape: shape ?? null,
    strides: strides ?? null,
    problem: "was saved from the meta device and has no data",
  };
}

/** (rebuild function, type, arguments, state): tensors and parameters that have Python attributes. */
function rebuildFromType(args: readonly PickleValue[]): PickleTensor {
  const [rebuild, type, inner] = args;
  if (
    !(rebuild instanceof PickleGlobal) ||
    !rebuild.name.startsWith("torch._utils._rebuild_") ||
    !(type instanceof PickleGlobal) ||
    !(type.meaning.kind === "tensor type" || type.meaning.kind === "parameter type") ||
    !(inner instanceof PickleTuple)
  ) {
    throw wrongArguments("torch._tensor._rebuild_from_type_v2");
  }
  return tensorArgument(rebuild.name, reduceTorch(rebuild, inner));
}

function tensorArgument(name: string, value: PickleValue | undefined): PickleTensor {
  if (value === undefined || !isTensor(value)) throw wrongArguments(name);
  return value;
}

function makeSize(args: readonly PickleValue[]): PickleValue {
  const [sizes] = args;
  if (sizes instanceof PickleTuple) return sizes;
  if (sizes instanceof PickleList) return new PickleTuple(sizes.items);
  throw wrongArguments("torch.Size");
}

/** How protocol 2 writes bytes: a string whose characters are the bytes, to be encoded as latin-1. */
function encodeBytes(args: readonly PickleValue[]): PickleValue {
  const [text, encoding] = args;
  if (typeof text !== "string" || typeof encoding !== "string" || !/^latin[-_]?1$/i.test(encoding)) {
    throw wrongArguments("_codecs.encode");
  }
  return Buffer.from(text, "latin1");
}

function makeSet(args: readonly PickleValue[]): PickleValue {
  const set = new PickleSet();
  const [items] = args;
  if (items === undefined) return set;
  if (!(items instanceof PickleList || items instanceof PickleTuple)) throw wrongArguments("builtins.set");
  for (const item of items.items) set.items.push(item);
  return set;
}

function makeByteArray(args: readonly PickleValue[]): PickleValue {
  const [bytes] = args;
  // Never of a given size: that would let a few bytes of pickle take any amount of memory.
  if (bytes === undefined) return new Uint8Array();
  if (!(bytes instanceof Uint8Array)) throw wrongArguments("builtins.bytearray");
  return bytes;
}

function wrongArguments(name: string): PickleError {
  return new PickleError(`calls ${name} with arguments that torch never writes`);
}
