// Builds the addon with the CUDA backend into build-nvcc/ with nvcc, for a few architectures, and compares what each kernel
// needs with test/native/registers.json. What needs no nvcc is taken from build/, and built there first. Fails on any register
// spill, on kernels that need more registers or local memory than the table says, and on kernels that are not in it or no more.
//   node scripts/kernel_registers.mjs [--update]
// --update writes the table instead of comparing (spills fail even so).
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fetchedToolkit, ToolkitError } from "./cuda_toolkit.mjs";

// The smallest architecture, and the one with dependent launches.
const architectures = ["80-real", "90-real"];
// Told apart from failures by those who call this.
const noToolkit = 3;

const root = path.resolve(import.meta.dirname, "..");
const table = path.join(root, "test", "native", "registers.json");
const build = path.join(root, "build-nvcc");

/** What two toolkits build is not compared, and options count only for a fresh folder. */
function removeOtherBuild(nvcc, options) {
  const cache = path.join(build, "CMakeCache.txt");
  if (!existsSync(cache)) return;
  const text = readFileSync(cache, "utf8");
  const wanted = [
    `CMAKE_CUDA_COMPILER:FILEPATH=${nvcc}`,
    ...options.map((option) => option.replace("=", ":UNINITIALIZED=")),
  ];
  const isSame = wanted.every((line) => text.includes(line) || text.includes(line.replace(/:\w+=/, ":STRING=")));
  if (!isSame) rmSync(build, { recursive: true });
}

function buildAddon(nvcc) {
  const options = [
    `CMAKE_CUDA_ARCHITECTURES=${architectures.join(";")}`,
    `CMAKE_CUDA_COMPILER_LAUNCHER=${path.join(root, "scripts", "keep_output.sh")}`,
    "CMAKE_CUDA_FLAGS=-Xptxas -v -Werror all-warnings",
  ];
  removeOtherBuild(nvcc, options);
  const script = path.join(root, "scripts", "build_native.mjs");
  const buildNative = (args) =>
    spawnSync(process.execPath, [script, ...args], {
      encoding: "utf8",
      env: { ...process.env, CUDACXX: nvcc },
      maxBuffer: 1 << 28,
    });
  const common = buildNative([]);
  if (common.status !== 0) throw new Error(`The addon does not build:\n${common.stdout}${common.stderr}`);
  const args = ["--nvcc-check", ...options.map((option) => `--CD${option}`), "--target", "shardspeed"];
  const { status, stdout, stderr } = buildNative(args);
  // What ptxas says of each kernel is read from the logs, and would hide what matters here.
  const output = `${stdout}${stderr}`
    .split("\n")
    .filter((line) => !/^ptxas info|bytes stack frame|^\[\d+\/\d+\] Building|^$/.test(line))
    .join("\n");
  if (status !== 0) throw new Error(`The addon with CUDA does not build:\n${output}`);
  const warnings = output.split("\n").filter((line) => /\bwarning\b/.test(line));
  if (warnings.length > 0) throw new Error(`The addon with CUDA builds with warnings:\n${warnings.join("\n")}`);
}

function demangle(names) {
  const { status, stdout, error } = spawnSync("c++filt", ["--no-params"], {
    encoding: "utf8",
    input: names.join("\n"),
  });
  if (status !== 0)
    throw new Error(`c++filt, which comes with the compiler, cannot be run: ${error?.message ?? status}`);
  // Names local to a file hold a hash of where it lies.
  return stdout
    .trimEnd()
    .split("\n")
    .map((name) =>
      name
        .replaceAll(/\(anonymous namespace\)::|shardspeed::cuda::|__nv_static_\d+__\w+?_cu_[0-9a-f]+_\d*_?/g, "")
        .replace(/^void /, ""),
    );
}

/** { architecture, mangled, registers, stack, spills } of each kernel that ptxas compiled for this file. */
function readLog(text) {
  const kernels = [];
  let current;
  for (const line of text.split("\n")) {
    const entry = /Compiling entry function '(\w+)' for '(sm_\w+)'/.exec(line);
    if (entry) {
      current = { mangled: entry[1], architecture: entry[2], registers: 0, stack: 0, spills: 0 };
      kernels.push(current);
    }
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (stack && current) {
      current.stack = Number(stack[1]);
      current.spills = Number(stack[2]) + Number(stack[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used && current) {
      current.registers = Number(used[1]);
      current = undefined;
    }
  }
  return kernels;
}

/** file -> "kernel" -> "sm_80" -> { registers, stack, spills } */
function readKernels() {
  const objects = path.join(build, "cuda", "CMakeFiles", "shardspeed_cuda.dir");
  const files = readdirSync(path.join(root, "cuda")).filter((name) => name.endsWith(".cu"));
  const found = {};
  for (const file of files.sort()) {
    const log = path.join(objects, `${file}.o.log`);
    if (!existsSync(log))
      throw new Error(`What nvcc said of ${file} is missing (${log}). Remove build-nvcc/ and run again.`);
    const kernels = readLog(readFileSync(log, "utf8"));
    const names = kernels.length > 0 ? demangle(kernels.map(({ mangled }) => mangled)) : [];
    found[file] = {};
    for (const [i, { architecture, registers, stack, spills }] of kernels.entries()) {
      found[file][names[i]] ??= {};
      found[file][names[i]][architecture] = { registers, stack, spills };
    }
  }
  return found;
}

function* eachEntry(files) {
  for (const [file, kernels] of Object.entries(files))
    for (const [kernel, architectures] of Object.entries(kernels))
      for (const [architecture, needs] of Object.entries(architectures))
        yield { where: `${file}, ${kernel}, ${architecture}`, file, kernel, architecture, needs };
}

/** The table's form: registers, and behind them bytes of local memory where there are any. */
function toTable(found) {
  const files = {};
  const sorted = [...eachEntry(found)].sort((a, b) => (a.where < b.where ? -1 : 1));
  for (const { file, kernel, architecture, needs } of sorted) {
    files[file] ??= {};
    files[file][kernel] ??= {};
    files[file][kernel][architecture] = needs.stack > 0 ? [needs.registers, needs.stack] : needs.registers;
  }
  return files;
}

function compare(found, expected) {
  const failures = [];
  const notes = [];
  const known = new Map([...eachEntry(expected)].map(({ where, needs }) => [where, [needs].flat()]));
  for (const { where, needs } of eachEntry(found)) {
    const entry = known.get(where);
    known.delete(where);
    if (!entry) {
      failures.push(`${where}: not in the table, needs ${needs.registers} registers`);
      continue;
    }
    const [registers, stack = 0] = entry;
    if (needs.registers > registers)
      failures.push(`${where}: found ${needs.registers} registers, expected ${registers}`);
    if (needs.stack > stack) failures.push(`${where}: found ${needs.stack} bytes of local memory, expected ${stack}`);
    if (needs.registers < registers) notes.push(`${where}: ${needs.registers} registers, the table says ${registers}`);
  }
  for (const where of known.keys()) failures.push(`${where}: in the table, but no such kernel was compiled`);
  return { failures, notes };
}

function main() {
  const { values } = parseArgs({ options: { update: { type: "boolean", default: false } } });
  let toolkit;
  try {
    toolkit = fetchedToolkit();
  } catch (error) {
    if (!(error instanceof ToolkitError)) throw error;
    console.error(error.message);
    return noToolkit;
  }
  buildAddon(path.join(toolkit, "bin", "nvcc"));
  const found = readKernels();
  const entries = [...eachEntry(found)];
  const failures = entries
    .filter(({ needs }) => needs.spills > 0)
    .map(({ where, needs }) => `${where}: spills ${needs.spills} bytes of registers`);
  if (values.update) {
    writeFileSync(table, `${JSON.stringify(toTable(found), null, 2)}\n`);
    console.log(`${path.relative(root, table)} written.`);
  } else {
    const compared = compare(found, existsSync(table) ? JSON.parse(readFileSync(table, "utf8")) : {});
    failures.push(...compared.failures);
    for (const note of compared.notes) console.log(note);
  }
  for (const failure of failures) console.error(failure);
  if (failures.length > 0) {
    console.error("Where that is meant: node scripts/kernel_registers.mjs --update");
    return 1;
  }
  const most = entries.reduce((most, { needs }) => Math.max(most, needs.registers), 0);
  console.log(`${entries.length} kernels for ${architectures.join(", ")}, no spills, at most ${most} registers`);
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
