// Drops engines without dispose(): node --expose-gc dropping_process.js MODEL prints the threads before and after, and how many tokens an
// engine gave to which nobody but its own call referred.
import { readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { initInference } from "../../dist/index.js";

const model = process.argv[2] ?? "";
const countThreads = () => readdirSync("/proc/self/task").length;

async function drop(): Promise<void> {
  const engine = await initInference(model);
  await engine.generate("The", { maxNewTokens: 2 });
}

async function workUnreferenced(): Promise<number> {
  const result = (await initInference(model)).generate("The", { maxNewTokens: 200, ignoreEos: true });
  for (let i = 0; i < 10; i++) {
    globalThis.gc?.();
    await sleep(1);
  }
  return (await result).usage.newTokens;
}

const newTokens = await workUnreferenced();
const before = countThreads();
for (let i = 0; i < 5; i++) await drop();
// The last ones may still be on the stack of what has just run.
for (let i = 0; i < 50 && countThreads() > before; i++) {
  globalThis.gc?.();
  await sleep(20);
}
process.stdout.write(JSON.stringify({ before, after: countThreads(), newTokens }));
