// Measures what the engine's features save and cost. See bench/README.md.
//
//   npm run bench:features -- [MODEL] [--shape llama-135m] [--dtype fp16] [--threads N] [--repeat N] [--system-tokens 1000] [--out FILE]
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { initInference } from "../../dist/index.js";
import { printTable, readCount, readDtype } from "../figures.mjs";
import { withRandomCheckpoint } from "../random_checkpoint.mjs";
import { measureFormatMasks } from "./format_masks.mjs";
import { measurePrefixCache } from "./prefix_cache.mjs";

const usage = `usage: npm run bench:features -- [MODEL] [options]

MODEL               model folder; without it random weights, in a temporary folder
--shape SHAPE       of random weights: a name of bench/shapes.mjs, or the path of the config.json of a Llama or OPT
                    model; default llama-135m
--dtype DTYPE       fp16 (default), bf16 or fp32
--threads N         default: all processors
--repeat N          runs of each measurement, the median counts; default 5
--system-tokens N   tokens of the system prompt; default 1000
--out FILE          writes the figures as JSON
`;

/** Each gives a name, figures, and rows: figure, without, with, ratio. */
const measurements = [measurePrefixCache, measureFormatMasks];

async function measure(model, options) {
  const { dtype, threads } = options;
  const engine = await initInference(model, { config: { dtype }, device: "cpu", threads });
  try {
    const ids = Array.from({ length: 32 }, (_, i) => i);
    await engine.generate(ids, { maxNewTokens: 4, ignoreEos: true });
    const found = [];
    for (const one of measurements) found.push(await one(engine, options));
    return found;
  } finally {
    await engine.dispose();
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: "string" },
      dtype: { type: "string", default: "fp16" },
      threads: { type: "string", default: String(availableParallelism()) },
      repeat: { type: "string", default: "5" },
      "system-tokens": { type: "string", default: "1000" },
      out: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const [model] = positionals;
  const shape = values.shape ?? "llama-135m";
  const options = {
    ...{ dtype: readDtype(values), threads: readCount(values, "threads"), repeat: readCount(values, "repeat") },
    systemTokens: readCount(values, "system-tokens"),
  };
  const found =
    model === undefined
      ? await withRandomCheckpoint(shape, (folder) => measure(folder, options))
      : await measure(model, options);
  const name = model === undefined ? shape : path.basename(model);
  console.log(`${name}: ${options.dtype}, ${options.threads} threads, median of ${options.repeat}`);
  printTable([["figure", "without", "with", "with / without"], ...found.flatMap(({ rows }) => rows)]);
  if (values.out === undefined) return;
  const figures = Object.fromEntries(found.map((one) => [one.name, one.figures]));
  const about = { machine: cpus()[0]?.model, node: process.version, date: new Date().toISOString() };
  writeFileSync(values.out, `${JSON.stringify({ ...about, model: name, options, ...figures }, null, 2)}\n`);
}

await main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
