// A part of bench.mjs, in a process of its own: node bench_part.mjs limits|model OPTIONS. Prints JSON.
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";
import { initInference } from "../dist/index.js";
import { loadNative } from "../dist/native/load.js";

const bandwidthBytes = 512 << 20;
const decodeTokens = 96;

function measureLimits({ threads, repeat }) {
  const binding = loadNative();
  return {
    readBandwidth: binding.measureReadBandwidth(bandwidthBytes, threads, repeat + 3),
    fmaPeak: binding.measureFmaPeak(threads, repeat + 3),
    kernels: binding.cpuFeatures().kernels,
  };
}

/** Sizes that the figures are reckoned from. With one rank the shapes of the tensors are those of the whole model. */
function readSizes({ tensors }) {
  const shapeOf = (role) => tensors.find((tensor) => tensor.role === role)?.shape;
  const elements = ({ shape }) => shape.reduce((a, b) => a * b);
  const sum = (some) => some.reduce((total, tensor) => total + elements(tensor), 0);
  const isMatrix = ({ role, shape }) => shape.length === 2 && !role.startsWith("embed.") && role !== "head.weight";
  const isProjection = ({ role }) => /^embed\.project/.test(role);
  const [vocabulary, width] = shapeOf("embed.tokens.weight");
  return {
    vocabulary,
    layers: new Set(tensors.map(({ role }) => /^layers\.(\d+)\./.exec(role)?.[1])).size - 1,
    queryRows: shapeOf("layers.0.attn.q.weight")[0],
    keyRows: shapeOf("layers.0.attn.k.weight")[0],
    // Elements of all matrices that a token meets, without and with the head, which only rows that get logits meet.
    body: sum(tensors.filter((tensor) => isMatrix(tensor) || isProjection(tensor))),
    head: vocabulary * width,
    parameters: sum(tensors),
  };
}

/** Multiplications and additions of attention for a token that sees `context` others. */
function attentionFlops({ layers, queryRows }, context) {
  return layers * 4 * queryRows * context;
}

function prompt(vocabulary, length, seed) {
  return Array.from({ length }, (_, i) => (i * 7919 + seed * 104729 + 3) % vocabulary);
}

/** New tokens a second over all sequences, while all of them decode. */
async function decode(engine, vocabulary, sequences) {
  const starts = [];
  await Promise.all(
    Array.from({ length: sequences }, async (_, n) => {
      const options = { maxNewTokens: decodeTokens, ignoreEos: true };
      for await (const chunk of engine.stream(prompt(vocabulary, 16, n), options)) {
        for (const _id of chunk.ids) starts.push(performance.now());
      }
    }),
  );
  // The first tokens come from prefill; every later step gives one to each sequence.
  const timed = starts.slice(sequences);
  return (timed.length * 1000) / (timed.at(-1) - starts[sequences - 1]);
}

async function measureModel(options) {
  const loadTimes = [];
  let engine;
  const { model, dtype, threads, repeat } = options;
  for (let i = 0; i < repeat; i++) {
    await engine?.dispose();
    const start = performance.now();
    engine = await initInference(model, { config: { dtype }, device: "cpu", threads, prefixCache: false });
    loadTimes.push(performance.now() - start);
  }
  const sizes = readSizes(engine.module);
  const { vocabulary, layers, keyRows, body, head, parameters } = sizes;
  const elementBytes = dtype === "fp32" ? 4 : 2;
  const prefillTokens = Math.min(512, engine.contextTokens - 1);
  const prefillRates = [];
  const oneRates = [];
  const eightRates = [];
  let kvUsedBytes = 0;
  const watch = setInterval(() => {
    const { kvCache, memory } = engine.stats();
    kvUsedBytes = Math.max(kvUsedBytes, (kvCache.pagesUsed / kvCache.pagesTotal) * memory[0].kvCacheBytes);
  }, 5);
  await engine.generate(prompt(vocabulary, 32, 1), { maxNewTokens: 4, ignoreEos: true });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  for (let i = 0; i < repeat; i++) {
    const { timings } = await engine.generate(prompt(vocabulary, prefillTokens, i), {
      maxNewTokens: 1,
      ignoreEos: true,
    });
    prefillRates.push((prefillTokens * 1000) / timings.firstTokenMs);
    oneRates.push(await decode(engine, vocabulary, 1));
    eightRates.push(await decode(engine, vocabulary, 8));
  }
  delay.disable();
  clearInterval(watch);
  const { weightBytes, kvCacheBytes } = engine.stats().memory[0];
  await engine.dispose();
  const meanContext = 16 + decodeTokens / 2;
  const kvBytes = layers * 2 * keyRows * 4 * meanContext;
  const decodeFlops = 2 * (body + head) + attentionFlops(sizes, meanContext);
  return {
    model: { name: options.shape ?? path.basename(model), parameters },
    load: { ms: loadTimes },
    prefill: {
      tokens: prefillTokens,
      tokensPerSecond: prefillRates,
      flopsPerToken: 2 * body + (2 * head) / prefillTokens + attentionFlops(sizes, prefillTokens / 2),
    },
    decodeOne: {
      tokensPerSecond: oneRates,
      bytesPerStep: (body + head) * elementBytes + kvBytes,
      flopsPerToken: decodeFlops,
    },
    decodeEight: {
      tokensPerSecond: eightRates,
      bytesPerStep: (body + head) * elementBytes + 8 * kvBytes,
      flopsPerToken: decodeFlops,
    },
    eventLoop: { delayP99Ms: delay.percentile(99) / 1e6, delayMaxMs: delay.max / 1e6 },
    memory: { peakRssBytes: process.resourceUsage().maxRSS * 1024, weightBytes, kvCacheBytes, kvUsedBytes },
  };
}

const [part, json] = process.argv.slice(2);
const options = JSON.parse(json);
process.stdout.write(JSON.stringify(part === "limits" ? measureLimits(options) : await measureModel(options)));
