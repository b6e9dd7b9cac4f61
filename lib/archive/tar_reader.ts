import { ByteReader } from "./byte_reader.js";
import { blockBytes, decodePax, decodePaxSize, decodeTarHeader, decodeText, type TarHeader } from "./tar_header.js";

/** An entry of a tar archive. */
export interface TarEntry extends TarHeader {
  /** To be read before the next entry, or not at all. */
  content: AsyncIterable<Buffer>;
}

/** Long names stand in headers of their own; no path has so many bytes. */
const maxHeaderBytes = 1024 * 1024;

/**
 * The entries of a tar archive, with the names and sizes that pax and GNU headers give them. Written for archives of
 * strangers: tar-stream goes round in circles for ever, or holds all in memory, where a header is made for it.
 *
 * @throws RangeError that says how the archive is damaged.
 */
export async function* readTar(pieces: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const reader = new ByteReader(pieces);
  let extended = new Map<string, string>();
  let count = 0;
  for (let header = await readHeader(reader, count); header; header = await readHeader(reader, count)) {
    count++;
    if (["x", "g", "L", "K"].includes(header.type)) {
      extended = await readExtended(reader, header, extended);
      continue;
    }
    const name = extended.get("path") ?? header.name;
    const size = extended.get("size");
    const bytes = size === undefined ? header.bytes : decodePaxSize(size);
    const sparse = [...extended.keys()].some((key) => key.startsWith("GNU.sparse."));
    extended = new Map();
    const content = new Content(reader, bytes);
    yield { name, type: sparse ? "S" : typeOf(header.type, name), bytes, content };
    await content.finish();
  }
  if (extended.size > 0) throw truncated();
  await checkPadding(reader);
}

/** Before pax, folders were files whose names end so. */
function typeOf(type: string, name: string): string {
  if (type === "7") return "0";
  return type === "0" && name.endsWith("/") ? "5" : type;
}

/** undefined at the end, which some writers do not mark. */
async function readHeader(reader: ByteReader, count: number): Promise<TarHeader | undefined> {
  const block = await reader.exactly(blockBytes);
  if (block.length === 0 && count > 0) return undefined;
  if (block.length < blockBytes) throw count === 0 ? new RangeError("holds no tar archive") : truncated();
  return decodeTarHeader(block);
}

/** Reads a header that says more of the entry after it. */
async function readExtended(
  reader: ByteReader,
  { type, bytes }: TarHeader,
  extended: Map<string, string>,
): Promise<Map<string, string>> {
  if (bytes > maxHeaderBytes)
    throw new RangeError(`a tar header has ${bytes} bytes, expected at most ${maxHeaderBytes}`);
  const content = new Content(reader, bytes);
  const data: Buffer[] = [];
  for await (const piece of content) data.push(piece);
  await content.finish();
  const all = Buffer.concat(data);
  if (type === "L") return new Map([...extended, ["path", decodeText(all)]]);
  if (type === "K") return extended;
  const records = decodePax(all);
  if (type === "x") return new Map([...extended, ...records]);
  if (records.has("path") || records.has("size")) throw new RangeError("a global pax header names a path or a size");
  return extended;
}

/** The bytes of an entry, which are followed by zeros up to the next block. */
class Content implements AsyncIterable<Buffer> {
  #left: number;
  readonly #padding: number;

  constructor(
    readonly reader: ByteReader,
    bytes: number,
  ) {
    this.#left = bytes;
    this.#padding = (blockBytes - (bytes % blockBytes)) % blockBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    while (this.#left > 0) {
      const piece = await this.reader.some(this.#left);
      if (piece.length === 0) throw truncated();
      this.#left -= piece.length;
      yield piece;
    }
  }

  async finish(): Promise<void> {
    for await (const _ of this);
    if ((await this.reader.exactly(this.#padding)).length < this.#padding) throw truncated();
  }
}

async function checkPadding(reader: ByteReader): Promise<void> {
  for (let piece = await reader.some(Number.MAX_SAFE_INTEGER); piece.length > 0; ) {
    if (piece.some((byte) => byte !== 0)) throw new RangeError("holds something behind the end of the tar archive");
    piece = await reader.some(Number.MAX_SAFE_INTEGER);
  }
}

function truncated(): RangeError {
  return new RangeError("the tar archive is truncated");
}
