// A part of bench.mjs, in a process of its own: node bench_part.mjs limits|model OPTIONS. Prints JSON.
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";
import { resolveConfig } from "../dist/config.js";
import { initInference } from "../dist/index.js";
import { startEngine } from "../dist/loading/init.js";
import { resolveInitOptions } from "../dist/loading/options.js";
import { describeModel } from "../dist/models/index.js";
import { loadNative } from "../dist/native/load.js";
import { readShape } from "./read_shape.mjs";

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

async function load({ model, shape, dtype, threads }) {
  if (shape === undefined) return initInference(model, { config: { dtype }, threads });
  const { spec } = describeModel(readShape(shape));
  const config = await resolveConfig({ dtype });
  const prepared = {
    spec,
    weights: null,
    dtype: config.dtype,
    maxSequenceTokens: spec.maxPositions,
    tokenizer: undefined,
  };
  return startEngine(
    { ...prepared, generationDefaults: { eosTokenIds: [] } },
    resolveInitOptions({ device: "cpu", threads }),
  );
}

/** Elements of all matrices that a token meets, without and with the head, which only rows that get logits meet. */
function countElements(spec) {
  const attention = (2 * spec.heads + 2 * spec.kvHeads) * spec.headDim * spec.hiddenSize;
  const ffn = (spec.gatedFfn ? 3 : 2) * spec.ffnSize * spec.hiddenSize;
  const projections = spec.embeddingSize === spec.hiddenSize ? 0 : 2 * spec.embeddingSize * spec.hiddenSize;
  const layers = spec.layers * (attention + ffn) + projections;
  const head = spec.vocabSize * spec.embeddingSize;
  const positions = spec.positions === "learned" ? spec.maxPositions * spec.hiddenSize : 0;
  return { layers, head, parameters: layers + head * (spec.tiedHead ? 1 : 2) + positions };
}

/** Multiplications and additions of attention for a token that sees `context` others. */
function attentionFlops(spec, context) {
  return spec.layers * 4 * spec.heads * spec.headDim * context;
}

function prompt(spec, length, seed) {
  return Array.from({ length }, (_, i) => (i * 7919 + seed * 104729 + 3) % spec.vocabSize);
}

/** New tokens a second over all sequences, while all of them decode. */
async function decode(engine, sequences) {
  const starts = [];
  const spec = engine.module.spec;
  await Promise.all(
    Array.from({ length: sequences }, async (_, n) => {
      const options = { maxNewTokens: decodeTokens, ignoreEos: true };
      for await (const chunk of engine.stream(prompt(spec, 16, n), options)) {
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
  for (let i = 0; i < (options.shape ? 1 : options.repeat); i++) {
    await engine?.dispose();
    const start = performance.now();
    engine = await load(options);
    loadTimes.push(performance.now() - start);
  }
  const { spec } = engine.module;
  const { layers, head, parameters } = countElements(spec);
  const elementBytes = options.dtype === "fp32" ? 4 : 2;
  const prefillTokens = Math.min(512, engine.contextTokens - 1);
  const prefillRates = [];
  const oneRates = [];
  const eightRates = [];
  let kvUsedBytes = 0;
  const watch = setInterval(() => {
    const { kvCache, memory } = engine.stats();
    kvUsedBytes = Math.max(kvUsedBytes, (kvCache.pagesUsed / kvCache.pagesTotal) * memory[0].kvCacheBytes);
  }, 5);
  await engine.generate(prompt(spec, 32, 1), { maxNewTokens: 4, ignoreEos: true });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  for (let i = 0; i < options.repeat; i++) {
    const { timings } = await engine.generate(prompt(spec, prefillTokens, i), { maxNewTokens: 1, ignoreEos: true });
    prefillRates.push((prefillTokens * 1000) / timings.firstTokenMs);
    oneRates.push(await decode(engine, 1));
    eightRates.push(await decode(engine, 8));
  }
  delay.disable();
  clearInterval(watch);
  const { weightBytes, kvCacheBytes } = engine.stats().memory[0];
  await engine.dispose();
  const meanContext = 16 + decodeTokens / 2;
  const kvBytes = spec.layers * 2 * spec.kvHeads * spec.headDim * 4 * meanContext;
  const decodeFlops = 2 * (layers + head) + attentionFlops(spec, meanContext);
  return {
    model: { name: options.shape ?? path.basename(options.model), parameters },
    load: { ms: loadTimes },
    prefill: {
      tokens: prefillTokens,
      tokensPerSecond: prefillRates,
      flopsPerToken: 2 * layers + (2 * head) / prefillTokens + attentionFlops(spec, prefillTokens / 2),
    },
    decodeOne: {
      tokensPerSecond: oneRates,
      bytesPerStep: (layers + head) * elementBytes + kvBytes,
      flopsPerToken: decodeFlops,
    },
    decodeEight: {
      tokensPerSecond: eightRates,
      bytesPerStep: (layers + head) * elementBytes + 8 * kvBytes,
      flopsPerToken: decodeFlops,
    },
    eventLoop: { delayP99Ms: delay.percentile(99) / 1e6, delayMaxMs: delay.max / 1e6 },
    memory: { peakRssBytes: process.resourceUsage().maxRSS * 1024, weightBytes, kvCacheBytes, kvUsedBytes },
  };
}

const [part, json] = process.argv.slice(2);
const options = JSON.parse(json);
process.stdout.write(JSON.stringify(part === "limits" ? measureLimits(options) : await measureModel(options)));
