import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type * as TarStream from "tar-stream";
import { lazyLibrary } from "../base/lazy_library.js";
import type { Entry } from "./content.js";
import type { NewFile } from "./new_file.js";

const tarLibrary = lazyLibrary<typeof TarStream>("tar-stream");

/** The header keeps seconds in 32 bits. */
const latest = new Date((2 ** 31 - 1) * 1000);

/** Writes a gzipped tar archive with all entries in one folder. */
export async function writeTar(
  file: NewFile,
  entries: Iterable<Entry>,
  { folder, date, signal }: { folder: string; date: Date; signal: AbortSignal | undefined },
): Promise<void> {
  const pack = tarLibrary().pack();
  const sink = new Writable({
    write: (piece: Buffer, _encoding, done) => void file.write(piece).then(() => done(), done),
  });
  const writing = pipeline(pack, createGzip(), sink, signal === undefined ? {} : { signal });
  // It may fail while an entry is awaited; it is looked at below.
  writing.catch(() => {});
  const mtime = date < latest ? date : latest;
  try {
    for (const { name, bytes, content } of entries) {
      const entry = pack.entry({ name: `${folder}/${name}`, size: bytes, mtime, mode: 0o644, uid: 0, gid: 0 });
      await pipeline(content, entry);
    }
    pack.finalize();
  } catch (error) {
    pack.destroy();
    // A full disk, say: then the entry only knows that the archive is gone.
    await writing.catch((cause: unknown) => {
      throw sink.errored === null ? error : cause;
    });
    throw error;
  }
  await writing;
}
