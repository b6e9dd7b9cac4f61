import { mkdir } from "node:fs/promises";
import path from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { decodeText, readRegularFile } from "../base/regular_file.js";
import { replaceFile } from "../base/replace_file.js";
import { type BenchFlags, type BenchOptions, readBenchOptions } from "../bench/options.js";
import { createReport } from "../bench/report.js";
import { resultFileName, toResultJson } from "../bench/result_json.js";
import { type BenchResult, benchServe } from "../bench/serve.js";
import { formatTable } from "../bench/table.js";
import { Output } from "./output.js";
import { Interrupted, interruptible } from "./report.js";

/** The flags of `shardspeed bench serve`, as commander hands them over. */
interface Flags extends BenchFlags {
  apiKey?: string;
  apiKeyFile?: string;
  readyCheckTimeoutSec?: number;
  saveResult?: boolean;
  saveDetailed?: boolean;
  resultDir?: string;
  resultFilename?: string;
  json?: boolean;
}

/** `shardspeed bench serve`: a table on the standard output. A signal ends the run, and what was measured until then is printed. */
export async function bench(flags: Flags): Promise<void> {
  const readyCheckTimeoutS = flags.readyCheckTimeoutSec ?? flags.readyCheckTimeoutS;
  const options = readBenchOptions({ ...flags, readyCheckTimeoutS }, await readApiKey(flags));
  const output = new Output(process.stdout);
  await interruptible(async (signal) => {
    const progress = progressLine(process.stderr);
    const result = await benchServe(options, { signal, ...progress.hooks }).finally(() => progress.clear());
    await present(result, options, flags, output);
    if (signal.reason instanceof Interrupted) process.exitCode = signal.reason.exitCode;
  });
}

async function present(result: BenchResult, options: BenchOptions, flags: Flags, output: Output): Promise<void> {
  const report = createReport(result, options);
  const toJson = (detailed: boolean) => JSON.stringify(toResultJson(report, result, options, detailed));
  const { saveDetailed = false, resultDir = "." } = flags;
  if (flags.saveResult || saveDetailed) {
    const file = path.join(resultDir, flags.resultFilename ?? resultFileName(result, options));
    await mkdir(path.dirname(file), { recursive: true });
    await replaceFile(file, `${toJson(saveDetailed)}\n`);
    process.stderr.write(`shardspeed: wrote ${file}\n`);
  }
  await output.write(flags.json ? `${toJson(false)}\n` : formatTable(report, result, options));
}

async function readApiKey({ apiKey, apiKeyFile }: Flags): Promise<string | undefined> {
  if (apiKeyFile === undefined) return apiKey ?? (process.env.OPENAI_API_KEY || undefined);
  if (apiKey !== undefined) {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", "Give --api-key or --api-key-file, not both");
  }
  const bytes = await readRegularFile(apiKeyFile, { code: "ERR_INVALID_ARGUMENT", limitBytes: 2 ** 16 });
  const [key = ""] = decodeText(bytes ?? Buffer.alloc(0)).split(/\r?\n/, 1);
  if (key.trim() !== "") return key.trim();
  const found = bytes === undefined ? "There is no file" : "There is no key in the first line of";
  throw new ShardspeedError("ERR_INVALID_ARGUMENT", `${found} ${apiKeyFile} (--api-key-file)`);
}

/** What goes on, in one line, on a terminal only. */
function progressLine(stream: NodeJS.WriteStream) {
  if (!stream.isTTY) return { hooks: {}, clear() {} };
  const show = (text: string) => stream.write(`\r${text}\u001b[K`);
  return {
    hooks: {
      onPhase: (phase: string) => show(phase),
      onEnd: (done: number, total: number) => show(`${done}/${total} requests`),
    },
    clear: () => stream.write("\r\u001b[K"),
  };
}
