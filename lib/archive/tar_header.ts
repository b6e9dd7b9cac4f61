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
