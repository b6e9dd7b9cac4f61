// How much faster ranks are together, and what their sums take:
//
//   npm run bench:ranks -- [--shape llama-1b] [--dtype fp16] [--repeat 5] [--out FILE]
//
// One rank and two ranks (threads of this process, one CPU thread each) write tokens in turn, so that both see the same machine.
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { initInference } from "../dist/index.js";
import { loadNative } from "../dist/native/load.js";
import { median, printTable, readCount, readDtype } from "./figures.mjs";
import { withRandomCheckpoint } from "./random_checkpoint.mjs";

const newTokens = 64;
const rounds = 2000;
const sizes = [4, 16, 64, 256, 1024].map((kilobytes) => kilobytes << 10);

function open(model, dtype, tpSize) {
  const config = { dtype, tensor_parallel: { tp_size: tpSize }, max_out_tokens: 512 };
  return initInference(model, { config, device: "cpu", threads: 1, kvCacheBytes: 256 << 20, prefixCache: false });
}

/** New tokens a second behind the first, and the share of the steps' time that sums over ranks took. */
async function decode(engine) {
  const before = engine.stats().timings;
  const times = [];
  for await (const chunk of engine.stream([1, 2, 3, 4], { maxNewTokens: newTokens, ignoreEos: true }))
    for (const _id of chunk.ids) times.push(performance.now());
  const after = engine.stats().timings;
  return {
    tokensPerSecond: ((times.length - 1) * 1000) / (times.at(-1) - times[0]),
    allReduceShare: (after.allReduceMs - before.allReduceMs) / (after.stepMs - before.stepMs),
  };
}

async function measureScaling(model, dtype, repeat) {
  const binding = loadNative();
  const read = (threads) => binding.measureReadBandwidth(512 << 20, threads, 4);
  const engines = [await open(model, dtype, 1), await open(model, dtype, 2)];
  const runs = [];
  try {
    for (const engine of engines) await decode(engine);
    for (let i = 0; i < repeat; i++) {
      const [one, two] = [await decode(engines[0]), await decode(engines[1])];
      const bandwidth = { one: read(1), two: read(2) };
      runs.push({ one, two, bandwidth, ratio: two.tokensPerSecond / one.tokensPerSecond });
    }
  } finally {
    for (const engine of engines) await engine.dispose();
  }
  return runs;
}

function measureLatency(ranks, repeat) {
  const binding = loadNative();
  return sizes.map((bytes) => {
    const often = Math.max(50, Math.round((rounds * 65536) / Math.max(bytes, 65536)));
    const repeated = (measure) => median(Array.from({ length: repeat }, measure)) * 1e6;
    return {
      bytes,
      allReduceUs: repeated(() => binding.measureAllReduce(ranks, bytes, often)),
      copyUs: repeated(() => binding.measureCopy(bytes, often)),
    };
  });
}

async function main() {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "llama-1b" },
      dtype: { type: "string", default: "fp16" },
      repeat: { type: "string", default: "5" },
      out: { type: "string" },
    },
  });
  const [repeat, dtype] = [readCount(values, "repeat"), readDtype(values)];
  const latency = measureLatency(2, repeat);
  const runs = await withRandomCheckpoint(values.shape, (model) => measureScaling(model, dtype, repeat));
  const of = (read) => median(runs.map(read));
  console.log(`${values.shape}, ${dtype}, one thread a rank, median of ${repeat} runs in turn`);
  printTable([
    ["decode, tp_size 1", `${of(({ one }) => one.tokensPerSecond).toFixed(2)} tok/s`],
    ["decode, tp_size 2", `${of(({ two }) => two.tokensPerSecond).toFixed(2)} tok/s`],
    ["tp_size 2 / tp_size 1", `${of(({ ratio }) => ratio).toFixed(2)} x`],
    ["read bandwidth, 1 thread", `${of(({ bandwidth }) => bandwidth.one / 1e9).toFixed(1)} GB/s`],
    ["read bandwidth, 2 threads", `${of(({ bandwidth }) => bandwidth.two / 1e9).toFixed(1)} GB/s`],
    ["all-reduce's share of a step", `${(100 * of(({ two }) => two.allReduceShare)).toFixed(1)} %`],
  ]);
  console.log("\nall-reduce of 2 ranks, beside one copy of as many bytes");
  printTable([
    ["bytes", "all-reduce", "memcpy"],
    ...latency.map(({ bytes, allReduceUs, copyUs }) => [
      `${bytes >> 10} KB`,
      `${allReduceUs.toFixed(1)} us`,
      `${copyUs.toFixed(1)} us`,
    ]),
  ]);
  if (values.out) writeFileSync(values.out, `${JSON.stringify({ values, runs, latency }, null, 2)}\n`);
}

await main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
