import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { ShardspeedError } from "../../dist/base/errors.js";
import type { Checkpoint, StorageDtype, TensorEntry } from "../../dist/checkpoint/index.js";

export const fixtures = new URL("../../test/fixtures/", import.meta.url);

export const elementBytes: Record<StorageDtype, number> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  float64: 8,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
  float8_e4m3fnuz: 1,
  float8_e5m2fnuz: 1,
  float8_e8m0fnu: 1,
  float6_e2m3: 0.75,
  float6_e3m2: 0.75,
  float4_e2m1: 0.5,
  int8: 1,
  int16: 2,
  int32: 4,
  int64: 8,
  uint8: 1,
  uint16: 2,
  uint32: 4,
  uint64: 8,
  bool: 1,
  complex64: 8,
  complex128: 16,
};

/** A folder for the tests of a file: made before them, emptied and removed after them. */
export class Scratch {
  #root = "";
  #count = 0;

  constructor() {
    before(() => {
      this.#root = mkdtempSync(path.join(tmpdir(), "shardspeed-checkpoint-"));
    });
    after(() => rmSync(this.#root, { recursive: true, force: true }));
  }

  /** A new folder with these files; a name may lead into a subfolder. */
  folder(files: Record<string, Uint8Array | string> = {}): string {
    const folder = path.join(this.#root, String(this.#count++));
    mkdirSync(folder);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), content);
    }
    return folder;
  }

  /** A new file of this name. */
  file(name: string, content: Uint8Array | string): string {
    return path.join(this.folder({ [name]: content }), name);
  }
}

/** The elements of a tensor in row-major order, as {byteOffset, strides} say where they lie. */
export function readElements(checkpoint: Checkpoint, name: string): Buffer {
  const tensor = checkpoint.tensors.get(name);
  assert.ok(tensor, `no tensor ${name}`);
  const file = checkpoint.files[tensor.file];
  assert.ok(file);
  const size = elementBytes[tensor.dtype];
  const offsets = elementOffsets(tensor);
  const result = Buffer.alloc(offsets.length * size);
  const handle = openSync(file.path, "r");
  try {
    for (const [i, offset] of offsets.entries()) {
      assert.equal(readSync(handle, result, i * size, size, tensor.byteOffset + offset * size), size, `${name} ends`);
    }
  } finally {
    closeSync(handle);
  }
  return result;
}

/** In elements, in row-major order. */
function elementOffsets({ shape, strides }: TensorEntry): number[] {
  let offsets = [0];
  for (const [i, size] of shape.entries()) {
    const stride = strides[i] as number;
    offsets = offsets.flatMap((offset) => Array.from({ length: size }, (_, j) => offset + j * stride));
  }
  return offsets;
}

/** Each tensor in its file, with numbers that C++ can take as they are. */
export function assertSound(checkpoint: Checkpoint): void {
  assert.ok(checkpoint.tensors.size > 0);
  for (const [name, tensor] of checkpoint.tensors) {
    assert.equal(tensor.name, name);
    assert.equal(tensor.strides.length, tensor.shape.length);
    for (const value of [...tensor.shape, ...tensor.strides, tensor.byteOffset]) {
      assert.ok(Number.isSafeInteger(value) && value >= 0, `${name}: ${value}`);
    }
    const last = tensor.shape.includes(0)
      ? 0
      : 1 + tensor.shape.reduce((sum, size, i) => sum + (size - 1) * (tensor.strides[i] as number), 0);
    const file = checkpoint.files[tensor.file];
    assert.ok(file && tensor.byteOffset + last * elementBytes[tensor.dtype] <= file.bytes, `${name} leaves its file`);
  }
}

/** The error of a promise that must fail with ERR_CHECKPOINT. */
export async function checkpointFailure(promise: Promise<unknown>): Promise<ShardspeedError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
    assert.equal(error.code, "ERR_CHECKPOINT", error.message);
    return error;
  }
  throw new assert.AssertionError({ message: "expected ERR_CHECKPOINT, it was opened" });
}

/** Files that this process has open. */
export function openHandles(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A logger that keeps what it is told. */
export class Messages {
  readonly all: string[] = [];
  debug = (message: string) => void this.all.push(`debug: ${message}`);
  info = (message: string) => void this.all.push(`info: ${message}`);
  warn = (message: string) => void this.all.push(`warn: ${message}`);
  error = (message: string) => void this.all.push(`error: ${message}`);
}
