// Loads a model and says what that took, as JSON: node loading_process.js MODEL TP_SIZE THREADS. Under a launcher's variables it is one rank.
import { readFileSync } from "node:fs";
import { initInference } from "../../dist/index.js";
import { loadNative } from "../../dist/native/load.js";

function procBytes(file: string, name: string): number {
  const line = new RegExp(`^${name}:\\s+(\\d+)( kB)?`, "m").exec(readFileSync(`/proc/self/${file}`, "utf8"));
  return Number(line?.[1]) * (line?.[2] ? 1024 : 1);
}

const [model = "", tpSize, threads] = process.argv.slice(2);
loadNative();
const ownBytes = procBytes("status", "VmRSS");
const readBefore = procBytes("io", "rchar");
let loadMs = 0;
const engine = await initInference(model, {
  config: { tensor_parallel: { tp_size: Number(tpSize) } },
  device: "cpu",
  threads: Number(threads),
  kvCacheBytes: 64 << 20,
  onProgress: (progress) => {
    if (progress.phase === "ready") loadMs = progress.loadMs;
  },
});
const readBytes = procBytes("io", "rchar") - readBefore;
// Pages of the KV cache come to be when they are first written: some of them.
if (engine.isDriver) await engine.generate([[1], [2], [3]], { maxNewTokens: 4, ignoreEos: true });
const { memory } = engine.stats();
await engine.dispose();
const peakBytes = procBytes("status", "VmHWM");
process.stdout.write(`${JSON.stringify({ ownBytes, peakBytes, readBytes, loadMs, memory })}\n`);
