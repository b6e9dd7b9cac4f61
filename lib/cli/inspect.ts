import { stat } from "node:fs/promises";
import path from "node:path";
import { orAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import { findModelFolder } from "../base/hub_cache.js";
import type { Logger } from "../base/logger.js";
import { isObject } from "../base/objects.js";
import { showValue } from "../base/text.js";
import { type ConfigurationReport, describeConfiguration, findModelConfigYaml } from "../serving/configuration.js";
import {
  isModelArchive,
  type ModelFiles,
  nameArchive,
  nameHandler,
  openModelFiles,
  withoutTemporaryFolder,
} from "../serving/model_files.js";
import { examineModel, type ModelReport, modelSections } from "./inspect_model.js";
import { Output } from "./output.js";
import { interruptible } from "./report.js";

interface InspectFlags {
  json?: boolean;
  tensors?: boolean;
  modelConfig?: string;
  config?: string;
  handlerMap?: Record<string, string>;
  adapter?: string;
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
    const report = await orAborted(examine(location, flags, signal), signal);
    const output = new Output(process.stdout);
    await output.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : toText(report, flags.tensors === true));
  });
}

async function examine(location: string, flags: InspectFlags, signal: AbortSignal): Promise<InspectReport> {
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const logger: Logger = { debug() {}, info() {}, warn, error: warn };
  const found = await stat(location).catch(() => undefined);
  if (found !== undefined && (await isModelArchive(location, found.isDirectory()))) {
    const { modelConfig: modelConfigYaml, handlerMap } = flags;
    const files = await openModelFiles(location, { modelConfigYaml, handlerMap, signal, logger });
    await using archive = files.archive;
    const report = await examineArchive(location, files, flags, logger, signal).catch((error: unknown) => {
      throw withoutTemporaryFolder(error, archive, location);
    });
    return { ...report, warnings: warnings.map((warning) => nameArchive(warning, archive, location)) };
  }
  const folder = await findModelFolder(location, "ERR_CHECKPOINT");
  const yaml = await findModelConfigYaml(flags.modelConfig, folder, logger, signal);
  const configuration = describeConfiguration(yaml, flags.config, folder, logger);
  return { archive: null, ...(await examineModel(folder, flags.adapter, logger, signal)), configuration, warnings };
}

async function examineArchive(
  location: string,
  { archive, yaml, handlerSource }: ModelFiles,
  flags: InspectFlags,
  logger: Logger,
  signal: AbortSignal,
): Promise<Omit<InspectReport, "warnings">> {
  const { folder, modelName, version, handler, temporary } = archive;
  const leadsOut = (place: string) => temporary && !isInside(folder, path.resolve(folder, place));
  const named = yaml?.parsed.values.deepspeed.config;
  if (flags.config === undefined && named !== undefined && leadsOut(named)) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `${yaml?.file}: deepspeed.config is ${showValue(named)}, expected a file of the archive: inspect follows no path out of one. ` +
        "Pass the file that is meant with --config.",
    );
  }
  const configuration = describeConfiguration(yaml, flags.config, folder, logger);
  const handledBy = await nameHandler(handlerSource).catch(toWarning(logger, null));
  const model = modelPathOf(yaml?.parsed.raw.handler);
  const isElsewhere = model !== undefined && leadsOut(model);
  if (isElsewhere) {
    logger.warn(
      `handler.model_path is ${showValue(model)}, which is not in the archive: inspect follows no path out of one. Inspect that folder itself.`,
    );
  }
  const report =
    model === undefined || isElsewhere
      ? undefined
      : await examineModel(path.resolve(folder, model), flags.adapter, logger, signal).catch(
          toWarning(logger, undefined),
        );
  return { archive: { path: location, modelName, version, handler, handledBy }, ...report, configuration };
}

/** An archive is shown also where its model is on another machine. */
function toWarning<T>(logger: Logger, instead: T): (error: unknown) => T {
  return (error) => {
    if (!ShardspeedError.isInstance(error) || error.code === "ERR_ABORTED") throw error;
    logger.warn(error.message);
    return instead;
  };
}

/** By names alone: unpacking makes no links. */
function isInside(folder: string, file: string): boolean {
  const inside = path.relative(folder, file);
  return inside !== ".." && !inside.startsWith(`..${path.sep}`) && !path.isAbsolute(inside);
}

function modelPathOf(handler: unknown): string | undefined {
  const model = isObject(handler) ? handler.model_path : undefined;
  return typeof model === "string" ? model : undefined;
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
