import { invalidArgument } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { type ArchiveProgress, ProgressReporter } from "./progress.js";

/** What an archive may grow to when it is unpacked. */
export interface ExtractLimits {
  /** Most files and folders. */
  maxFiles: number;
  /** Most bytes of all files together. */
  maxBytes: number;
}

/** How an archive is opened. */
export interface OpenArchiveOptions {
  /** Default: 10,000 files and folders, 64 GiB. What goes beyond is ERR_ARCHIVE. */
  extractLimits?: Partial<ExtractLimits>;
  /** Called as the work goes on, not for folders. */
  onProgress?: (progress: ArchiveProgress) => void;
  /** Ends the work with ERR_ABORTED; nothing is left behind. */
  signal?: AbortSignal;
}

/** Open options, checked, with their defaults. */
export interface ResolvedOpenOptions {
  limits: ExtractLimits;
  progress: ProgressReporter;
  signal: AbortSignal | undefined;
}

const defaultLimits: ExtractLimits = { maxFiles: 10_000, maxBytes: 64 * 1024 ** 3 };

/** @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected. */
export function resolveOpenOptions(options: unknown): ResolvedOpenOptions {
  const reader = new OptionReader("The options of openArchive", options, ["extractLimits", "onProgress", "signal"]);
  const given = reader.get("extractLimits");
  const limits = new OptionReader("extractLimits", given, ["maxFiles", "maxBytes"]);
  return {
    limits: {
      maxFiles: limits.integer("maxFiles", 1, Number.MAX_SAFE_INTEGER, defaultLimits.maxFiles),
      maxBytes: limits.integer("maxBytes", 1, Number.MAX_SAFE_INTEGER, defaultLimits.maxBytes),
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
