import { stat } from "node:fs/promises";
import path from "node:path";
import { manifestName } from "../archive/manifest.js";
import { type ModelArchive, openArchive } from "../archive/open.js";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { splitSpec } from "../handler/load_handler.js";
import { findHandler, type HandlerSource } from "../handler/resolve_handler.js";
import { type ConfigurationReport, readConfiguration } from "./effective_config.js";
import { examineModel, type ModelReport, modelSections } from "./inspect_model.js";
import { Output } from "./output.js";
import { interruptible } from "./report.js";

interface InspectFlags {
  json?: boolean;
  tensors?: boolean;
  modelConfig?: string;
  config?: string;
  handlerMap?: Record<string, string>;
}

/** What a model archive says of itself. */
interface ArchiveReport {
  path: string;
  modelName: string;
  version: string;
  handler: string;
  /** What runs it here; null where nothing does, which is among the warnings. */
  handledBy: string | null;
}

/** What `shardspeed inspect --json` prints: of an archive, the model's part only where the archive says where the model is. */
type InspectReport = { archive: ArchiveReport | null } & Partial<ModelReport> & {
    configuration: ConfigurationReport;
    warnings: string[];
  };

/** `shardspeed inspect`: what a model folder or an archive holds and needs, from headers. */
export async function inspect(location: string, flags: InspectFlags): Promise<void> {
  await interruptible(async (signal) => {
    const report = await examine(location, flags, signal);
    const output = new Output(process.stdout);
    await output.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : toText(report, flags.tensors === true));
  });
}

async function examine(location: string, flags: InspectFlags, signal: AbortSignal): Promise<InspectReport> {
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const logger: Logger = { debug() {}, info() {}, warn, error: warn };
  if (await isArchive(location)) {
    await using archive = await openArchive(location, { signal });
    const report = await examineArchive(location, archive, flags, logger, signal).catch((error: unknown) => {
      if (!ShardspeedError.isInstance(error)) throw error;
      throw new ShardspeedError(error.code, withoutFolder(error.message, archive, location), { cause: error });
    });
    return { ...report, warnings: warnings.map((warning) => withoutFolder(warning, archive, location)) };
  }
  const files = { modelConfig: flags.modelConfig, deepSpeed: flags.config, folder: location };
  const { handler: _, ...configuration } = await readConfiguration(files, logger);
  return { archive: null, ...(await examineModel(location, logger, signal)), configuration, warnings };
}

/** Files are archives; a folder is one where it has a manifest, or a model-config.yaml and no model of its own. */
async function isArchive(location: string): Promise<boolean> {
  const has = async (name: string) => isThere(path.join(location, name));
  const found = await stat(location).catch(() => undefined);
  if (!found?.isDirectory()) return found !== undefined;
  return (await has(manifestName)) || ((await has("model-config.yaml")) && !(await has("config.json")));
}

async function isThere(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined)) !== undefined;
}

/** The folder that an archive was unpacked to is gone when its name is read. */
function withoutFolder(text: string, { folder, temporary }: ModelArchive, location: string): string {
  return temporary ? text.replaceAll(`${folder}${path.sep}`, `${location}: `) : text;
}

async function examineArchive(
  location: string,
  archive: ModelArchive,
  flags: InspectFlags,
  logger: Logger,
  signal: AbortSignal,
): Promise<Omit<InspectReport, "warnings">> {
  const { folder, modelName, version, handler } = archive;
  const files = { modelConfig: flags.modelConfig ?? archive.configFile, deepSpeed: flags.config, folder };
  const { handler: section, ...configuration } = await readConfiguration(files, logger);
  const source = { handler, modelDir: folder, yaml: { handler: section }, handlerMap: flags.handlerMap ?? {} };
  const handledBy = await nameHandler(source).catch(toWarning(logger, null));
  const model = modelPathOf(section);
  const report =
    model === undefined
      ? undefined
      : await examineModel(path.resolve(folder, model), logger, signal).catch(toWarning(logger, undefined));
  return { archive: { path: location, modelName, version, handler, handledBy }, ...report, configuration };
}

/** Of a module only the name: to load it would run it, and who looks into an archive may not trust it yet. */
async function nameHandler(source: HandlerSource): Promise<string> {
  const found = await findHandler(source);
  if ("shipped" in found) return found.shipped.name;
  const { file } = splitSpec(found.module);
  if (await isThere(path.resolve(source.modelDir, file))) return found.module;
  throw new ShardspeedError("ERR_HANDLER", `The model's handler is ${found.module}, but there is no ${file} in it.`);
}

/** An archive is shown also where its model is on another machine. */
function toWarning<T>(logger: Logger, instead: T): (error: unknown) => T {
  return (error) => {
    if (!ShardspeedError.isInstance(error) || error.code === "ERR_ABORTED") throw error;
    logger.warn(error.message);
    return instead;
  };
}

function modelPathOf(handler: unknown): string | undefined {
  if (typeof handler !== "object" || handler === null || !("model_path" in handler)) return undefined;
  return typeof handler.model_path === "string" ? handler.model_path : undefined;
}

function toText(report: InspectReport, allTensors: boolean): string {
  const sections: [title: string, rows: string[][]][] = [
    ...(report.archive === null ? [] : [["Archive", archiveRows(report.archive)] as [string, string[][]]]),
    ...(report.spec === undefined ? [] : modelSections(report as ModelReport, allTensors)),
    ...configurationSections(report.configuration),
  ];
  if (report.warnings.length > 0) sections.push(["Warnings", report.warnings.map((warning) => [warning])]);
  return sections.map(([title, rows]) => section(title, rows)).join("");
}

function archiveRows({ path: file, modelName, version, handler, handledBy }: ArchiveReport): string[][] {
  return [
    ["archive", file],
    ["model", `${modelName}, version ${version}`],
    ["handler", handler],
    ["handled by", handledBy ?? "nothing: see the warnings"],
  ];
}

function configurationSections({ modelConfig, deepSpeed }: ConfigurationReport): [string, string[][]][] {
  const shown = (value: unknown) => (value === undefined ? "" : JSON.stringify(value));
  const sections: [string, string[][]][] = [];
  if (modelConfig) {
    const rows = modelConfig.settings.map(({ key, value, source, place }) => [key, shown(value), place ?? source]);
    sections.push([`Settings (${modelConfig.file})`, rows]);
  }
  if (deepSpeed) {
    const rows = deepSpeed.settings.map(({ key, value, source, written }) => [
      key,
      shown(value),
      written === undefined ? source : `${source}, as ${written}`,
    ]);
    sections.push([`DeepSpeed config (${deepSpeed.file})`, rows]);
  }
  return sections;
}

function section(title: string, rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  const lines = rows.map(
    (row) => `  ${row.map((cell, i) => (i < row.length - 1 ? cell.padEnd(widths[i] as number) : cell)).join("  ")}`,
  );
  return `${title}\n${lines.map((line) => `${line.trimEnd()}\n`).join("")}\n`;
}
