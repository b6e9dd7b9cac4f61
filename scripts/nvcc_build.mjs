// The build of the addon by nvcc in build-nvcc/, for a few architectures, whose objects and compiler output several checks
// read. What needs no nvcc is taken from build/, and built there first.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";

// The smallest architecture, and the one with dependent launches.
export const architectures = ["80-real", "90-real"];
// Exit status of a check whose tools are not there and cannot be fetched, told apart from failures by those who call it.
export const noToolkit = 3;

export const root = path.resolve(import.meta.dirname, "..");
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

export function buildAddon(nvcc) {
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

/** [{ file: "norm.cu", object, log }] of all kernels' files: what nvcc made of each, and what it said. */
export function compiledFiles() {
  const objects = path.join(build, "cuda", "CMakeFiles", "shardspeed_cuda.dir");
  const files = readdirSync(path.join(root, "cuda")).filter((name) => name.endsWith(".cu"));
  return files.sort().map((file) => {
    const object = path.join(objects, `${file}.o`);
    const log = `${object}.log`;
    for (const needed of [object, log])
      if (!existsSync(needed))
        throw new Error(`What nvcc made of ${file} is missing (${needed}). Remove build-nvcc/ and run again.`);
    return { file, object, log };
  });
}

/** Names of kernels as the source has them, without namespaces and parameters. */
export function demangle(names) {
  if (names.length === 0) return [];
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

/** [{ architecture, mangled, registers, stack, spills }] of the kernels that ptxas compiled, from what nvcc said. */
export function readLog(text) {
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
