import type yauzl from "yauzl";
import { packageRequire } from "./package_info.js";

/** Reads `length` bytes at `position` into the buffer; resolves with how many there were. */
export type ReadInto = (buffer: Buffer, offset: number, length: number, position: number) => Promise<number>;

/** Loaded when it is first called for. It is CommonJS, which a bundler that makes ECMAScript modules cannot take in. */
export function zipLibrary(): typeof yauzl {
  return packageRequire("yauzl") as typeof yauzl;
}

/** Opens a zip archive whose bytes `read` gives. yauzl's own reader throws where nobody can catch it if a position is absurd. */
export function openZip(read: ReadInto, bytes: number, options: yauzl.Options = {}): Promise<yauzl.ZipFile> {
  const library = zipLibrary();
  const reader = new (library.RandomAccessReader as unknown as new () => yauzl.RandomAccessReader)();
  // Called in a turn of its own: what throws there must not become a rejection of the read.
  reader.read = (buffer, offset, length, position, callback) =>
    void read(buffer, offset, length, position).then(
      // yauzl wants the count, which its type leaves out.
      (bytesRead) => setImmediate(callback as (...result: unknown[]) => void, null, bytesRead),
      (error: Error) => setImmediate(() => callback(error)),
    );
  return library.fromRandomAccessReaderPromise(reader, bytes, options);
}
