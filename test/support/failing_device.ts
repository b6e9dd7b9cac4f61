// An engine whose device fails at some launch: node failing_device.js MODEL prints what its callers hear, as JSON.
import { initInference } from "../../dist/index.js";
import { device } from "./emulator.js";

const model = process.argv[2] ?? "";
const describe = ({ code, message }: { code: string; message: string }) => ({ code, message });

const engine = await initInference(model, { device });
const pending = [
  engine.generate([5, 6, 7], { maxNewTokens: 100, ignoreEos: true }),
  engine.generate([8], { maxNewTokens: 100, ignoreEos: true }),
  engine.forward({ inputIds: [[5, 6, 7, 8]] }).then(() => engine.generate([9], { maxNewTokens: 100, ignoreEos: true })),
];
const heard = await Promise.all(pending.map((one) => one.then(() => "no failure", describe)));
const later = await engine.generate([5]).then(() => "no failure", describe);
const { disposed } = engine;
await engine.dispose();

const second = await initInference(model, { device });
const { ids } = await second.generate([5, 6, 7], { maxNewTokens: 8, ignoreEos: true });
await second.dispose();
process.stdout.write(JSON.stringify({ heard, later, disposed, ids }));
