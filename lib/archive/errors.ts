import { abortedError, throwIfAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import { describeSystemError } from "../base/system_errors.js";
import { escapeControls } from "../base/text.js";

/** ERR_ARCHIVE with the file or folder that it is about, and the reason. */
export function archiveError(file: string, reason: string, cause?: unknown): ShardspeedError {
  return plainArchiveError(`${file}: ${reason}`, cause);
}

/** ERR_ARCHIVE with a sentence of its own. */
export function plainArchiveError(message: string, cause?: unknown): ShardspeedError {
  const options = cause === undefined ? {} : { cause };
  return new ShardspeedError("ERR_ARCHIVE", message.split("\n").map(escapeControls).join("\n"), options);
}

/**
 * What went wrong with a file as an ERR_ARCHIVE. Errors that are ours stay as they are, and a cancelled operation is
 * ERR_ABORTED.
 */
export function toArchiveError(file: string, error: unknown, signal?: AbortSignal): ShardspeedError {
  if (ShardspeedError.isInstance(error)) return error;
  if (signal?.aborted) return abortedError(signal, archiveWork);
  return archiveError(file, describeSystemError(error), error);
}

const archiveWork = "The work on the archive";

export function checkAborted(signal: AbortSignal | undefined): void {
  throwIfAborted(signal, archiveWork);
}
