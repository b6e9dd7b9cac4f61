import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { showName } from "./entry_name.js";
import { archiveError } from "./errors.js";
import type { ResolvedOpenOptions } from "./open_options.js";
import { readTar } from "./tar_reader.js";
import type { UnpackedFolder } from "./unpacked_folder.js";

const kinds: Readonly<Record<string, string>> = {
  "1": "a hard link",
  "2": "a symbolic link",
  "3": "a device",
  "4": "a device",
  "6": "a pipe",
  S: "a sparse file",
};

/** Headers and padding may take this much for each entry. */
const bytesPerEntry = 4096;
/** Zeros at the end. */
const endBytes = 16 * 1024 * 1024;

/** Unpacks a gzipped tar archive as it stands. */
export async function unpackTar(
  archive: string,
  folder: UnpackedFolder,
  { limits, progress, signal }: ResolvedOpenOptions,
): Promise<void> {
  const totalBytes = (await stat(archive)).size;
  const source = createReadStream(archive, { highWaterMark: 1024 * 1024 });
  const gunzip = createGunzip({ chunkSize: 256 * 1024 });
  // Errors of both, and of the signal, come out of gunzip.
  pipeline(source, gunzip, () => {});
  const stop = () => gunzip.destroy();
  signal?.addEventListener("abort", stop, { once: true });
  const most = limits.maxBytes + limits.maxFiles * bytesPerEntry + endBytes;
  const pieces = async function* (): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const piece of gunzip as AsyncIterable<Buffer>) {
      bytes += piece.length;
      // What is no file: headers and zeros without end.
      if (bytes > most) throw archiveError(archive, "unpacks to more bytes than extractLimits allow");
      progress.report(source.bytesRead, totalBytes);
      yield piece;
    }
  };
  try {
    for await (const { name, type, content } of readTar(pieces())) {
      if (type === "5") await folder.addFolder(name);
      else if (type === "0") await folder.addFile(name, content);
      else throw archiveError(archive, `the entry ${showName(name)} is ${describe(type)}, expected a file or a folder`);
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    gunzip.destroy();
    source.destroy();
  }
}

function describe(type: string): string {
  return kinds[type] ?? `of the kind ${JSON.stringify(type)}`;
}
