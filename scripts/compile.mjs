// Compiles a TypeScript project and removes outputs whose source is gone: a stale test would still be run, and a stale
// module would still be packed. Usage: node scripts/compile.mjs tsconfig.json
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(import.meta.url);
const project = path.resolve(process.argv[2] ?? "tsconfig.json");
const tsc = require.resolve("typescript/bin/tsc");

const shown = spawnSync(process.execPath, [tsc, "--project", project, "--showConfig"], { encoding: "utf8" });
if (shown.status !== 0) {
  process.stderr.write(shown.stdout + shown.stderr);
  process.exit(1);
}
const { compilerOptions } = JSON.parse(shown.stdout);
const sources = path.resolve(path.dirname(project), compilerOptions.rootDir);
const outputs = path.resolve(path.dirname(project), compilerOptions.outDir);

// Half a compilation would look like a fresh one to whoever compares times.
const args = [tsc, "--project", project, "--noEmitOnError"];
const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);

for (const name of readdirSync(outputs, { recursive: true })) {
  const source = name.replace(/(\.js|\.d\.ts)(\.map)?$/, ".ts");
  if (source !== name && !existsSync(path.join(sources, source))) rmSync(path.join(outputs, name));
}
