// Speed of a model on this machine, beside the machine's own limits measured in the same run. See bench/README.md.
//
//   npm run bench -- [MODEL] [--shape NAME] [--dtype fp16] [--threads N] [--repeat N] [--out FILE]
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median, printTable, readCount, readDtype } from "./figures.mjs";
import { withRandomCheckpoint } from "./random_checkpoint.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));

const usage = `usage: npm run bench -- [MODEL] [options]

MODEL               model folder; default models/demo
--shape SHAPE       random weights instead, in a temporary folder: a name of bench/shapes.mjs, or the path of the
                    config.json of a Llama or OPT model
--dtype DTYPE       fp16 (default), bf16 or fp32
--threads N         default: all processors
--repeat N          runs of each measurement, the median counts; default 5
--out FILE          writes the figures as JSON
`;

/** Runs a part in a process of its own, so that peak memory is the part's alone. */
function runPart(part, options) {
  const child = spawnSync(process.execPath, [path.join(here, "bench_part.mjs"), part, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 26,
  });
  if (child.signal) process.kill(process.pid, child.signal);
  if (child.status !== 0) throw new Error(`the ${part} part failed with exit code ${child.status}`);
  return JSON.parse(child.stdout.toString());
}

function measure(options) {
  // Before and after: a machine that others share is not always equally quick.
  const limitsBefore = runPart("limits", options);
  const model = runPart("model", options);
  const limitsAfter = runPart("limits", options);
  const limits = {
    readBandwidth: Math.max(limitsBefore.readBandwidth, limitsAfter.readBandwidth),
    fmaPeak: Math.max(limitsBefore.fmaPeak, limitsAfter.fmaPeak),
    kernels: limitsBefore.kernels,
  };
  return {
    machine: cpus()[0]?.model,
    node: process.version,
    date: new Date().toISOString(),
    options,
    limits,
    limitReadings: [limitsBefore, limitsAfter],
    ...model,
  };
}

function report({ options, limits, model, load, prefill, decodeOne, decodeEight, eventLoop, memory }) {
  const gb = (bytes) => `${(bytes / 1e9).toFixed(1)} GB/s`;
  const gflops = (rate) => `${(rate / 1e9).toFixed(0)} GFLOP/s`;
  const percent = (share) => `${(share * 100).toFixed(0)} %`;
  const one = median(decodeOne.tokensPerSecond);
  const eight = median(decodeEight.tokensPerSecond);
  const prefillRate = median(prefill.tokensPerSecond);
  const rows = [
    ["figure", "measured", "machine's limit", "share"],
    ["load (warm)", `${(median(load.ms) / 1000).toFixed(2)} s`, "", ""],
    [
      `prefill, ${prefill.tokens} tokens`,
      `${prefillRate.toFixed(0)} tok/s`,
      `FMA peak ${gflops(limits.fmaPeak)}`,
      percent((prefillRate * prefill.flopsPerToken) / limits.fmaPeak),
    ],
    [
      "decode, 1 sequence",
      `${one.toFixed(1)} tok/s`,
      `read ${gb(limits.readBandwidth)}`,
      percent((one * decodeOne.bytesPerStep) / limits.readBandwidth),
    ],
    [
      "decode, 8 sequences",
      `${eight.toFixed(1)} tok/s`,
      `FMA peak ${gflops(limits.fmaPeak)}`,
      percent((eight * decodeEight.flopsPerToken) / limits.fmaPeak),
    ],
    ["8 sequences / 1 sequence", `${(eight / one).toFixed(2)} x`, "", ""],
    ["event-loop delay, p99", `${eventLoop.delayP99Ms.toFixed(1)} ms`, "", ""],
    [
      "peak RSS",
      `${(memory.peakRssBytes / 1e6).toFixed(0)} MB`,
      `weights ${(memory.weightBytes / 1e6).toFixed(0)} MB + KV cache used ${(memory.kvUsedBytes / 1e6).toFixed(0)} MB`,
      "",
    ],
  ];
  console.log(
    `${model.name}: ${(model.parameters / 1e6).toFixed(1)} M parameters, ${options.dtype}, ${options.threads} threads, ${limits.kernels} kernels, median of ${options.repeat}`,
  );
  printTable(rows);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: "string" },
      dtype: { type: "string", default: "fp16" },
      threads: { type: "string", default: String(availableParallelism()) },
      repeat: { type: "string", default: "5" },
      out: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const { shape } = values;
  const options = {
    ...{ shape, dtype: readDtype(values), threads: readCount(values, "threads"), repeat: readCount(values, "repeat") },
    model: positionals[0] ?? path.join(here, "../models/demo"),
  };
  const figures =
    shape === undefined
      ? measure(options)
      : await withRandomCheckpoint(shape, (model) => measure({ ...options, model }));
  report(figures);
  if (values.out) writeFileSync(values.out, `${JSON.stringify(figures, null, 2)}\n`);
}

await main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
