import { createReadStream } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { pipeline, type Readable } from "node:stream";
import { crc32, createInflateRaw } from "node:zlib";
import type yauzl from "yauzl";
import { openZip, type ReadInto, zipLibrary } from "../base/zip_library.js";
import { openInput } from "./content.js";

/** An entry as the archive's directory describes it. */
export interface ZipEntry {
  name: string;
  /** Kind and permissions of a file, as Unix has them; 0 in archives of other systems. */
  mode: number;
  encrypted: boolean;
  /** 0: stored, 8: deflated. */
  method: number;
  compressedBytes: number;
  bytes: number;
  /** @throws RangeError where it is not what the directory says. */
  content(onRead?: (compressedBytes: number) => void): AsyncIterable<Buffer>;
}

const headerBytes = 46;
const endRecordBytes = 22;
const max16 = 0xffff;
const max32 = 0xffffffff;

/**
 * The entries of a zip archive, in the order of its directory.
 *
 * @throws RangeError or an error of yauzl that says how the archive is damaged.
 */
export async function* readZip(archive: string): AsyncGenerator<ZipEntry> {
  const { handle } = await openInput(archive);
  try {
    const { size } = await handle.stat();
    // Names as they stand: what yauzl has against them, it says without the name of the archive.
    const zip = await openZip(readWithin(handle, size), size, { autoClose: false, decodeStrings: false });
    let directoryBytes = 0;
    for await (const entry of zip.eachEntry()) {
      directoryBytes += headerBytes + entry.fileNameLength + entry.extraFieldLength + entry.fileCommentLength;
      yield {
        // Strict: else backslashes become slashes.
        name: zipLibrary().getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, true),
        mode: entry.externalFileAttributes >>> 16,
        encrypted: entry.isEncrypted(),
        method: entry.compressionMethod,
        compressedBytes: entry.compressedSize,
        bytes: entry.uncompressedSize,
        content: (onRead) => readContent(archive, zip, entry, onRead),
      };
    }
    await checkDirectory(handle, zip, directoryBytes);
  } finally {
    await handle.close();
  }
}

/** Reads of the file, none beyond its end. */
function readWithin(handle: FileHandle, bytes: number): ReadInto {
  return async (buffer, offset, length, position) => {
    if (!(position >= 0 && position + length <= bytes)) throw new RangeError("it points beyond its end");
    return (await handle.read(buffer, offset, length, position)).bytesRead;
  };
}

/** Not by yauzl's streams: where one of these fails, others may stay open. */
async function* readContent(
  archive: string,
  zip: yauzl.ZipFile,
  entry: yauzl.Entry,
  onRead: ((compressedBytes: number) => void) | undefined,
): AsyncGenerator<Buffer> {
  const { compressedSize, uncompressedSize } = entry;
  const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true });
  let sum = 0;
  let bytes = 0;
  if (compressedSize > 0) {
    const source = createReadStream(archive, { start: fileDataStart, end: fileDataStart + compressedSize - 1 });
    const stream = entry.compressionMethod === 0 ? source : inflate(source);
    try {
      for await (const piece of stream as AsyncIterable<Buffer>) {
        sum = crc32(piece, sum);
        bytes += piece.length;
        if (bytes > uncompressedSize) break;
        onRead?.(source.bytesRead);
        yield piece;
      }
    } finally {
      stream.destroy();
      source.destroy();
    }
  }
  if (bytes !== uncompressedSize) throw new RangeError("the length of an entry is not what its directory says");
  if (sum !== entry.crc32) throw new RangeError("the checksum of an entry is wrong");
}

function inflate(source: Readable): Readable {
  // Errors of both come out of it.
  return pipeline(source, createInflateRaw({ chunkSize: 256 * 1024 }), () => {});
}

/** A directory that has more entries than the end record counts would otherwise be read in part. */
async function checkDirectory(handle: FileHandle, zip: yauzl.ZipFile, bytes: number): Promise<void> {
  const start = zip.fileSize - zip.comment.length - endRecordBytes;
  const { buffer: end } = await handle.read(Buffer.alloc(endRecordBytes), 0, endRecordBytes, start);
  const [entries, size, offset] = [end.readUInt16LE(10), end.readUInt32LE(12), end.readUInt32LE(16)];
  // In archives of many files or gigabytes these stand elsewhere.
  if (entries === max16 || size === max32 || offset === max32) return;
  if (size !== bytes || offset + size > start) throw new RangeError("its directory is not as long as its end says");
}
