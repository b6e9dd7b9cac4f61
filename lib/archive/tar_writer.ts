import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { Entry } from "./content.js";
import type { NewFile } from "./new_file.js";
import { encodeTarHeader, tarEnd, tarPadding } from "./tar_header.js";

/** Writes a gzipped tar archive with all entries in one folder. */
export async function writeTar(
  file: NewFile,
  entries: Iterable<Entry>,
  { folder, date, signal }: { folder: string; date: Date; signal: AbortSignal | undefined },
): Promise<void> {
  const blocks = async function* (): AsyncGenerator<Buffer> {
    for (const { name, bytes, content } of entries) {
      yield encodeTarHeader({ name: `${folder}/${name}`, bytes, mode: 0o644, modified: date });
      yield* content();
      yield tarPadding(bytes);
    }
    yield tarEnd;
  };
  const write = async (pieces: AsyncIterable<Buffer>) => {
    for await (const piece of pieces) await file.write(piece);
  };
  await pipeline(blocks, createGzip(), write, signal === undefined ? {} : { signal });
}
