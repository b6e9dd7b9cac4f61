import { constants } from "node:fs";
import { access, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { systemCode } from "../base/system_errors.js";
import type { Entry } from "./content.js";
import { archiveError, toArchiveError } from "./errors.js";
import { manifestName } from "./manifest.js";
import { temporaryBeside } from "./new_file.js";

/**
 * Writes entries as files of a folder, which takes the place of `target` when it is whole. Where anything fails, nothing
 * is left, and an earlier target is as it was.
 *
 * @throws What the entries throw, or the system; `existsError` where there is a target and `replace` is not set.
 */
export async function makeFolder(
  target: string,
  { replace, existsError }: { replace: boolean; existsError: () => Error },
  entries: Iterable<Entry>,
): Promise<void> {
  if (replace) await checkReplaceable(target);
  const temporary = temporaryBeside(target);
  try {
    await mkdir(temporary);
    for (const entry of entries) await writeFile(path.join(temporary, entry.name), entry);
    if (replace) await replaceFolder(temporary, target);
    else await renameToNew(temporary, target, existsError);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw error;
  }
}

async function writeFile(file: string, entry: Entry): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const handle = await open(file, "wx", 0o666);
  try {
    for await (const piece of entry.content()) {
      for (let done = 0; done < piece.length; ) done += (await handle.write(piece, done)).bytesWritten;
    }
  } finally {
    await handle.close();
  }
}

/** --force replaces an archive, not any folder that has the model's name by chance. */
async function checkReplaceable(target: string): Promise<void> {
  const names = await readdir(target).catch((error: unknown) => {
    throw toArchiveError(target, error);
  });
  if (names.length === 0) return;
  await access(path.join(target, manifestName), constants.F_OK).catch(() => {
    throw archiveError(
      target,
      `is not replaced: it is a folder without ${manifestName}, so no model archive. Remove it or choose another name`,
    );
  });
}

async function renameToNew(temporary: string, target: string, existsError: () => Error): Promise<void> {
  await rename(temporary, target).catch((error: unknown) => {
    throw ["EEXIST", "ENOTEMPTY", "ENOTDIR"].includes(systemCode(error)) ? existsError() : error;
  });
}

/** No system call for it is at hand, so for a moment there is no folder of that name. */
async function replaceFolder(temporary: string, target: string): Promise<void> {
  const old = temporaryBeside(target);
  await rename(target, old);
  try {
    await rename(temporary, target);
  } catch (error) {
    await rename(old, target);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}
