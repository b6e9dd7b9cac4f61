// The demo, from whatever state the checkout is in: installs and builds what is missing or older than its sources, then
// runs examples/demo.mjs with the same arguments. Plain Node, because in a fresh clone there is nothing else yet.
import { spawn } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import process from "node:process";

const root = path.resolve(import.meta.dirname, "..");

function newest(entry) {
  const file = path.join(root, entry);
  if (!existsSync(file)) return 0;
  const status = statSync(file);
  // A folder's own time counts too: it is what changes when a file is deleted.
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(status.mtimeMs, ...readdirSync(file).map((name) => newest(path.join(entry, name))));
}

function isStale(product, sources) {
  return !existsSync(path.join(root, product)) || sources.some((source) => newest(source) > newest(product));
}

/** Runs an npm command; what it prints is shown only when it fails, and on a terminal its "[12/40]" as it goes. */
async function step(title, args) {
  const began = performance.now();
  process.stderr.write(`${title} ... `);
  const npm = process.env.npm_execpath;
  const [command, first] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
  const child = spawn(command, [...first, ...args], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const output = [];
  const keep = (chunk) => {
    output.push(chunk);
    const done = /\[\s*\d+(\/\d+|%)\]/.exec(chunk.toString());
    if (done && process.stderr.isTTY) process.stderr.write(`\r${title} ... ${done[0]} `);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const status = await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject));
  if (status !== 0) {
    process.stderr.write(`failed\n\n${Buffer.concat(output)}\nnpm ${args.join(" ")} failed.\n`);
    process.exit(1);
  }
  process.stderr.write(`${((performance.now() - began) / 1000).toFixed(1)} s\n`);
}

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`shardspeed needs Node 20.19 or newer; this is ${process.versions.node}.\n`);
  process.exit(1);
}
if (isStale("node_modules/.package-lock.json", ["package-lock.json"]))
  await step("Installing packages", ["ci", "--ignore-scripts"]);
if (isStale("dist/.tsbuildinfo", ["lib", "tsconfig.json"])) await step("Compiling TypeScript", ["run", "build:ts"]);
if (isStale("build/Release/shardspeed.node", ["src", "binding", "cuda", "CMakeLists.txt"])) {
  await step("Building the native addon", ["run", "build:native"]);
}
await import("../examples/demo.mjs");
