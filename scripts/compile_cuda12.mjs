// Compiles kernels with CUDA 12 (scripts/cuda_toolkit.mjs --cuda 12), to see that a build for older drivers is possible.
//   node scripts/compile_cuda12.mjs [--all] [FILES]
// One file for sm_90 unless more are named; --all: every file of cuda/, for the smallest architecture and for that one.
// Fails on warnings and on register spills.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { fetchedToolkit, systemToolkit, ToolkitError } from "./cuda_toolkit.mjs";

// Told apart from failures by those who call this, as in kernel_registers.mjs.
const noToolkit = 3;
// It has most of the PTX that the kernels use.
const usual = "projection_few.cu";

const root = path.resolve(import.meta.dirname, "..");

/** What is wrong with what nvcc makes of the file, or undefined. */
function problemOf(nvcc, file, architectures, output) {
  const code = architectures.flatMap((number) => ["-gencode", `arch=compute_${number},code=sm_${number}`]);
  const flags = ["-std=c++20", "-O3", "-DSHARDSPEED_CUDA", "-I.", "-Isrc", "-Xcompiler=-Wall,-fPIC", "-Xptxas", "-v"];
  const args = [...flags, "-Werror", "all-warnings", ...code, "-c", path.join("cuda", file), "-o", output];
  const { status, stdout, stderr, error } = spawnSync(nvcc, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  const said = error?.message ?? `${stdout}${stderr}`;
  if (status !== 0)
    return said
      .split("\n")
      .filter((line) => !/^ptxas info|bytes stack frame/.test(line))
      .join("\n");
  // Of nvcc's tools too, which need not take part in its -Werror.
  const warnings = said.split("\n").filter((line) => /\bwarning\b/i.test(line));
  if (warnings.length > 0) return warnings.join("\n");
  const spills = [...said.matchAll(/(\d+) bytes spill stores, (\d+) bytes spill loads/g)];
  const spilled = spills.reduce((sum, [, stores, loads]) => sum + Number(stores) + Number(loads), 0);
  return spilled > 0 ? `spills ${spilled} bytes of registers` : undefined;
}

function main() {
  const { values, positionals } = parseArgs({
    options: { all: { type: "boolean", default: false } },
    allowPositionals: true,
  });
  const nvcc = path.join(systemToolkit(12) ?? fetchedToolkit(12), "bin", "nvcc");
  const every = readdirSync(path.join(root, "cuda")).filter((name) => name.endsWith(".cu"));
  const named = positionals.length > 0 ? positionals.map((file) => path.basename(file)) : [usual];
  const architectures = values.all ? [80, 90] : [90];
  const folder = mkdtempSync(path.join(tmpdir(), "cuda12-"));
  let failures = 0;
  try {
    for (const file of values.all ? every.sort() : named) {
      const problem = problemOf(nvcc, file, architectures, path.join(folder, `${file}.o`));
      if (problem !== undefined) failures++;
      console.log(`${file}: ${problem ?? `compiled for sm_${architectures.join(" and sm_")}`}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return failures > 0 ? 1 : 0;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error instanceof ToolkitError ? error.message : error);
  process.exitCode = error instanceof ToolkitError ? noToolkit : 1;
}
