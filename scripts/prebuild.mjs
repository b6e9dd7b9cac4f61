// Makes prebuilds/<platform>-<arch>/shardspeed.<libc>.node: the stripped release addon that the package carries.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");
const { name } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
// Not build/: prebuildify moves the addon out of the folder it was built in, and that one is the checkout's own.
const workFolder = path.join(root, "build-prebuild");
mkdirSync(workFolder, { recursive: true });
const standIn = path.join(root, "scripts", "node_gyp_cmake.mjs");
const args = ["--napi", "--strip", "--tag-libc", "--name", name, "--node-gyp", standIn, "--cwd", workFolder];
const { status } = spawnSync(process.execPath, [require.resolve("prebuildify/bin.js"), ...args, "--out", root], {
  stdio: "inherit",
});
process.exitCode = status ?? 1;
