import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type Logger, readLogger } from "../base/logger.js";
import { OptionReader } from "../base/option_reader.js";
import { textRule } from "../base/rules.js";
import type { ArchiveProgress } from "./progress.js";

export const archiveFormats = ["default", "tgz", "no-archive", "zip-store"] as const;

/**
 * Format of an archive: "default" is `<name>.mar`, a zip with deflated entries; "zip-store" the same,
 * uncompressed; "tgz" is `<name>.tar.gz`; "no-archive" is a folder `<name>`.
 */
export type ArchiveFormat = (typeof archiveFormats)[number];

export const archiveRuntimes = ["python", "python3", "LSP"] as const;

/** The `runtime` of the manifest. TorchServe uses it, shardspeed does not. */
export type ArchiveRuntime = (typeof archiveRuntimes)[number];

/** Options of packArchive(), with the meaning of those of torch-model-archiver. */
export interface PackOptions {
  /** Name of the model, and of the archive: `^[A-Za-z0-9][A-Za-z0-9_\-.]*$`. */
  modelName: string;
  /** Version of the model, such as "1.0". */
  version: string;
  /**
   * File of the handler in JavaScript, TypeScript or Python, or `module:name`, or the name of a handler that comes with
   * shardspeed or TorchServe, which packs no file.
   */
  handler: string;
  /** File with weights. */
  serializedFile?: string;
  /** File with the model's code. */
  modelFile?: string;
  /**
   * Files, folders (their contents go to the root of the archive) and patterns with `*`, `?` and `[...]`: an array, or
   * a comma-separated string. Hidden folders, `__pycache__` and `__MACOSX` are left out.
   */
  extraFiles?: string | readonly string[];
  /** File with the Python packages that the handler needs. */
  requirementsFile?: string;
  /** The `model-config.yaml`. */
  configFile?: string;
  /** Default "default". */
  archiveFormat?: ArchiveFormat;
  /** Existing folder to put the archive into. Default: the current one. */
  exportPath?: string;
  /** Replace an existing archive. Default false: ERR_ARCHIVE. */
  force?: boolean;
  /** Default "python". */
  runtime?: ArchiveRuntime;
  /** Called with the progress. */
  onProgress?: (progress: ArchiveProgress) => void;
  /** Cancels the call with ERR_ABORTED. No partial file remains. */
  signal?: AbortSignal;
  /** Receives warnings. Default: none does. */
  logger?: Logger;
}

/** Checked pack options with all defaults. */
export interface ResolvedPackOptions {
  modelName: string;
  version: string;
  handler: string;
  serializedFile: string | undefined;
  modelFile: string | undefined;
  extraFiles: string[];
  requirementsFile: string | undefined;
  configFile: string | undefined;
  archiveFormat: ArchiveFormat;
  exportPath: string;
  force: boolean;
  runtime: ArchiveRuntime;
  onProgress: ((progress: ArchiveProgress) => void) | undefined;
  signal: AbortSignal | undefined;
  logger: Logger;
}

const packOptionNames = [
  "modelName",
  "version",
  "handler",
  "serializedFile",
  "modelFile",
  "extraFiles",
  "requirementsFile",
  "configFile",
  "archiveFormat",
  "exportPath",
  "force",
  "runtime",
  "onProgress",
  "signal",
  "logger",
] as const satisfies (keyof PackOptions)[];

/** @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected. */
export function resolvePackOptions(options: unknown): ResolvedPackOptions {
  const reader = new OptionReader("packArchive option", options, packOptionNames);
  return {
    modelName: required(reader, "modelName"),
    version: required(reader, "version"),
    handler: required(reader, "handler"),
    serializedFile: reader.text("serializedFile", undefined),
    modelFile: reader.text("modelFile", undefined),
    extraFiles: readExtraFiles(reader.get("extraFiles")),
    requirementsFile: reader.text("requirementsFile", undefined),
    configFile: reader.text("configFile", undefined),
    archiveFormat: reader.choice("archiveFormat", archiveFormats, "default"),
    exportPath: reader.text("exportPath", undefined) ?? process.cwd(),
    force: reader.boolean("force", false),
    runtime: reader.choice("runtime", archiveRuntimes, "python"),
    onProgress: reader.function<(progress: ArchiveProgress) => void>("onProgress"),
    signal: reader.signal("signal"),
    logger: readLogger(reader.get("logger")),
  };
}

function required(reader: OptionReader, name: string): string {
  const value = reader.text(name, undefined);
  if (value === undefined) throw new ShardspeedError("ERR_INVALID_ARGUMENT", `packArchive needs the option ${name}`);
  return value;
}

function readExtraFiles(value: unknown): string[] {
  if (value === undefined) return [];
  if (typeof value === "string" && !value.includes("\0")) {
    // Spaces around a path and empty ones are slips, which the original does not forgive.
    return value
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== "");
  }
  if (Array.isArray(value) && value.every((item) => "value" in textRule(item))) return [...value];
  throw invalidArgument("extraFiles", "a string with commas between the paths, or an array of paths", value);
}
