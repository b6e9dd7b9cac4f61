// A worker thread that streams from an engine of its own and tells its parent about every chunk.
import { parentPort, workerData } from "node:worker_threads";
import { initInference } from "../../dist/index.js";

const engine = await initInference(workerData.model, { threads: 1 });
let text = "";
for await (const chunk of engine.stream("The whale", { maxNewTokens: workerData.maxNewTokens, ignoreEos: true })) {
  text += chunk.text;
  parentPort?.postMessage({ done: false });
}
await engine.dispose();
parentPort?.postMessage({ done: true, text });
