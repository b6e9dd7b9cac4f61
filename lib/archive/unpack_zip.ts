import { stat } from "node:fs/promises";
import { showName } from "./entry_name.js";
import { archiveError } from "./errors.js";
import type { ResolvedOpenOptions } from "./open_options.js";
import type { UnpackedFolder } from "./unpacked_folder.js";
import { readZip, type ZipEntry } from "./zip_reader.js";

/** The part of a mode that says what kind of file it is. */
const kindBits = 0o170000;
const regularKinds: readonly number[] = [0, 0o100000];
const otherKinds: ReadonlyMap<number, string> = new Map([
  [0o040000, "a folder without a slash at its end"],
  [0o120000, "a symbolic link"],
  [0o060000, "a device"],
  [0o020000, "a device"],
  [0o010000, "a pipe"],
  [0o140000, "a socket"],
]);

/** Unpacks a zip archive. Its directory says what is in it. */
export async function unpackZip(
  archive: string,
  folder: UnpackedFolder,
  { progress }: ResolvedOpenOptions,
): Promise<void> {
  const totalBytes = (await stat(archive)).size;
  let doneBytes = 0;
  const onRead = (bytes: number) => {
    // More than all: the same bytes may be those of several entries.
    progress.report(Math.min(totalBytes, doneBytes + bytes), totalBytes);
  };
  for await (const entry of readZip(archive)) {
    if (entry.name.endsWith("/") && entry.bytes === 0) {
      await folder.addFolder(entry.name);
      continue;
    }
    const reason = whyNoFile(entry);
    if (reason !== undefined) throw archiveError(archive, `the entry ${showName(entry.name)} ${reason}`);
    await folder.addFile(entry.name, entry.content(onRead));
    doneBytes += entry.compressedBytes;
  }
}

function whyNoFile({ mode, encrypted, method }: ZipEntry): string | undefined {
  const kind = mode & kindBits;
  if (!regularKinds.includes(kind)) {
    return `is ${otherKinds.get(kind) ?? "of an unknown kind"}, expected a file or a folder`;
  }
  if (encrypted) return "is encrypted";
  return method === 0 || method === 8
    ? undefined
    : `is compressed by method ${method}, expected deflate (8) or none (0)`;
}
