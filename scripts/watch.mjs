// Compiles lib/ and test/ at each change, and then runs the tests that the change can reach.
//   node scripts/watch.mjs                 the unit tests among them
//   node scripts/watch.mjs PART...         the files with one of these in their name among them, also those that need the addon
// Which those are is read from the imports of what was compiled.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const parts = process.argv.slice(2);

/** path -> { hash, imports } of each compiled file. */
function readCompiled() {
  const files = new Map();
  for (const folder of ["dist", "build-test"]) {
    for (const name of readdirSync(path.join(root, folder), { recursive: true })) {
      if (!name.endsWith(".js")) continue;
      const file = path.join(root, folder, name);
      const text = readFileSync(file, "utf8");
      const imports = [...text.matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+\.js)"/g)];
      files.set(file, {
        hash: createHash("sha256").update(text).digest("hex"),
        imports: imports.map(([, target]) => path.resolve(path.dirname(file), target)),
      });
    }
  }
  return files;
}

/** The files that changed, and those that import one of them over however many steps. */
function reached(before, now) {
  const found = new Set([...now.keys()].filter((file) => now.get(file).hash !== before.get(file)?.hash));
  for (let size = -1; size !== found.size; ) {
    size = found.size;
    for (const [file, { imports }] of now) if (imports.some((target) => found.has(target))) found.add(file);
  }
  return found;
}

function isWanted(file) {
  if (!file.endsWith(".test.js")) return false;
  return parts.length > 0 ? parts.some((part) => file.includes(part)) : file.endsWith(".unit.test.js");
}

let compiled = new Map();
let running;

function runTests() {
  const before = compiled;
  compiled = readCompiled();
  if (before.size === 0) return console.log("watch: waiting for a change");
  const folder = path.join(root, "build-test");
  const files = [...reached(before, compiled)].filter(isWanted).map((file) => path.relative(folder, file));
  if (files.length === 0) return console.log("watch: no test imports what changed");
  console.log(`watch: ${files.length} test file${files.length > 1 ? "s" : ""}`);
  running?.kill();
  running = spawn(process.execPath, ["test/run.mjs", ...files], { cwd: root, stdio: "inherit" });
}

const args = [tsc, "--build", "--watch", "--preserveWatchOutput", "test/tsconfig.json"];
const compiler = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
compiler.stdout.setEncoding("utf8").on("data", (text) => {
  process.stdout.write(text);
  if (/Found 0 errors/.test(text)) runTests();
});
compiler.on("close", (status) => {
  process.exitCode = status ?? 1;
});
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    running?.kill();
    compiler.kill();
  });
