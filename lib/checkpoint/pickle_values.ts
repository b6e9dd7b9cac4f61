import { quote } from "./errors.js";
import type { StorageDtype } from "./types.js";

/** What a pickle can turn into here. Everything is inert data: nothing of it can run. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleSet
  | PickleGlobal
  | PickleStorage
  | PickleTensor
  | PickleOther;

export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

export class PickleList {
  readonly items: PickleValue[] = [];
}

/** dict and collections.OrderedDict. Attributes set on it, such as the `_metadata` of a state dict, are dropped. */
export class PickleDict {
  #entries: Map<PickleValue, PickleValue> | undefined;

  constructor(readonly ordered: boolean) {}

  get entries(): ReadonlyMap<PickleValue, PickleValue> {
    return this.#entries ?? noEntries;
  }

  /** Python never writes a key twice, and one of two tensors of the same name would be lost: so that is an error. */
  set(key: PickleValue, value: PickleValue): void {
    // Each torch tensor brings an empty dict of hooks: those stay without a Map of their own.
    this.#entries ??= new Map();
    if (this.#entries.has(key)) {
      throw new PickleError(`sets the key ${typeof key === "string" ? quote(key) : kindOfPickle(key)} twice`);
    }
    this.#entries.set(key, value);
  }
}

const noEntries: ReadonlyMap<PickleValue, PickleValue> = new Map();

/** set and frozenset. Items are only counted on: no reader looks into one. */
export class PickleSet {
  readonly items: PickleValue[] = [];
}

/** A name that a pickle referred to, and what stands for it here. */
export class PickleGlobal {
  constructor(
    readonly name: string,
    readonly meaning: GlobalMeaning,
  ) {}
}

export type GlobalMeaning =
  | { kind: "storage"; dtype: StorageDtype | undefined }
  | { kind: "dtype"; dtype: StorageDtype | undefined }
  | { kind: "tensor type" }
  | { kind: "parameter type" }
  /** `call` gets the arguments of the pickle and makes a value of ours. */
  | { kind: "constructor"; call: (args: readonly PickleValue[]) => PickleValue };

/** A run of elements in the file, as a persistent id names it. */
export interface PickleStorage {
  readonly kind: "storage";
  /** Which of the file's storages. */
  readonly key: string;
  /** Undefined: a dtype that shardspeed cannot read. */
  readonly dtype: StorageDtype | undefined;
  /** The class that the pickle named, for messages. */
  readonly className: string;
  /** Bytes from the start of the file's storage; not 0 for views only, which torch wrote before 0.4. */
  readonly offset: number;
  readonly bytes: number;
}

/** A tensor as its pickle tells it: numbers of any kind, checked when the tensor's name is known. */
export interface PickleTensor {
  readonly kind: "tensor";
  readonly storage: PickleStorage | undefined;
  readonly dtype: StorageDtype | undefined;
  readonly dtypeName: string;
  /** In elements. */
  readonly offset: PickleValue;
  readonly shape: PickleValue;
  readonly strides: PickleValue;
  /** Why it cannot be read, where that is known already. */
  readonly problem?: string;
}

/** A harmless value that no reader looks into: a device, a layout, a complex number. */
export interface PickleOther {
  readonly kind: "other";
  readonly name: string;
}

/** Why a pickle cannot be read: a phrase that fits behind "its pickle". */
export class PickleError extends Error {}

/** The bytes ended before the pickle did. */
export class PickleTruncated extends PickleError {
  constructor() {
    super("is truncated");
  }
}

export function isTensor(value: PickleValue): value is PickleTensor {
  return hasKind(value) && value.kind === "tensor";
}

export function isStorage(value: PickleValue): value is PickleStorage {
  return hasKind(value) && value.kind === "storage";
}

function hasKind(value: PickleValue): value is PickleStorage | PickleTensor | PickleOther {
  return typeof value === "object" && value !== null && "kind" in value;
}

/** What a value is, for messages. */
export function kindOfPickle(value: PickleValue): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return `the number ${String(value).slice(0, 40)}`;
  if (typeof value === "string") return "a string";
  if (value instanceof Uint8Array) return "bytes";
  if (value instanceof PickleTuple) return "a tuple";
  if (value instanceof PickleList) return "a list";
  if (value instanceof PickleDict) return value.ordered ? "an OrderedDict" : "a dict";
  if (value instanceof PickleSet) return "a set";
  if (value instanceof PickleGlobal) return value.name;
  return value.kind === "other" ? value.name : `a ${value.kind}`;
}
