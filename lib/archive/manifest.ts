import path from "node:path";
import { describeJsonError } from "../base/json.js";
import { isObject } from "../base/objects.js";
import { readPackageInfo } from "../base/package_info.js";
import { truncate } from "../base/text.js";
import { whyBadEntryName } from "./entry_name.js";
import { archiveError } from "./errors.js";
import { withoutEntryPoint } from "./handler_file.js";
import { type ArchiveRuntime, archiveRuntimes, type ResolvedPackOptions } from "./pack_options.js";

/** Where the manifest stands in an archive. */
export const manifestName = "MAR-INF/MANIFEST.json";

/** Far more than a manifest has. */
export const maxManifestBytes = 1024 * 1024;

/** `MAR-INF/MANIFEST.json`, in the order in which its keys are written (manifest_components of torch-model-archiver). */
export interface ArchiveManifest {
  /** DD/MM/YYYY HH:MM:SS */
  createdOn?: string;
  /** As torch-model-archiver writes it: "python", "python3" or "LSP". */
  runtime: ArchiveRuntime;
  /** The model's names and files. */
  model: ManifestModel;
  /** Version of the archiver that wrote it. */
  archiverVersion?: string;
  /** A text for people. */
  description?: string;
}

/** The model in a manifest. Files are named by their paths in the archive. */
export interface ManifestModel {
  /** Name that the model is served under. */
  modelName: string;
  /** Path of the weights in the archive, where they are in it. */
  serializedFile?: string;
  /** A file, `module:name`, or the name of a handler that needs no file. */
  handler?: string;
  /** Path of a file with the model's architecture, for Python handlers. */
  modelFile?: string;
  /** Version of the model, such as "1.0". */
  modelVersion: string;
  /** Path of Python requirements. Without effect here. */
  requirementsFile?: string;
  /** Path of its model-config.yaml in the archive. */
  configFile?: string;
  /** A text for people. */
  description?: string;
  /** TorchServe's request envelope. Without effect here. */
  envelope?: string;
}

/** The manifest of a new archive, as torch-model-archiver writes it: two spaces, ASCII only, no newline at the end. */
export function writeManifest(options: ResolvedPackOptions, date: Date): string {
  const { modelName, version, serializedFile, handler, modelFile, requirementsFile, configFile, runtime } = options;
  const named = (key: string, file: string | undefined) => (file === undefined ? {} : { [key]: path.basename(file) });
  const manifest = {
    createdOn: formatDate(date),
    runtime,
    model: {
      modelName,
      ...named("serializedFile", serializedFile),
      handler: path.basename(handler),
      ...named("modelFile", modelFile),
      modelVersion: version,
      ...named("requirementsFile", requirementsFile),
      ...named("configFile", configFile),
    },
    archiverVersion: readPackageInfo().version,
  } satisfies ArchiveManifest;
  return JSON.stringify(manifest, null, 2).replace(/[\u007f-\uffff]/g, (unit) => {
    return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** DD/MM/YYYY HH:MM:SS, in UTC. */
function formatDate(date: Date): string {
  const [day, time] = date.toISOString().split("T") as [string, string];
  return `${day.split("-").reverse().join("/")} ${time.slice(0, 8)}`;
}

/** Keys of a manifest's model that must be there, by what TorchServe refuses (ModelArchive.java, validate). */
const requiredModelKeys = ["modelName", "modelVersion"] as const;
const fileKeys = ["serializedFile", "modelFile", "requirementsFile", "configFile"] as const;
const otherModelKeys = ["handler", "description", "envelope"] as const;

/**
 * The manifest in `bytes`. Keys that are null count as left out; unknown ones are kept.
 *
 * @throws ERR_ARCHIVE that names the key.
 */
export function parseManifest(file: string, bytes: Uint8Array): ArchiveManifest {
  const manifest = asObject(file, "the manifest", parseJson(file, bytes));
  const model = asObject(file, "model", manifest.model);
  for (const key of ["createdOn", "archiverVersion", "description"]) checkText(file, key, manifest[key]);
  for (const key of requiredModelKeys) {
    if (model[key] === undefined) throw archiveError(file, `has no model.${key}, expected a string`);
  }
  for (const key of [...requiredModelKeys, ...fileKeys, ...otherModelKeys]) checkText(file, `model.${key}`, model[key]);
  const { runtime } = manifest;
  if (!archiveRuntimes.includes(runtime as ArchiveRuntime)) {
    const found = runtime === undefined ? "has no runtime" : `has the runtime ${show(runtime)}`;
    throw archiveError(file, `${found}, expected one of ${archiveRuntimes.join(", ")}`);
  }
  checkModelName(file, model.modelName as string);
  const parsed = { ...manifest, model } as unknown as ArchiveManifest;
  for (const key of fileKeys) checkInside(file, key, parsed.model[key]);
  const { handler } = parsed.model;
  checkInside(file, "handler", handler === undefined ? undefined : withoutEntryPoint(handler));
  return parsed;
}

function parseJson(file: string, bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw archiveError(file, "is not valid UTF-8");
  }
  try {
    JSON.parse(text);
    return JSON.parse(quoteScalars(text));
  } catch (error) {
    throw archiveError(file, `is not JSON: ${describeJsonError(text, error)}`, error);
  }
}

/** Keys whose values are text; TorchServe's Java class has the same. */
const textKeys: ReadonlySet<string> = new Set([
  "createdOn",
  "archiverVersion",
  ...requiredModelKeys,
  ...fileKeys,
  ...otherModelKeys,
]);

/**
 * A manifest with `"modelVersion": 1.0`, as people write it, made one with `"1.0"`: TorchServe's parser (Gson) takes a number or a boolean for text
 * as it is written, and JSON.parse keeps "1" only.
 */
function quoteScalars(json: string): string {
  const stringAndScalar = /"([^"\\]*(?:\\.[^"\\]*)*)"(?:(\s*:\s*)(-?\d[-+.\deE]*|true|false))?/gs;
  return json.replace(stringAndScalar, (all, key: string, colon: string, scalar: string | undefined) =>
    scalar !== undefined && textKeys.has(key) ? `"${key}"${colon}"${scalar}"` : all,
  );
}

function asObject(file: string, what: string, value: unknown): Record<string, unknown> {
  if (!isObject(value)) {
    const found = value === undefined ? "is missing" : `is ${show(value)}`;
    throw archiveError(file, `${what} ${found}, expected an object`);
  }
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== null));
}

function checkText(file: string, key: string, value: unknown): void {
  if (value === undefined || (typeof value === "string" && value !== "")) return;
  throw archiveError(file, `has the ${key} ${show(value)}, expected a string that is not empty`);
}

/** Names become parts of paths and URLs. */
function checkModelName(file: string, name: string): void {
  if (!isModelName(name))
    throw archiveError(file, `has the model.modelName ${show(name)}, expected ${modelNamePattern}`);
}

function checkInside(file: string, key: string, value: string | undefined): void {
  if (value === undefined) return;
  const reason = whyBadEntryName(value);
  if (reason !== undefined) throw archiveError(file, `has a model.${key} ${show(value)} that ${reason}`);
}

function show(value: unknown): string {
  // Not as JSON: it may be nested deeper than the stack goes.
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "[...]" : "{...}";
  return truncate(JSON.stringify(value) ?? String(value), 100);
}

/** What the name of a model may be, as torch-model-archiver says it. */
export const modelNamePattern = "^[A-Za-z0-9][A-Za-z0-9_\\-.]*$";

export function isModelName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_\-.]*$/.test(name);
}
