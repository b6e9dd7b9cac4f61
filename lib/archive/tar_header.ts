export const blockBytes = 512;

/** A header of a tar archive (POSIX.1-2017, pax; and what GNU tar adds). */
export interface TarHeader {
  name: string;
  /** The type flag: "0" is a file, "5" a folder. */
  type: string;
  bytes: number;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** undefined for a block of zeros, which ends an archive. Throws a TypeError or RangeError that says what is wrong. */
export function decodeTarHeader(block: Buffer): TarHeader | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  let sum = 8 * 0x20;
  for (const [i, byte] of block.entries()) if (i < 148 || i >= 156) sum += byte;
  if (decodeNumber(block.subarray(148, 156)) !== sum) throw new RangeError("a tar header has a wrong checksum");
  const flag = block[156] as number;
  const prefix = block.toString("latin1", 257, 263) === "ustar\0" ? decodeText(block.subarray(345, 500)) : "";
  const name = decodeText(block.subarray(0, 100));
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    type: flag === 0 ? "0" : String.fromCharCode(flag),
    bytes: decodeNumber(block.subarray(124, 136)),
  };
}

/** Up to the first null character. */
export function decodeText(field: Buffer): string {
  const end = field.indexOf(0);
  try {
    return decoder.decode(end < 0 ? field : field.subarray(0, end));
  } catch {
    throw new RangeError("a name in a tar header is not valid UTF-8");
  }
}

/** Octal digits, or what GNU tar writes for numbers that have too many of them. */
function decodeNumber(field: Buffer): number {
  let value: number;
  if (((field[0] as number) & 0x80) !== 0) {
    value = (field[0] as number) & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const digits = /^ *([0-7]*)[ \0]*$/.exec(field.toString("latin1"))?.[1];
    value = digits === undefined ? Number.NaN : Number.parseInt(digits || "0", 8);
  }
  if (!Number.isSafeInteger(value)) throw new RangeError("a tar header has a number that is none");
  return value;
}

/** The records of a pax header, by their keys. */
export function decodePax(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let start = 0; start < data.length; ) {
    const space = data.indexOf(0x20, start);
    const digits = data.toString("latin1", start, space < 0 ? start : space);
    const end = start + Number(digits);
    const record =
      /^[1-9]\d{0,8}$/.test(digits) && end <= data.length ? data.subarray(space + 1, end) : Buffer.alloc(0);
    const equals = record.indexOf(0x3d);
    if (equals <= 0 || record.at(-1) !== 0x0a) throw new RangeError("a pax header has a record that is none");
    // Not up to the first null character: a name that holds one is to be refused, not cut.
    try {
      records.set(decoder.decode(record.subarray(0, equals)), decoder.decode(record.subarray(equals + 1, -1)));
    } catch {
      throw new RangeError("a pax header is not valid UTF-8");
    }
    start = end;
  }
  return records;
}

/** A size in a pax header. */
export function decodePaxSize(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new RangeError("a pax header has a size that is none");
  return value;
}

/** What is written of a file. */
export interface TarFile {
  name: string;
  bytes: number;
  /** Permissions, such as 0o644. */
  mode: number;
  modified: Date;
}

/**
 * The blocks before the bytes of a file: a header, and before it a pax header where the name is not ASCII or too long for the fields of the
 * header. No owner is named.
 */
export function encodeTarHeader(file: TarFile): Buffer {
  const place = splitName(file.name);
  if (place !== undefined) return encodeBlock(file, place, "0");
  const record = encodePaxRecord("path", file.name);
  const instead = { name: "PaxHeader", prefix: "" };
  const pax = encodeBlock({ ...file, bytes: record.length }, instead, "x");
  return Buffer.concat([pax, record, tarPadding(record.length), encodeBlock(file, instead, "0")]);
}

/** Zeros from the end of so many bytes to the next block. */
export function tarPadding(bytes: number): Buffer {
  return Buffer.alloc((blockBytes - (bytes % blockBytes)) % blockBytes);
}

/** The end of an archive. */
export const tarEnd = Buffer.alloc(2 * blockBytes);

interface NameFields {
  /** At most 100 bytes. */
  name: string;
  /** Folders before it: at most 155 bytes. */
  prefix: string;
}

/** undefined where a name does not fit into the two fields. */
function splitName(whole: string): NameFields | undefined {
  if (!/^[\0-\x7f]*$/.test(whole)) return undefined;
  let name = whole;
  while (name.length > 100) {
    const slash = name.indexOf("/");
    if (slash < 0) return undefined;
    name = name.slice(slash + 1);
  }
  const prefix = whole.slice(0, Math.max(whole.length - name.length - 1, 0));
  return prefix.length > 155 ? undefined : { name, prefix };
}

/** One header (POSIX.1-2017, ustar). `type` is its type flag. */
function encodeBlock({ bytes, mode, modified }: TarFile, { name, prefix }: NameFields, type: string): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0, "latin1");
  block.write(octal(mode, 6), 100);
  block.write(octal(0, 6), 108); // owner
  block.write(octal(0, 6), 116); // group
  encodeSize(block.subarray(124, 136), bytes);
  block.write(octal(Math.floor(modified.getTime() / 1000), 11), 136);
  block.write(" ".repeat(8), 148);
  block.write(type, 156);
  block.write("ustar\x0000", 257, "latin1");
  block.write(octal(0, 6), 329); // numbers of a device
  block.write(octal(0, 6), 337);
  block.write(prefix, 345, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\0`, 148);
  return block;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, "0")} `;
}

/** From 8 GiB on there are too many octal digits: then as a binary number, as GNU tar writes it. */
function encodeSize(field: Buffer, bytes: number): void {
  if (bytes < 8 ** 11) {
    field.write(octal(bytes, 11));
    return;
  }
  field.fill(0);
  field[0] = 0x80;
  field.writeBigUInt64BE(BigInt(bytes), field.length - 8);
}

/** A record of a pax header, which begins with its own length. */
function encodePaxRecord(key: string, value: string): Buffer {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return Buffer.from(`${length} ${key}=${value}\n`);
}
