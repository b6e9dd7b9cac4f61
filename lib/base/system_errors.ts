import type { Stats } from "node:fs";
import { isError } from "./errors.js";

/** What the system's codes say about a file or folder, for messages. */
const reasons: Readonly<Record<string, string>> = {
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
  return isError(error) && "code" in error ? String(error.code) : "";
}

/** Whether there is no room for a file: another try may succeed once there is. */
export function isOutOfSpace(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EFBIG"].includes(systemCode(error));
}

/** Why something could not be done with a file: "no permission (EACCES)". */
export function describeSystemError(error: unknown): string {
  const code = systemCode(error);
  const reason = reasons[code] ?? (isError(error) ? error.message.slice(0, 300) : String(error));
  return code === "" ? reason : `${reason} (${code})`;
}

/** What lies at a path. */
export function kindOfFile(stats: Pick<Stats, "isFile" | "isDirectory" | "isFIFO" | "isSocket">): string {
  if (stats.isFile()) return "a regular file";
  if (stats.isDirectory()) return "a folder";
  if (stats.isFIFO()) return "a pipe";
  return stats.isSocket() ? "a socket" : "a device";
}
