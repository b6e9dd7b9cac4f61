import { randomUUID } from "node:crypto";
import { realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

/**
 * Writes a text file so that whoever reads it meanwhile sees the old one or the new one, never a part; several processes may do it at
 * once. A temporary file in the same folder is renamed, and removed where that fails. A link stays one: the file that it leads to is
 * replaced. What is no file (/dev/stdout, a pipe) is written to as it is.
 *
 * @throws What the file system says.
 */
export async function replaceFile(file: string, text: string): Promise<void> {
  if (await isDevice(file)) {
    await writeFile(file, text);
    return;
  }
  const target = await realpath(file).catch(() => file); // it is new, or a link that leads nowhere
  const temporary = path.join(path.dirname(target), `.shardspeed-${randomUUID()}.tmp`);
  try {
    await writeFile(temporary, text, { flag: "wx" });
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

async function isDevice(file: string): Promise<boolean> {
  const stats = await stat(file).catch(() => undefined);
  return stats !== undefined && !stats.isFile() && !stats.isDirectory();
}
