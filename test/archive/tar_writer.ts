import { gzipSync } from "node:zlib";

interface Header {
  name?: string;
  type?: string;
  bytes?: number;
  /** As it stands in the header. */
  size?: string;
}

/** A header of a tar archive, with whatever lies it should tell. */
export function header({ name = "x", type = "0", bytes = 0, size }: Header): Buffer {
  const block = Buffer.alloc(512);
  block.write(name, 0, 100, "latin1");
  block.write(size ?? bytes.toString(8).padStart(11, "0"), 124, 12, "latin1");
  block.write("        ", 148);
  block.write(type, 156, 1, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** A gzipped tar archive of parts that are filled up to whole blocks. */
export function tarBlocks(parts: readonly Buffer[]): Buffer {
  const filled = parts.map((part) => Buffer.concat([part, Buffer.alloc((512 - (part.length % 512)) % 512)]));
  return gzipSync(Buffer.concat([...filled, Buffer.alloc(1024)]));
}

export function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length;
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

export function tarWithPaxSize(size: string, type = "x"): Buffer {
  const record = paxRecord("size", size);
  return tarBlocks([header({ type, bytes: record.length }), record, header({ name: "f" })]);
}
