// Compiles TypeScript incrementally, a project and those that it references, and removes outputs whose source is gone: a
// stale test would still be run, and a stale module would still be packed. Files of the page that are not compiled are copied.
//   node scripts/compile.mjs tsconfig.json            lib/ to dist/
//   node scripts/compile.mjs test/tsconfig.json       lib/ and test/, the latter to build-test/
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, utimesSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

/** Where a project and those that it references have their sources, their outputs and what tsc remembers of them. */
function readFolders(project) {
  const { compilerOptions, references = [], exclude = [] } = JSON.parse(readFileSync(project, "utf8"));
  const resolve = (name) => path.resolve(path.dirname(project), name);
  const folders = {
    sources: resolve(compilerOptions.rootDir),
    outputs: resolve(compilerOptions.outDir),
    buildInfo: resolve(compilerOptions.tsBuildInfoFile),
    excluded: exclude.map(resolve),
  };
  return [
    folders,
    ...references.flatMap((reference) => readFolders(resolve(path.join(reference.path, "tsconfig.json")))),
  ];
}

/** tsc trusts its memory, not the files: where an output is missing it would not write it again. */
function forgetLostOutputs({ sources, outputs, buildInfo, excluded }) {
  const lost = readdirSync(sources, { recursive: true }).some((name) => {
    const isSource = name.endsWith(".ts") && !name.endsWith(".d.ts");
    if (!isSource || excluded.some((folder) => path.join(sources, name).startsWith(folder + path.sep))) return false;
    return !existsSync(path.join(outputs, name.replace(/\.ts$/, ".js")));
  });
  if (lost) rmSync(buildInfo, { force: true });
}

function removeStaleOutputs({ sources, outputs }) {
  for (const name of readdirSync(outputs, { recursive: true })) {
    const source = name.replace(/(\.js|\.d\.ts)(\.map)?$/, ".ts");
    if ((source !== name || isAsset(name)) && !existsSync(path.join(sources, source))) rmSync(path.join(outputs, name));
  }
}

/** What a browser gets as it is. */
const isAsset = (name) => /\.(html|css|svg)$/.test(name);

function copyAssets({ sources, outputs, excluded }) {
  for (const name of readdirSync(sources, { recursive: true })) {
    const source = path.join(sources, name);
    if (isAsset(name) && !excluded.some((folder) => source.startsWith(folder + path.sep)))
      copyFileSync(source, path.join(outputs, name));
  }
}

const project = path.resolve(process.argv[2] ?? "tsconfig.json");
const projects = readFolders(project);
projects.forEach(forgetLostOutputs);
const { status } = spawnSync(process.execPath, [tsc, "--build", project], { stdio: "inherit" });
if (status !== 0) {
  // tsc writes outputs in spite of errors (noEmitOnError would have it check every file after every edit). Whoever compares
  // times, as scripts/demo.mjs does, must not take them for a finished compilation.
  for (const { buildInfo } of projects) if (existsSync(buildInfo)) utimesSync(buildInfo, 0, 0);
  process.exit(status ?? 1);
}
projects.forEach(removeStaleOutputs);
projects.forEach(copyAssets);
