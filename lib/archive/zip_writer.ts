import { pipeline } from "node:stream/promises";
import { crc32, createDeflateRaw } from "node:zlib";
import type { Entry } from "./content.js";

const max16 = 0xffff;
const max32 = 0xffffffff;
/** From here on a file, even where compression makes it longer, may need the sizes of zip64. */
const zip64Bytes = 0xf0000000;

const deflated = 8;
const stored = 0;
const utf8Names = 0x800;
/** Version 2.0 on Unix, as Python writes it. */
const madeBy = (3 << 8) | 20;
const regularFile = 0o100644;

/** What an archive is written to. */
export interface ZipFile {
  /** Where the next bytes go. */
  readonly position: number;
  write(bytes: Uint8Array): Promise<void>;
  /** Over what has been written there. */
  writeAt(bytes: Uint8Array, position: number): Promise<void>;
}

/** An entry that has been written: what the directory says of it. */
interface Written {
  name: Buffer;
  flags: number;
  method: number;
  crc: number;
  compressedBytes: number;
  bytes: number;
  offset: number;
  zip64: boolean;
}

/**
 * Writes a zip archive. Sizes and checksums go into the headers before the data, when the data is there: TorchServe reads
 * archives as a stream (java.util.zip.ZipInputStream), and so cannot read stored entries that have them behind, which is
 * all that yazl can do for a file that it does not hold in memory.
 */
export async function writeZip(
  file: ZipFile,
  entries: Iterable<Entry>,
  { store, date, signal }: { store: boolean; date: Date; signal: AbortSignal | undefined },
): Promise<void> {
  const written: Written[] = [];
  const time = dosTime(date);
  for (const entry of entries) written.push(await writeEntry(file, entry, store ? stored : deflated, time, signal));
  const offset = file.position;
  for (const entry of written) await file.write(directoryEntry(entry, time));
  await file.write(endRecords(written.length, offset, file.position - offset));
}

async function writeEntry(
  file: ZipFile,
  entry: Entry,
  method: number,
  time: Buffer,
  signal: AbortSignal | undefined,
): Promise<Written> {
  const name = Buffer.from(entry.name);
  const written: Written = {
    name,
    flags: name.length === entry.name.length ? 0 : utf8Names,
    method,
    crc: 0,
    compressedBytes: 0,
    bytes: entry.bytes,
    offset: file.position,
    zip64: entry.bytes >= zip64Bytes,
  };
  await file.write(localHeader(written, time));
  const start = file.position;
  const summed = async function* () {
    for await (const piece of entry.content()) {
      written.crc = crc32(piece, written.crc);
      yield piece;
    }
  };
  const write = async (pieces: AsyncIterable<Buffer>) => {
    for await (const piece of pieces) await file.write(piece);
  };
  if (method === stored) await write(summed());
  else await pipeline(summed, createDeflateRaw(), write, signal === undefined ? {} : { signal });
  written.compressedBytes = file.position - start;
  await file.writeAt(localHeader(written, time), written.offset);
  return written;
}

function localHeader(entry: Written, time: Buffer): Buffer {
  const { name, zip64 } = entry;
  const extra = zip64 ? zip64Extra([entry.bytes, entry.compressedBytes]) : Buffer.alloc(0);
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  header.writeUInt16LE(zip64 ? 45 : 20, 4);
  header.writeUInt16LE(entry.flags, 6);
  header.writeUInt16LE(entry.method, 8);
  time.copy(header, 10);
  header.writeUInt32LE(entry.crc, 14);
  header.writeUInt32LE(zip64 ? max32 : entry.compressedBytes, 18);
  header.writeUInt32LE(zip64 ? max32 : entry.bytes, 22);
  header.writeUInt16LE(name.length, 26);
  header.writeUInt16LE(extra.length, 28);
  return Buffer.concat([header, name, extra]);
}

function directoryEntry(entry: Written, time: Buffer): Buffer {
  const zip64 = entry.zip64 || entry.offset >= max32;
  const extra = zip64 ? zip64Extra([entry.bytes, entry.compressedBytes, entry.offset]) : Buffer.alloc(0);
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(madeBy, 4);
  header.writeUInt16LE(zip64 ? 45 : 20, 6);
  header.writeUInt16LE(entry.flags, 8);
  header.writeUInt16LE(entry.method, 10);
  time.copy(header, 12);
  header.writeUInt32LE(entry.crc, 16);
  header.writeUInt32LE(zip64 ? max32 : entry.compressedBytes, 20);
  header.writeUInt32LE(zip64 ? max32 : entry.bytes, 24);
  header.writeUInt16LE(entry.name.length, 28);
  header.writeUInt16LE(extra.length, 30);
  header.writeUInt32LE(regularFile * 0x10000, 38);
  header.writeUInt32LE(zip64 ? max32 : entry.offset, 42);
  return Buffer.concat([header, entry.name, extra]);
}

function zip64Extra(values: readonly number[]): Buffer {
  const extra = Buffer.alloc(4 + 8 * values.length);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8 * values.length, 2);
  for (const [i, value] of values.entries()) extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i);
  return extra;
}

function endRecords(count: number, offset: number, bytes: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Math.min(count, max16), 8);
  end.writeUInt16LE(Math.min(count, max16), 10);
  end.writeUInt32LE(Math.min(bytes, max32), 12);
  end.writeUInt32LE(Math.min(offset, max32), 16);
  if (count < max16 && offset < max32 && bytes < max32) return end;
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  record.writeUInt16LE((3 << 8) | 45, 12);
  record.writeUInt16LE(45, 14);
  record.writeBigUInt64LE(BigInt(count), 24);
  record.writeBigUInt64LE(BigInt(count), 32);
  record.writeBigUInt64LE(BigInt(bytes), 40);
  record.writeBigUInt64LE(BigInt(offset), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(offset + bytes), 8);
  locator.writeUInt32LE(1, 16);
  return Buffer.concat([record, locator, end]);
}

/** Time and date in the form of zip archives, which know no time zone: in UTC, so that machines agree. */
function dosTime(date: Date): Buffer {
  const time = Buffer.alloc(4);
  const year = Math.min(Math.max(date.getUTCFullYear() - 1980, 0), 127);
  time.writeUInt16LE((date.getUTCHours() << 11) | (date.getUTCMinutes() << 5) | (date.getUTCSeconds() >> 1), 0);
  time.writeUInt16LE((year << 9) | ((date.getUTCMonth() + 1) << 5) | date.getUTCDate(), 2);
  return time;
}
