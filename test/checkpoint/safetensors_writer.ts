import { Buffer } from "node:buffer";

/** A safetensors file of any header, right or wrong. */
export function safetensorsFile(header: unknown, data: Uint8Array | number = 0, headerBytes?: bigint): Buffer {
  const text =
    header instanceof Uint8Array ? header : Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(headerBytes ?? BigInt(text.length));
  return Buffer.concat([length, text, typeof data === "number" ? Buffer.alloc(data) : data]);
}

/** An entry of its header. */
export function entry(shape: unknown, begin: unknown, end: unknown, dtype: unknown = "F32") {
  return { dtype, shape, data_offsets: [begin, end] };
}
