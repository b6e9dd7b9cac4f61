import { crc32 } from "node:zlib";
import type yauzl from "yauzl";
import { isError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { openZip } from "../base/zip_library.js";
import { checkpointError, listed, quote } from "./errors.js";
import { readPickle } from "./pickle.js";
import { pickleLimits } from "./pickle_machine.js";
import { PickleError, type PickleStorage } from "./pickle_values.js";
import { buildTorch, findTorchGlobal, parseStorageId, reduceTorch } from "./torch_globals.js";
import { listStateDict, type NestedStateDict } from "./torch_state.js";
import type { FileTensor, WeightFile } from "./weight_file.js";

/** More than any checkpoint has, one a storage: a bound on time and memory. */
const kMaxRecords = 500_000;

/** Enough for dozens of directory entries, and cheap where it is more than is needed. */
const kReadAheadBytes = 4096;

/** An entry of a zip directory without its name. */
const kLeastEntryBytes = 46;

/** The header before a record's data, without its name. */
const kLocalHeaderBytes = 30;

/** One stored record of the archive. */
interface ZipRecord {
  name: string;
  /** In the file. */
  dataStart: number;
  bytes: number;
  crc32: number;
}

/**
 * The tensors of a file that torch.save wrote since torch 1.6: a zip archive with `<folder>/data.pkl` and one
 * uncompressed record `<folder>/data/<key>` a storage (torch's serialization.py, `_save`).
 *
 * @throws ERR_CHECKPOINT
 */
export async function readTorchZip(file: WeightFile, logger: Logger, nested?: NestedStateDict): Promise<FileTensor[]> {
  const place = { file: file.path };
  const { folder, records } = await readRecords(file);
  await checkByteOrder(file, records.get(`${folder}/byteorder`));
  const pickle = records.get(`${folder}/data.pkl`) as ZipRecord;
  if (pickle.bytes > pickleLimits.bytes) {
    throw checkpointError(place, `has a data.pkl of ${pickle.bytes} bytes, the limit is ${pickleLimits.bytes}`);
  }
  const bytes = await file.read(pickle.dataStart, pickle.bytes);
  const { value, end } = unpickle(file.path, bytes);
  if (end !== bytes.length) {
    throw checkpointError(place, `has ${bytes.length - end} bytes behind the end of the pickle in its data.pkl`);
  }
  const tensors = await listStateDict(file.path, value, locateIn(file.path, folder, records), logger, nested);
  // torch does not compare it, and leaves 0 where it was told not to compute it. Last: other reasons say more.
  if (pickle.crc32 !== 0 && crc32(bytes) !== pickle.crc32) {
    throw checkpointError(place, "has a data.pkl that does not match its checksum: the file is damaged");
  }
  return tensors;
}

function unpickle(file: string, bytes: Buffer) {
  try {
    return readPickle(bytes, {
      findGlobal: findTorchGlobal,
      reduce: reduceTorch,
      build: buildTorch,
      loadPersistent: (id) => {
        const { storage, rest } = parseStorageId(id);
        if (rest.length > 0) throw new PickleError("has a persistent id with too many parts");
        return storage;
      },
    });
  } catch (error) {
    if (error instanceof PickleError) throw checkpointError({ file }, `its pickle ${error.message}`, error);
    throw error;
  }
}

function locateIn(file: string, folder: string, records: ReadonlyMap<string, ZipRecord>) {
  return (storage: PickleStorage, tensor: string): number => {
    const name = `${folder}/data/${storage.key}`;
    const record = records.get(name);
    if (record === undefined) throw checkpointError({ file, tensor }, `its record ${quote(name)} is missing`);
    if (record.bytes < storage.bytes) {
      throw checkpointError(
        { file, tensor },
        `its record ${quote(name)} has ${record.bytes} bytes, but its storage has ${storage.bytes}`,
      );
    }
    return record.dataStart;
  };
}

/** The one folder that all records lie in: it has the name of the file that was saved. */
function findFolder(file: string, names: readonly string[]): string {
  const folders = names.flatMap((name) => /^([^/]+)\/data\.pkl$/.exec(name)?.[1] ?? []);
  const [folder] = folders;
  if (folder === undefined) {
    throw checkpointError(
      { file },
      `is a zip archive, but none that torch.save wrote: it has no data.pkl, found ${listed(names.map(quote)) || "nothing"}`,
    );
  }
  if (folders.length > 1)
    throw checkpointError({ file }, `has more than one data.pkl: in ${listed(folders.map(quote))}`);
  if (names.includes(`${folder}/constants.pkl`) || names.some((name) => name.startsWith(`${folder}/code/`))) {
    throw checkpointError({ file }, "is a TorchScript program, not a checkpoint: save model.state_dict() instead");
  }
  return folder;
}

async function checkByteOrder(file: WeightFile, record: ZipRecord | undefined): Promise<void> {
  // Files before torch 2.1 have none, and those machines were little-endian.
  if (record === undefined) return;
  const order = record.bytes <= 16 ? (await file.read(record.dataStart, record.bytes)).toString("latin1") : "too long";
  if (order === "little") return;
  const shown = order === "big" ? "big-endian" : `of unknown byte order ${quote(order)}`;
  throw checkpointError({ file: file.path }, `is ${shown}, expected little-endian: save it on such a machine`);
}

/** The archive's records by name, and the folder that they lie in. */
async function readRecords(file: WeightFile): Promise<{ folder: string; records: Map<string, ZipRecord> }> {
  try {
    const window = new FileWindow(file);
    const zip = await openZip((...place) => window.copy(...place), file.bytes);
    // Taken before the entries are read, as it moves on with them; its type declares a boolean, it is a position.
    const directory = { name: "the directory", start: Number(zip.readEntryCursor), end: file.bytes };
    const entries = await readEntries(file, zip);
    // Before the records themselves: of another kind of archive it is the kind that should be named.
    const folder = findFolder(file.path, [...entries.keys()]);
    const records = new Map<string, ZipRecord>();
    const spans: Span[] = [directory];
    for (const [name, entry] of entries) {
      const record = await readRecord(file, zip, entry);
      records.set(name, record);
      spans.push({ name, start: entry.relativeOffsetOfLocalHeader, end: record.dataStart + record.bytes });
    }
    checkOverlaps(file.path, spans);
    return { folder, records };
  } catch (error) {
    throw zipError(file.path, error);
  }
}

/** The archive's directory. */
async function readEntries(file: WeightFile, zip: yauzl.ZipFile): Promise<Map<string, yauzl.Entry>> {
  const place = { file: file.path };
  if (!(zip.entryCount <= kMaxRecords && zip.entryCount * kLeastEntryBytes <= file.bytes)) {
    throw checkpointError(place, `claims ${zip.entryCount} records in ${file.bytes} bytes: it is damaged`);
  }
  const entries = new Map<string, yauzl.Entry>();
  for await (const entry of zip.eachEntry()) {
    if (entries.has(entry.fileName)) throw checkpointError(place, `has the record ${quote(entry.fileName)} twice`);
    entries.set(entry.fileName, entry);
  }
  return entries;
}

async function readRecord(file: WeightFile, zip: yauzl.ZipFile, entry: yauzl.Entry): Promise<ZipRecord> {
  const place = { file: file.path };
  const name = quote(entry.fileName);
  if (entry.isEncrypted()) throw checkpointError(place, `has the encrypted record ${name}: torch never encrypts`);
  if (entry.compressionMethod !== 0) {
    throw checkpointError(
      place,
      `has the compressed record ${name} (method ${entry.compressionMethod}), expected stored ones as torch.save ` +
        "writes them: weights are mapped, not unpacked. Save the file again with torch.save",
    );
  }
  if (!(entry.relativeOffsetOfLocalHeader + kLocalHeaderBytes <= file.bytes)) {
    throw checkpointError(
      place,
      `claims that its record ${name} begins at byte ${entry.relativeOffsetOfLocalHeader}, but the file has ` +
        `${file.bytes}: it is truncated or damaged`,
    );
  }
  const header = await zip.readLocalFileHeaderPromise(entry).catch((error: unknown) => {
    throw zipError(file.path, error, `, at its record ${name}`);
  });
  if (header.compressionMethod !== 0 || !header.fileName.equals(entry.fileNameRaw)) {
    throw checkpointError(place, `has two headers of the record ${name} that differ: it is damaged`);
  }
  // With this bit set the sizes follow the data; a size of all ones is in the extra field.
  const sizesFollow = (header.generalPurposeBitFlag & 0x8) !== 0 || header.uncompressedSize === 0xffffffff;
  if (!sizesFollow && header.uncompressedSize !== entry.uncompressedSize) {
    throw checkpointError(
      place,
      `has the record ${name} with ${header.uncompressedSize} bytes in one header and ${entry.uncompressedSize} in the other`,
    );
  }
  const bytes = entry.uncompressedSize;
  if (!(header.fileDataStart + bytes <= file.bytes)) {
    throw checkpointError(
      place,
      `claims ${bytes} bytes for the record ${name} at ${header.fileDataStart}, but the file has ${file.bytes}: ` +
        "it is truncated or damaged",
    );
  }
  return { name: entry.fileName, dataStart: header.fileDataStart, bytes, crc32: entry.crc32 };
}

interface Span {
  name: string;
  start: number;
  end: number;
}

/** Records that share bytes are how a small archive pretends to be a large one. */
function checkOverlaps(file: string, spans: Span[]): void {
  spans.sort((a, b) => a.start - b.start || a.end - b.end);
  for (const [i, span] of spans.entries()) {
    const next = spans[i + 1];
    if (next !== undefined && next.start < span.end) {
      throw checkpointError({ file }, `has records that overlap: ${quote(span.name)} and ${quote(next.name)}`);
    }
  }
}

/** yauzl's own errors have no code; those of reading the file have, and are told elsewhere. */
function zipError(file: string, error: unknown, where = "") {
  if (!isError(error) || "code" in error) return error;
  return checkpointError({ file }, `is not a whole zip archive${where}: ${error.message.slice(0, 300)}`, error);
}

/** Reads through the opened file, which checks positions; those from the archive's directory may be beyond 2^53. */
class FileWindow {
  readonly #file: WeightFile;
  /** What was read last, and some more: yauzl asks for headers piece by piece. */
  #window: Buffer = Buffer.alloc(0);
  #windowStart = 0;

  constructor(file: WeightFile) {
    this.#file = file;
  }

  async copy(buffer: Buffer, offset: number, length: number, position: number): Promise<number> {
    let start = position - this.#windowStart;
    if (!(start >= 0 && start + length <= this.#window.length)) {
      const ahead = Math.max(length, Math.min(kReadAheadBytes, this.#file.bytes - position));
      this.#window = await this.#file.read(position, ahead);
      this.#windowStart = position;
      start = 0;
    }
    return this.#window.copy(buffer, offset, start, start + length);
  }
}
