import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { dict, int, tensor as pickledTensor, storage, tuple } from "../checkpoint/pickle_writer.js";
import { safetensorsFile } from "../checkpoint/safetensors_writer.js";
import { torchZip } from "../checkpoint/torch_writer.js";
import { fixture } from "./fixtures.js";
import { readAnyTensors } from "./stored_tensors.js";

// Cuts golden models into shards, element by element and without any code of the package, and writes them as others do.

export interface Tensor {
  shape: number[];
  data: Float32Array;
}
export type Tensors = Map<string, Tensor>;

/** The weights of a golden model, as fp32. */
export function goldenWeights(name: string): Tensors {
  return readAnyTensors(fixture("golden", name, "model.safetensors"));
}

/** Rows (or, of a vector, elements) in this order. */
export function takeRows({ shape, data }: Tensor, rows: readonly number[]): Tensor {
  const width = shape.slice(1).reduce((product, size) => product * size, 1);
  const taken = new Float32Array(rows.length * width);
  for (const [at, row] of rows.entries()) taken.set(data.subarray(row * width, (row + 1) * width), at * width);
  return { shape: [rows.length, ...shape.slice(1)], data: taken };
}

export function transpose({ shape, data }: Tensor): Tensor {
  const [rows, cols] = shape as [number, number];
  const turned = Float32Array.from(
    { length: data.length },
    (_, at) => data[(at % rows) * cols + Math.floor(at / rows)] as number,
  );
  return { shape: [cols, rows], data: turned };
}

export function takeCols(tensor: Tensor, cols: readonly number[]): Tensor {
  return transpose(takeRows(transpose(tensor), cols));
}

/** first, first + 1, ... */
export function run(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => first + at);
}

/** The part of `size` that a rank has of `ranks`; of sizes that do not divide, the last ranks have more. */
export function part(size: number, rank: number, ranks: number): number[] {
  const first = Math.floor((size * rank) / ranks);
  return run(first, Math.floor((size * (rank + 1)) / ranks) - first);
}

export function writeSafetensors(folder: string, name: string, tensors: Tensors): void {
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [key, { shape, data }] of tensors) {
    header[key] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] };
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    at += data.byteLength;
  }
  writeFileSync(join(folder, name), safetensorsFile(header, Buffer.concat(parts)));
}

/**
 * A file as torch.save writes it, with dicts inside of dicts where names have several parts and `nest` says so.
 *
 * @param wrap Key of the dict that holds the tensors, and numbers beside it.
 */
export function writeTorch(
  folder: string,
  name: string,
  tensors: Tensors,
  wrap?: { key: string; numbers?: Record<string, number>; nest?: (name: string) => string[] },
): void {
  const storages: Record<string, Uint8Array> = {};
  const tree: Tree = new Map();
  for (const [at, [key, { shape, data }]] of [...tensors].entries()) {
    storages[at] = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
    const code = pickledTensor({
      storage: storage(String(at), data.length),
      shape: tuple(...shape.map((size) => int(size))),
      strides: tuple(...strides.map((size) => int(size))),
    });
    let place = tree;
    const path = wrap?.nest?.(key) ?? [key];
    for (const step of path.slice(0, -1)) {
      if (!place.has(step)) place.set(step, new Map());
      place = place.get(step) as Tree;
    }
    place.set(path.at(-1) as string, code);
  }
  const object = wrap === undefined ? toCode(tree) : dict([wrap.key, toCode(tree)], ...numbersOf(wrap.numbers));
  writeFileSync(join(folder, name), torchZip({ object, storages }));
}

type Code = ReturnType<typeof dict>;
type Tree = Map<string, Tree | Code>;

function toCode(tree: Tree): Code {
  return dict(...[...tree].map(([key, value]) => [key, value instanceof Map ? toCode(value) : value] as const));
}

function numbersOf(numbers: Record<string, number> = {}) {
  return Object.entries(numbers).map(
    ([key, value]) => [key, Number.isInteger(value) ? int(value) : float(value)] as const,
  );
}

function float(value: number): Buffer {
  const bytes = Buffer.alloc(9, "G");
  bytes.writeDoubleBE(value, 1);
  return bytes;
}
