// Engines on a device with little memory: node small_device.js MODEL prints what becomes of each, as JSON.
import { type InitOptions, initInference } from "../../dist/index.js";
import { loadNative } from "../../dist/native/load.js";
import { device } from "./emulator.js";

const model = process.argv[2] ?? "";

async function tryWith(options: InitOptions): Promise<object> {
  try {
    await using engine = await initInference(model, { device, ...options });
    const { ids } = await engine.generate([5, 6, 7], { maxNewTokens: 4, ignoreEos: true });
    return { tokens: ids.length, contextTokens: engine.contextTokens };
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return { code, message };
  }
}

const free = () => loadNative().cudaReport(0).devices[0]?.freeBytes;
const before = free();
const tooMuch = await tryWith({ kvCacheBytes: 2 ** 40 });
const chosen = await tryWith({});
process.stdout.write(JSON.stringify({ before, tooMuch, chosen, after: free() }));
