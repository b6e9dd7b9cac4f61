/** Element types that a checkpoint file may hold. Only the first three can be weights; others are listed so that errors can name them. */
export type StorageDtype =
  | "float32"
  | "float16"
  | "bfloat16"
  | "float64"
  | "float8_e4m3fn"
  | "float8_e5m2"
  | "float8_e4m3fnuz"
  | "float8_e5m2fnuz"
  | "float8_e8m0fnu"
  | "float6_e2m3"
  | "float6_e3m2"
  | "float4_e2m1"
  | "int8"
  | "int16"
  | "int32"
  | "int64"
  | "uint8"
  | "uint16"
  | "uint32"
  | "uint64"
  | "bool"
  | "complex64"
  | "complex128";

/** A file that holds weights. C++ reads it; JavaScript reads its headers only. */
export interface CheckpointFile {
  path: string;
  bytes: number;
}

/** One tensor as it lies in a file: element [i, j, ...] is at byteOffset + (i * strides[0] + j * strides[1] + ...) * element size. */
export interface TensorEntry {
  name: string;
  dtype: StorageDtype;
  shape: number[];
  /** In elements, one a dimension. */
  strides: number[];
  /** Index into Checkpoint.files. */
  file: number;
  byteOffset: number;
}

/** An opened checkpoint: its files and where each tensor lies in them. */
export interface Checkpoint {
  /** The folder or file that was opened, as an absolute path, for messages. */
  path: string;
  files: CheckpointFile[];
  tensors: Map<string, TensorEntry>;
  /** What its index names and no file holds, and the file that it names: a tied head that was removed, or a shard that is damaged. */
  promised?: ReadonlyMap<string, string>;
  /** Of a checkpoint that was written in shards: the pieces of each tensor that is in them, by rank. `tensors` has the first of them. */
  pieces?: Map<string, TensorEntry[]>;
}
