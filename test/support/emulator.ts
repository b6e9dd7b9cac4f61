import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The addon whose CUDA backend runs on the CPU. */
export const emulatorAddon = `${root}build/emulator/shardspeed.node`;

export const device = "cuda-emulator";

/** Builds what has changed of that addon, and has this process and its children load it. */
export function useEmulator(): void {
  const { status, stdout, stderr, error } = spawnSync("npm", ["run", "build:emulator"], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.equal(status, 0, error ? error.message : `${stdout}${stderr}`);
  process.env.SHARDSPEED_BINDING = emulatorAddon;
}

/** Runs a script of test/support in a process whose emulator is set up by these variables; what it prints is JSON. */
export function runWithEmulator(script: string, args: string[], environment: NodeJS.ProcessEnv): unknown {
  const file = fileURLToPath(new URL(`./${script}.js`, import.meta.url));
  const env = { ...process.env, ...environment };
  delete env.NODE_TEST_CONTEXT;
  const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], { env, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}
