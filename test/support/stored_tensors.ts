import { readFileSync } from "node:fs";
import type { Tensors } from "./shard_writer.js";

/** The tensors of a safetensors file of any of the three weight types, as fp32. */
export function readAnyTensors(path: string): Tensors {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString("utf8")) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors: Tensors = new Map();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [start, end] = data_offsets;
    const data = bytes.subarray(8 + headerBytes + start, 8 + headerBytes + end);
    tensors.set(name, { shape, data: toFloats(data, dtype) });
  }
  return tensors;
}

function toFloats(data: Buffer, dtype: string): Float32Array {
  if (dtype === "F32") return new Float32Array(new Uint8Array(data).buffer);
  const halves = new Uint16Array(new Uint8Array(data).buffer);
  if (dtype === "F16") return Float32Array.from(halves, halfToFloat);
  if (dtype === "BF16") return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
  throw new Error(`no reader for ${dtype}`);
}

function halfToFloat(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? Number.NaN : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
