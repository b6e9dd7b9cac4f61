// Prints Markdown of what scripts/gpu-check.sh found, for docs/performance.md: the machine, the parts, tables of figures.
//   node scripts/gpu/report.mjs gpu-check-results.tar.gz   (or the folder)
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

class ReportError extends Error {}

/** Runs body with the folder of reports, which an archive is unpacked to. */
function withFolder(source, body) {
  if (!source || !existsSync(source))
    throw new ReportError(`Found ${source ?? "nothing"}, expected an archive or a folder.`);
  if (statSync(source).isDirectory()) return body(source);
  const temporary = mkdtempSync(path.join(tmpdir(), "gpu-report-"));
  try {
    const { status, stderr } = spawnSync("tar", ["-xzf", source, "-C", temporary], { encoding: "utf8" });
    if (status !== 0) throw new ReportError(`tar cannot read ${source}: ${stderr}`);
    const [folder] = readdirSync(temporary);
    if (folder === undefined) throw new ReportError(`${source} is empty.`);
    return body(path.join(temporary, folder));
  } finally {
    rmSync(temporary, { recursive: true });
  }
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    // A part that was ended while it wrote.
    console.error(`${path.basename(file)} cannot be read: ${error.message}`);
    return undefined;
  }
}

function table(columns, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(columns), line(columns.map((_, i) => (i < 2 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

function figureRow(figure, readBytesPerSecond) {
  const { kernel, model, shape, microseconds, bytes, operations, tokensPerSecond } = figure;
  const perSecond = (amount, unit, digits) =>
    amount === undefined || microseconds === 0 ? "" : (((amount / microseconds) * 1e6) / unit).toFixed(digits);
  const share =
    bytes === undefined || !readBytesPerSecond || microseconds === 0
      ? ""
      : `${((100 * bytes * 1e6) / microseconds / readBytesPerSecond).toFixed(0)} %`;
  return [
    [model, kernel].filter((text) => text !== "").join(", "),
    shape,
    microseconds.toFixed(1),
    perSecond(bytes, 1e9, 0),
    share,
    perSecond(operations, 1e12, 1),
    tokensPerSecond === undefined ? "" : tokensPerSecond.toFixed(1),
  ];
}

function figures(folder) {
  const sections = [];
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith(".json") || name === "results.json" || name === "predictions.json") continue;
    const report = readJson(path.join(folder, name));
    if (report === undefined) continue;
    if (report.smoke) throw new ReportError(`${name} is of a smoke run, whose figures mean nothing.`);
    const rows = report.figures
      .filter(({ part }) => part !== "memory")
      .map((figure) => figureRow(figure, report.readBytesPerSecond));
    const bandwidth = `${report.dtype}; a plain read reaches ${(report.readBytesPerSecond / 1e9).toFixed(0)} GB/s, a copy moves ${(report.copyBytesPerSecond / 1e9).toFixed(0)} GB/s.`;
    const lines = [...report.failures.map((text) => `FAILED: ${text}`), ...report.notes].map((text) => `- ${text}`);
    const columns = ["", "shape", "us", "GB/s", "of read", "TFLOP/s", "tokens/s"];
    sections.push([
      `### ${path.basename(name, ".json")}`,
      bandwidth,
      ...(rows.length > 0 ? [table(columns, rows)] : []),
      ...(lines.length > 0 ? [lines.join("\n")] : []),
    ]);
  }
  return sections.flat();
}

function block(folder, name, title) {
  const file = path.join(folder, name);
  if (!existsSync(file)) return [];
  return [`### ${title}`, `\`\`\`text\n${readFileSync(file, "utf8").trimEnd()}\n\`\`\``];
}

function toMarkdown(folder) {
  const results = readJson(path.join(folder, "results.json"));
  if (results === undefined) throw new ReportError("There is no results.json, so this is no report of gpu-check.sh.");
  const { gpu, computeCapability, driver, nvcc, libraries, date, parts } = results;
  return [
    `## ${gpu}`,
    `Compute capability ${computeCapability}, driver ${driver}, nvcc ${nvcc}; ${libraries}; ${date}.`,
    table(
      ["part", "result", "s"],
      parts.map(({ part, result, seconds }) => [part, result, String(seconds)]),
    ),
    ...figures(folder),
    ...block(folder, "predictions.txt", "Predictions"),
    ...block(folder, "probe.txt", "Probe"),
  ].join("\n\n");
}

try {
  console.log(withFolder(process.argv[2], toMarkdown));
} catch (error) {
  if (!(error instanceof ReportError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
