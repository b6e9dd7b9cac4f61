#!/usr/bin/env node
// What prebuildify calls in the place of node-gyp. It builds with cmake-js, below prebuildify's working folder and so apart
// from build/, and leaves the addon where prebuildify looks for it: build/Release/*.node in that folder.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import path from "node:path";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");
const config = process.argv.includes("--debug") ? "Debug" : "Release";
const args = ["rebuild", "--directory", root, "--out", path.resolve("build"), "--config", config];
args.push("--parallel", String(availableParallelism()));
// prebuildify passes on nothing that it does not know itself.
args.push(...JSON.parse(process.env.SHARDSPEED_CMAKE_JS_OPTIONS ?? "[]"));
const { status } = spawnSync(process.execPath, [require.resolve("cmake-js/bin/cmake-js"), ...args], {
  stdio: "inherit",
});
process.exitCode = status ?? 1;
