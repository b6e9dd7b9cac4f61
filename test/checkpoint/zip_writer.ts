import { Buffer } from "node:buffer";
import { crc32, deflateRawSync } from "node:zlib";

/** A record of an archive, with whatever lies it should tell. */
export interface ZipEntry {
  name: string;
  data: Uint8Array | string;
  /** Compresses the data, or (with `method`) only says so. */
  deflate?: boolean;
  method?: number;
  flags?: number;
  crc?: number;
  /** Sizes as the directory tells them. */
  claimedBytes?: number;
  /** Size as the local header tells it. */
  localBytes?: number;
  localName?: string;
  /** Where the directory says that the record begins. */
  offset?: number;
  /** Sizes and offset stand in the zip64 extra field of the directory. */
  zip64?: boolean;
  /** Kind and permissions, as Unix has them. */
  mode?: number;
}

export interface ZipOptions {
  /** Entries as the end record tells them. */
  count?: number;
  /** Adds a zip64 end record that says so. */
  zip64?: { count: bigint; directoryOffset?: bigint; recordOffset?: bigint };
}

/** An archive of stored records, as torch.save writes them. */
export function zipFile(entries: readonly ZipEntry[], options: ZipOptions = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const entry of entries) {
    const { local, central } = writeEntry(entry, position);
    parts.push(local);
    directory.push(central);
    position += local.length;
  }
  const directoryBytes = Buffer.concat(directory);
  return Buffer.concat([
    ...parts,
    directoryBytes,
    endRecords(entries.length, position, directoryBytes.length, options),
  ]);
}

function writeEntry(entry: ZipEntry, position: number) {
  const raw = Buffer.from(entry.data as Uint8Array);
  const data = entry.deflate ? deflateRawSync(raw) : raw;
  const method = entry.method ?? (entry.deflate ? 8 : 0);
  const crc = entry.crc ?? crc32(raw);
  const name = Buffer.from(entry.name);
  const localName = Buffer.from(entry.localName ?? entry.name);

  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50, 0);
  local.writeUInt16LE(entry.flags ?? 0, 6);
  local.writeUInt16LE(method, 8);
  local.writeUInt32LE(crc, 14);
  local.writeUInt32LE(entry.localBytes ?? data.length, 18);
  local.writeUInt32LE(entry.localBytes ?? raw.length, 22);
  local.writeUInt16LE(localName.length, 26);

  const offset = entry.offset ?? position;
  const compressed = entry.claimedBytes ?? data.length;
  const uncompressed = entry.claimedBytes ?? raw.length;
  const extra = entry.zip64 ? zip64Extra([uncompressed, compressed, offset]) : Buffer.alloc(0);
  const central = Buffer.alloc(46);
  central.writeUInt32LE(0x02014b50, 0);
  central.writeUInt16LE(entry.flags ?? 0, 8);
  central.writeUInt16LE(method, 10);
  central.writeUInt32LE(crc, 16);
  central.writeUInt32LE(entry.zip64 ? 0xffffffff : compressed, 20);
  central.writeUInt32LE(entry.zip64 ? 0xffffffff : uncompressed, 24);
  central.writeUInt16LE(name.length, 28);
  central.writeUInt16LE(extra.length, 30);
  if (entry.mode !== undefined) {
    central.writeUInt16LE((3 << 8) | 20, 4);
    central.writeUInt32LE(entry.mode * 0x10000, 38);
  }
  central.writeUInt32LE(entry.zip64 ? 0xffffffff : offset, 42);
  return { local: Buffer.concat([local, localName, data]), central: Buffer.concat([central, name, extra]) };
}

function zip64Extra(values: readonly number[]): Buffer {
  const extra = Buffer.alloc(4 + 8 * values.length);
  extra.writeUInt16LE(1, 0);
  extra.writeUInt16LE(8 * values.length, 2);
  for (const [i, value] of values.entries()) extra.writeBigUInt64LE(BigInt(value), 4 + 8 * i);
  return extra;
}

function endRecords(count: number, offset: number, bytes: number, { count: claimed, zip64 }: ZipOptions): Buffer {
  const parts: Buffer[] = [];
  if (zip64 !== undefined) {
    const record = Buffer.alloc(56);
    record.writeUInt32LE(0x06064b50, 0);
    record.writeBigUInt64LE(44n, 4);
    record.writeBigUInt64LE(zip64.count, 24);
    record.writeBigUInt64LE(zip64.count, 32);
    record.writeBigUInt64LE(BigInt(bytes), 40);
    record.writeBigUInt64LE(zip64.directoryOffset ?? BigInt(offset), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(zip64.recordOffset ?? BigInt(offset + bytes), 8);
    locator.writeUInt32LE(1, 16);
    parts.push(record, locator);
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(claimed ?? count, 8);
  end.writeUInt16LE(claimed ?? count, 10);
  end.writeUInt32LE(bytes, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, end]);
}
