// The time of attention on the CPU, beside that of reading the keys and values which it needs:
//
//   npm run bench:attention -- [--threads N] [--repeat N] [--longest TOKENS] [--vs ADDON] [--out FILE]
//
// Attention and reading are measured in turn, and so is the addon that --vs names, of another build.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { loadNative } from "../dist/native/load.js";
import { median, printTable, readCount } from "./figures.mjs";

const shapes = {
  "9/3 x 64": { heads: 9, kvHeads: 3, headDim: 64 },
  "32/8 x 128": { heads: 32, kvHeads: 8, headDim: 128 },
};
/** Of one measurement, the median counts. */
const rounds = 3;
/** All keys and values of a case together, which no cache of a processor holds. */
const leastBytes = 192 << 20;

const decode = (context, sequences) => ({ context, sequences, rows: 1 });
const prefill = (rows, context) => ({ context, sequences: 1, rows });
const cases = [
  decode(128, 1),
  decode(1024, 1),
  decode(8192, 1),
  decode(32768, 1),
  decode(8192, 2),
  decode(1024, 8),
  prefill(512, 512),
  prefill(128, 8192),
];

/** As many layers as are too much for the processor's caches; prompts compute, and need only one. */
function sizeOf(shape, step) {
  const layerBytes = shape.kvHeads * shape.headDim * 8 * step.context * step.sequences;
  return { ...shape, ...step, layers: step.rows > 1 ? 2 : Math.max(2, Math.ceil(leastBytes / layerBytes)) };
}

function measureCase({ name, size, threads, addons, repeat }) {
  const runs = [];
  for (let i = 0; i < repeat; i++) {
    const times = addons.map((addon) => addon.measureAttention(size, threads, rounds));
    runs.push(times.map(({ attend, read }) => ({ attend: median(attend), read: median(read) })));
  }
  const bytes = size.layers * size.sequences * size.context * size.kvHeads * size.headDim * 8;
  const own = (pick) => median(runs.map(([first]) => pick(first)));
  return {
    name,
    ...size,
    threads,
    bytes,
    runs,
    attendMs: own(({ attend }) => attend * 1000) / size.layers,
    readGBs: own(({ read }) => bytes / read / 1e9),
    ratio: own(({ attend, read }) => attend / read),
    speedUp: addons.length > 1 ? median(runs.map(([first, other]) => other.attend / first.attend)) : undefined,
  };
}

function report(results, compares) {
  const titles = ["heads", "threads", "step", "a layer", "KV cache", "read", "attention / reading"];
  printTable([
    [...titles, ...(compares ? ["other / this"] : [])],
    ...results.map(({ name, threads, context, sequences, rows, layers, bytes, attendMs, readGBs, ratio, speedUp }) => [
      name,
      `${threads}`,
      rows > 1 ? `${rows} rows of ${context}` : `${sequences} x 1 of ${context}`,
      `${attendMs.toFixed(3)} ms`,
      `${(bytes / layers / 1e6).toFixed(1)} MB`,
      `${readGBs.toFixed(1)} GB/s`,
      rows > 1 ? "" : `${ratio.toFixed(2)} x`,
      ...(compares ? [`${speedUp.toFixed(2)} x`] : []),
    ]),
  ]);
}

function main() {
  const { values } = parseArgs({
    options: {
      threads: { type: "string", default: String(availableParallelism()) },
      repeat: { type: "string", default: "5" },
      longest: { type: "string", default: "32768" },
      vs: { type: "string" },
      out: { type: "string" },
    },
  });
  const [threads, repeat] = [readCount(values, "threads"), readCount(values, "repeat")];
  const longest = readCount(values, "longest");
  const addons = [loadNative()];
  if (values.vs !== undefined) addons.push(createRequire(import.meta.url)(path.resolve(values.vs)));
  const { kernels } = addons[0].cpuFeatures();
  const results = Object.entries(shapes).flatMap(([name, shape]) =>
    cases
      .filter(({ context }) => context <= longest)
      .map((step) => measureCase({ name, size: sizeOf(shape, step), threads, addons, repeat })),
  );
  console.log(`${kernels} kernels, median of ${repeat} runs in turn`);
  report(results, addons.length > 1);
  if (values.out) writeFileSync(values.out, `${JSON.stringify({ values, kernels, results }, null, 2)}\n`);
}

main();
