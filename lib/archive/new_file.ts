import { randomBytes } from "node:crypto";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { systemCode } from "../base/system_errors.js";

/** A path beside `target`, on the same file system, that nobody else uses. */
export function temporaryBeside(target: string): string {
  return path.join(path.dirname(target), `.shardspeed-${randomBytes(8).toString("hex")}`);
}

/** A file in the making: it has another name until it is whole. */
export class NewFile {
  #position = 0;

  private constructor(
    readonly target: string,
    readonly temporary: string,
    readonly handle: FileHandle,
  ) {}

  /**
   * Lets `body` write a file, which then takes the place of `target`, at once. Where anything fails, nothing is left.
   *
   * @throws What `body` throws, or the system; `existsError` where there is a target and `replace` is not set.
   */
  static async make(
    target: string,
    { replace, existsError }: { replace: boolean; existsError: () => Error },
    body: (file: NewFile) => Promise<void>,
  ): Promise<void> {
    const temporary = temporaryBeside(target);
    try {
      const handle = await open(temporary, "wx", 0o666);
      try {
        await body(new NewFile(target, temporary, handle));
        // Else a crash of the machine could leave the name without the contents.
        await handle.datasync();
      } finally {
        await handle.close();
      }
      if (replace) await rename(temporary, target);
      else await renameToNew(temporary, target, existsError);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
  }

  get position(): number {
    return this.#position;
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.writeAt(bytes, this.#position);
    this.#position += bytes.length;
  }

  /** Over what has been written there. */
  async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      done += (await this.handle.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
    }
  }
}

/** Unlike rename, a link does not replace what has come to be there in the meantime. */
async function renameToNew(temporary: string, target: string, existsError: () => Error): Promise<void> {
  try {
    await link(temporary, target);
  } catch (error) {
    if (systemCode(error) === "EEXIST") throw existsError();
    // A file system without links.
    await rename(temporary, target);
    return;
  }
  await rm(temporary);
}
