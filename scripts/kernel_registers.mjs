// Builds the addon with the CUDA backend into build-nvcc/ with nvcc, for a few architectures, and compares what each kernel
// needs with test/native/registers.json. What needs no nvcc is taken from build/, and built there first. Fails on any register
// spill, on kernels that need more registers or local memory than the table says, and on kernels that are not in it or no more.
//   node scripts/kernel_registers.mjs [--update]
// --update writes the table instead of comparing (spills fail even so).
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fetchedToolkit, ToolkitError } from "./cuda_toolkit.mjs";
import { architectures, buildAddon, compiledFiles, demangle, noToolkit, readLog, root } from "./nvcc_build.mjs";

const table = path.join(root, "test", "native", "registers.json");

/** file -> "kernel" -> "sm_80" -> { registers, stack, spills } */
function readKernels() {
  const found = {};
  for (const { file, log } of compiledFiles()) {
    const kernels = readLog(readFileSync(log, "utf8"));
    const names = demangle(kernels.map(({ mangled }) => mangled));
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
