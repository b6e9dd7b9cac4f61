import { statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { invalidArgument } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { type ArchiveProgress, ProgressReporter } from "./progress.js";

/** Limits for unpacking an archive. */
export interface ExtractLimits {
  /** Maximum number of files and folders. */
  maxFiles: number;
  /** Maximum total size of the files in bytes. Default: 16 GiB, or half of what is free where they are unpacked to if that is less. */
  maxBytes: number;
}

/** Options of openArchive(). */
export interface OpenArchiveOptions {
  /** Default: 10,000 files and folders, 16 GiB or half of the free disk space, whichever is less. An archive above a limit is ERR_ARCHIVE. */
  extractLimits?: Partial<ExtractLimits>;
  /** Called with the progress of unpacking. */
  onProgress?: (progress: ArchiveProgress) => void;
  /** Cancels the call with ERR_ABORTED. No unpacked file remains. */
  signal?: AbortSignal;
}

/** Checked open options with all defaults. */
export interface ResolvedOpenOptions {
  limits: ExtractLimits;
  progress: ProgressReporter;
  signal: AbortSignal | undefined;
}

const defaultMaxFiles = 10_000;
const defaultMaxBytes = 16 * 1024 ** 3;

/** So that no archive fills the disk: what it unpacks to is removed when it fails, and others write meanwhile. */
function survivableBytes(): number {
  try {
    const { bavail, bsize } = statfsSync(tmpdir());
    return Math.max(1, Math.min(defaultMaxBytes, Math.floor((bavail * bsize) / 2)));
  } catch {
    return defaultMaxBytes; // making the temporary folder tells the reason
  }
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected. */
export function resolveOpenOptions(options: unknown): ResolvedOpenOptions {
  const reader = new OptionReader("openArchive option", options, ["extractLimits", "onProgress", "signal"]);
  const given = reader.get("extractLimits");
  const limits = new OptionReader("extractLimits option", given, ["maxFiles", "maxBytes"]);
  return {
    limits: {
      maxFiles: limits.integer("maxFiles", 1, Number.MAX_SAFE_INTEGER, defaultMaxFiles),
      maxBytes: limits.integer("maxBytes", 1, Number.MAX_SAFE_INTEGER, undefined) ?? survivableBytes(),
    },
    progress: new ProgressReporter(reader.function<(progress: ArchiveProgress) => void>("onProgress")),
    signal: reader.signal("signal"),
  };
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no path. */
export function readLocation(location: unknown): string {
  if (typeof location === "string" && location !== "" && !location.includes("\0")) return location;
  throw invalidArgument("location", "the path of an archive or a folder", location);
}
