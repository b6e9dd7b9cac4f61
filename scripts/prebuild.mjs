// Makes prebuilds/<platform>-<arch>/shardspeed.<libc>.node: the stripped release addon that the package carries, with the
// CUDA backend for all architectures.
//   node scripts/prebuild.mjs [--cpu-only] [--older-drivers] [--cuda-architectures LIST]
// nvcc is an installed one (CUDACXX, CUDA_HOME, PATH) of CUDA 12.8 or newer, else scripts/cuda_toolkit.mjs fetches one.
// --cpu-only leaves CUDA out. --older-drivers: makes the one beside it, in prebuilds/<platform>-<arch>-cuda12/, which is
// loaded where the driver is older than CUDA 13 (525 to 579); by nvcc 12.4 to 12.9. --cuda-architectures, such as
// "90-real": for less than a release.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";
import { fetchedToolkit, systemToolkit, ToolkitError } from "./cuda_toolkit.mjs";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");

/** The compiler to build with; undefined where the addon is to have no CUDA. Throws ToolkitError. */
function chooseCompiler(isCpuOnly, cuda) {
  if (isCpuOnly) return undefined;
  if (process.platform !== "linux") {
    console.log(`CUDA is built on Linux only, not on ${process.platform}: the addon will be for the CPU.`);
    return undefined;
  }
  return path.join(systemToolkit(cuda) ?? fetchedToolkit(cuda), "bin", "nvcc");
}

const triple = `${process.platform}-${process.arch}`;

/** Runs prebuildify; its exit status. out: where it makes prebuilds/. */
function build(nvcc, architectures, out) {
  const { name } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  // Not build/: prebuildify moves the addon out of the folder it was built in, and that one is the checkout's own.
  const workFolder = path.join(root, "build-prebuild");
  mkdirSync(workFolder, { recursive: true });
  const standIn = path.join(root, "scripts", "node_gyp_cmake.mjs");
  const args = ["--napi", "--strip", "--tag-libc", "--name", name, "--node-gyp", standIn, "--cwd", workFolder];
  const options = nvcc ? ["--CDSHARDSPEED_CUDA=ON"] : [];
  if (nvcc && architectures) options.push(`--CDCMAKE_CUDA_ARCHITECTURES=${architectures}`);
  const env = { ...process.env, SHARDSPEED_CMAKE_JS_OPTIONS: JSON.stringify(options) };
  if (nvcc) env.CUDACXX = nvcc;
  const { status } = spawnSync(process.execPath, [require.resolve("prebuildify/bin.js"), ...args, "--out", out], {
    env,
    stdio: "inherit",
  });
  return status ?? 1;
}

/** prebuildify names the folder itself. */
function moveToOlderDrivers(out) {
  const folder = path.join(root, "prebuilds", `${triple}-cuda12`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(path.dirname(folder), { recursive: true });
  renameSync(path.join(out, "prebuilds", triple), folder);
  return folder;
}

function reportSizes(nvcc, folder) {
  for (const file of readdirSync(folder)) {
    const megabytes = statSync(path.join(folder, file)).size / 1e6;
    const cuda = nvcc ? `with CUDA, by ${nvcc}` : "for the CPU only";
    console.log(`${path.relative(root, path.join(folder, file))}: ${megabytes.toFixed(1)} MB, ${cuda}`);
  }
}

try {
  const { values } = parseArgs({
    options: {
      "cpu-only": { type: "boolean", default: false },
      "older-drivers": { type: "boolean", default: false },
      "cuda-architectures": { type: "string" },
    },
  });
  const isOlder = values["older-drivers"];
  if (isOlder && values["cpu-only"]) throw new ToolkitError("--older-drivers and --cpu-only exclude each other.");
  const nvcc = chooseCompiler(values["cpu-only"], isOlder ? 12 : 13);
  const out = isOlder ? path.join(root, "build-prebuild", "cuda12") : root;
  process.exitCode = build(nvcc, values["cuda-architectures"], out);
  if (process.exitCode === 0)
    reportSizes(nvcc, isOlder ? moveToOlderDrivers(out) : path.join(root, "prebuilds", triple));
} catch (error) {
  const isMissing = error instanceof ToolkitError;
  console.error(isMissing ? `${error.message}\nInstall CUDA 12.8 or newer, or build without it: --cpu-only` : error);
  process.exitCode = 1;
}
