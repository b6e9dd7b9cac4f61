import { abortedError, throwIfAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";

/** ERR_ARCHIVE with the file or folder that it is about, and the reason. */
export function archiveError(file: string, reason: string, cause?: unknown): ShardspeedError {
  return plainArchiveError(`${file}: ${reason}`, cause);
}

/** ERR_ARCHIVE with a sentence of its own. */
export function plainArchiveError(message: string, cause?: unknown): ShardspeedError {
  const options = cause === undefined ? {} : { cause };
  return new ShardspeedError("ERR_ARCHIVE", message.replace(/(?!\n)\p{Cc}/gu, escapeControl), options);
}

/** Names in an archive may hold anything: no message should move a terminal's cursor. */
function escapeControl(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

const systemReasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder (or it is a link to one that is gone)",
  ENOTDIR: "a part of the path is not a folder",
  EACCES: "no permission",
  EPERM: "no permission",
  EISDIR: "is a folder, expected a regular file",
  ELOOP: "its links go round in a circle",
  ENAMETOOLONG: "the name or path is too long",
  ENOSPC: "no space is left on the device",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file system takes no file of this size",
  EROFS: "the file system is read-only",
  EMFILE: "too many files are open in this process",
  ENFILE: "too many files are open on this machine",
  EIO: "the disk failed",
  ERR_INVALID_ARG_VALUE: "the path holds a null character",
};

/** The system's code of an error: "ENOENT". Empty where it has none. */
export function systemCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/**
 * What went wrong with a file as an ERR_ARCHIVE. Errors that are ours stay as they are, and a cancelled operation is
 * ERR_ABORTED.
 */
export function toArchiveError(file: string, error: unknown, signal?: AbortSignal): ShardspeedError {
  if (ShardspeedError.isInstance(error)) return error;
  if (signal?.aborted) return abortedError(signal, archiveWork);
  const code = systemCode(error);
  const reason = systemReasons[code] ?? (error instanceof Error ? error.message.slice(0, 300) : String(error));
  return archiveError(file, code === "" ? reason : `${reason} (${code})`, error);
}

const archiveWork = "The work on the archive";

export function checkAborted(signal: AbortSignal | undefined): void {
  throwIfAborted(signal, archiveWork);
}

/** What lies at a path, for messages. */
export function kindOfFile(stats: {
  isFile(): boolean;
  isDirectory(): boolean;
  isFIFO(): boolean;
  isSocket(): boolean;
}): string {
  if (stats.isFile()) return "a regular file";
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a pipe";
  return stats.isSocket() ? "a socket" : "a device";
}
