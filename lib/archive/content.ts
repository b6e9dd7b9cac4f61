import type { Stats } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { openRegularFile } from "../base/regular_file.js";
import { archiveError, checkAborted, toArchiveError } from "./errors.js";
import type { Input } from "./inputs.js";
import type { ProgressReporter } from "./progress.js";

/** What stands in an archive. */
export interface Entry {
  name: string;
  bytes: number;
  /** Just as many bytes, in pieces that are the same each time: compressed data then is. */
  content(): AsyncIterable<Buffer>;
}

export const pieceBytes = 256 * 1024;

/** Reads inputs piece by piece, and tells how far it is. */
export class InputReader {
  #doneBytes = 0;

  constructor(
    readonly totalBytes: number,
    readonly progress: ProgressReporter,
    readonly signal: AbortSignal | undefined,
  ) {}

  toEntry(input: Input): Entry {
    return { name: input.name, bytes: input.bytes, content: () => this.#read(input) };
  }

  /** @throws ERR_ARCHIVE where the file cannot be read, or is not as long as it was. */
  async *#read({ source, bytes }: Input): AsyncGenerator<Buffer> {
    const { handle } = await openInput(source);
    try {
      let left = bytes;
      while (left > 0) {
        checkAborted(this.signal);
        const piece = Buffer.allocUnsafe(Math.min(left, pieceBytes));
        await fill(handle, piece, source);
        left -= piece.length;
        this.#doneBytes += piece.length;
        this.progress.report(this.#doneBytes, this.totalBytes);
        yield piece;
      }
      const { bytesRead } = await handle.read(Buffer.alloc(1), 0, 1).catch(failAs(source));
      if (bytesRead > 0) throw archiveError(source, "became longer while it was packed");
    } finally {
      await handle.close();
    }
  }
}

async function fill(handle: FileHandle, piece: Buffer, source: string): Promise<void> {
  let done = 0;
  while (done < piece.length) {
    const { bytesRead } = await handle.read(piece, done, piece.length - done).catch(failAs(source));
    if (bytesRead === 0) throw archiveError(source, "became shorter while it was packed");
    done += bytesRead;
  }
}

/** @throws ERR_ARCHIVE where it cannot be opened or is no regular file. */
export function openInput(file: string): Promise<{ handle: FileHandle; stats: Stats }> {
  return openRegularFile(file, (reason, cause) => archiveError(file, reason, cause));
}

function failAs(file: string): (error: unknown) => never {
  return (error) => {
    throw toArchiveError(file, error);
  };
}
