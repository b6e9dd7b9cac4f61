import { type FileHandle, mkdir, open } from "node:fs/promises";
import path from "node:path";
import { systemCode } from "../base/system_errors.js";
import { showName, splitEntryName, whyBadEntryName } from "./entry_name.js";
import { archiveError, checkAborted, toArchiveError } from "./errors.js";
import type { ExtractLimits } from "./open_options.js";

/**
 * A new folder that an archive is unpacked to. Nothing else is in it, and no links are ever made: so a name without ".."
 * cannot lead out of it.
 */
export class UnpackedFolder {
  readonly #folders = new Set<string>();
  #entries = 0;
  #files = 0;
  #bytes = 0;

  /** `archive` is the file that messages name; `folder` is there and empty. */
  constructor(
    readonly archive: string,
    readonly folder: string,
    readonly limits: ExtractLimits,
    readonly signal: AbortSignal | undefined,
  ) {}

  /** How many files have been added. */
  get files(): number {
    return this.#files;
  }

  async addFolder(name: string): Promise<void> {
    await this.#makeFolders(name, this.#split(name));
  }

  /** Counts what really comes, whatever the archive says of it. */
  async addFile(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    const parts = this.#split(name);
    if (parts.length === 0 || name.endsWith("/")) throw this.#error(name, "is a file without a name");
    await this.#makeFolders(name, parts.slice(0, -1));
    this.#count();
    const handle = await this.#create(name, path.join(this.folder, ...parts));
    try {
      for await (const piece of content) {
        checkAborted(this.signal);
        this.#bytes += piece.length;
        if (this.#bytes > this.limits.maxBytes) {
          const limit = `extractLimits.maxBytes = ${this.limits.maxBytes}`;
          throw archiveError(this.archive, `unpacks to more bytes than ${limit} allows`);
        }
        await this.#write(name, handle, piece);
      }
    } finally {
      await handle.close();
    }
    this.#files++;
  }

  #split(name: string): string[] {
    checkAborted(this.signal);
    const reason = whyBadEntryName(name);
    if (reason !== undefined) throw this.#error(name, reason);
    return splitEntryName(name);
  }

  async #makeFolders(name: string, parts: readonly string[]): Promise<void> {
    let folder = this.folder;
    for (const part of parts) {
      folder = path.join(folder, part);
      if (this.#folders.has(folder)) continue;
      this.#count();
      await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
        // Where the file system takes "A" and "a" for the same name, they are the same folder.
        if (systemCode(error) !== "EEXIST" || !this.#hasAlike(folder)) throw this.#systemError(name, error);
      });
      this.#folders.add(folder);
    }
  }

  #hasAlike(folder: string): boolean {
    const plain = (text: string) => text.normalize("NFD").toLowerCase();
    return [...this.#folders].some((other) => plain(other) === plain(folder));
  }

  /** The file system decides which names are the same; none is written twice. */
  async #create(name: string, file: string): Promise<FileHandle> {
    return open(file, "wx", 0o600).catch((error: unknown) => {
      throw this.#systemError(name, error);
    });
  }

  async #write(name: string, handle: FileHandle, piece: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < piece.length; ) done += (await handle.write(piece, done)).bytesWritten;
    } catch (error) {
      throw this.#systemError(name, error);
    }
  }

  #count(): void {
    this.#entries++;
    if (this.#entries <= this.limits.maxFiles) return;
    const limit = `extractLimits.maxFiles = ${this.limits.maxFiles}`;
    throw archiveError(this.archive, `holds more files and folders than ${limit} allows`);
  }

  #error(name: string, reason: string): Error {
    return archiveError(this.archive, `the entry ${showName(name)} ${reason}`);
  }

  #systemError(name: string, error: unknown): Error {
    const same = ["EEXIST", "ENOTDIR"].includes(systemCode(error));
    if (same) return this.#error(name, "has the name of another entry, or of a folder of one");
    return toArchiveError(`${this.archive}: the entry ${showName(name)}`, error);
  }
}
