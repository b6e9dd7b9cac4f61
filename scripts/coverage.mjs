// How much of the sources the tests reach.
//   node scripts/coverage.mjs [--typescript] [--cpp] [part of a test file's name...]
// TypeScript by c8, of lib/, from the compiled tests: all that need no build under sanitizers or by nvcc, or those named.
// C++ by gcov, of src/, from the C++ tests, compiled for it in build-coverage/. Without an option both.
// Neither fails for a small figure: today's are in CONTRIBUTING.md.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import path from "node:path";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");
const given = process.argv.slice(2);
const parts = given.filter((argument) => !argument.startsWith("--"));
const both = !given.includes("--typescript") && !given.includes("--cpp");

function run(command, args, { cwd = root, capture = false } = {}) {
  const stdio = capture ? ["ignore", "pipe", "inherit"] : "inherit";
  const { status, stdout, error } = spawnSync(command, args, { cwd, stdio, encoding: "utf8", maxBuffer: 1 << 28 });
  if (error) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
}

/** The folders of build-test/ that hold tests, but for those that start compilers. */
function testFolders() {
  const entries = readdirSync(path.join(root, "build-test"), { withFileTypes: true });
  const skipped = ["native", "package", "support"];
  return entries.filter((entry) => entry.isDirectory() && !skipped.includes(entry.name)).map(({ name }) => `${name}/`);
}

function coverTypeScript() {
  run(process.execPath, ["scripts/compile.mjs", "test/tsconfig.json"]);
  const c8 = [require.resolve("c8/bin/c8.js"), "--all", "--src", "lib", "--include", "lib/**", "--include", "dist/**"];
  const report = [
    "--exclude-after-remap",
    "--reporter",
    "text",
    "--reporter",
    "lcov",
    "--reports-dir",
    "build-coverage/lib",
  ];
  run(process.execPath, [
    ...c8,
    ...report,
    process.execPath,
    "test/run.mjs",
    ...(parts.length > 0 ? parts : testFolders()),
  ]);
}

/** Lines run and lines there are, by file of src/, from what gcov says of an object: "File 'x'", "Lines executed:P% of N". */
function readGcov(text, lines) {
  for (const [, name, percent, count] of text.matchAll(/^File '(.+)'\nLines executed:([\d.]+)% of (\d+)/gm)) {
    const file = path.relative(root, path.resolve(root, name));
    if (!file.startsWith("src/")) continue;
    // A header is in many objects: the one that reaches most of it counts.
    const run = Math.round((Number(percent) / 100) * Number(count));
    if (run >= (lines.get(file)?.run ?? -1)) lines.set(file, { run, count: Number(count) });
  }
}

function coverCpp() {
  const build = path.join(root, "build-coverage");
  // -O1: what is not optimised at all takes the kernels many times as long. Kernels for other processors are not run here.
  const flags = "-O1 -fprofile-update=atomic --coverage -fno-inline";
  const options = ["-DSHARDSPEED_TESTS=ON", "-DCMAKE_BUILD_TYPE=Coverage", `-DCMAKE_CXX_FLAGS_COVERAGE=${flags}`];
  run("cmake", ["-S", root, "-B", build, ...options]);
  run("cmake", ["--build", build, "--parallel", String(availableParallelism()), "--target", "native_tests"]);
  const objects = readdirSync(build, { recursive: true }).map((name) => path.join(build, name));
  for (const file of objects.filter((name) => name.endsWith(".gcda"))) rmSync(file);
  run(path.join(build, "test", "native", "native_tests"), []);
  const lines = new Map();
  const work = path.join(build, "gcov");
  mkdirSync(work, { recursive: true });
  // The tests' own objects too: of a function in a header the linker keeps one object's copy, which alone counts.
  for (const name of objects.filter((file) => file.endsWith(".gcno")))
    readGcov(run("gcov", ["--no-output", "--object-file", name, name], { cwd: work, capture: true }), lines);
  const files = [...lines].sort(([a], [b]) => (a < b ? -1 : 1));
  const sum = (key) => files.reduce((total, [, entry]) => total + entry[key], 0);
  for (const [file, { run, count }] of files)
    console.log(
      `${((100 * run) / Math.max(count, 1)).toFixed(1).padStart(6)} %  ${`${run}/${count}`.padStart(9)}  ${file}`,
    );
  console.log(`${((100 * sum("run")) / sum("count")).toFixed(1).padStart(6)} %  of ${sum("count")} lines of src/`);
}

if (both || given.includes("--typescript")) coverTypeScript();
if (both || given.includes("--cpp")) coverCpp();
