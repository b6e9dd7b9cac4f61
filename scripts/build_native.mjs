// Builds the native addon, incrementally: CMake is configured when the folder has no cache of this checkout, then built.
//   node scripts/build_native.mjs               build/Release/shardspeed.node, for the CPU
//   node scripts/build_native.mjs --emulator    build-emulator/Release/shardspeed.node, for tests: with the CUDA backend,
//                                               its kernels compiled as C++ and run on the processor
//   node scripts/build_native.mjs --cuda        build-cuda/Release/shardspeed.node, with the CUDA backend by the nvcc
//                                               that CUDACXX names or PATH finds
// Extra arguments go to cmake-js, for example --CDSOME_OPTION=ON (which needs a fresh folder) or --target NAME.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import path from "node:path";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");

/** Why the addon cannot be built with the CMake found, or undefined. */
function cmakeProblem() {
  const { error, stdout } = spawnSync("cmake", ["--version"], { encoding: "utf8" });
  if (error) return `CMake was not found (${error.message}).`;
  const version = /version (\d+)\.(\d+)/.exec(stdout);
  const [major, minor] = [Number(version?.[1]), Number(version?.[2])];
  if (major < 3 || (major === 3 && minor < 24)) return `CMake ${major}.${minor} is too old.`;
  return undefined;
}

/**
 * CMake refuses a cache made for another folder, which is what a copied or moved checkout has; and one without build
 * files is what a failed configuration leaves, which cmake-js would take for a finished one.
 */
function removeUselessCache(folder) {
  const cache = path.join(folder, "CMakeCache.txt");
  if (!existsSync(cache)) return;
  if (!["build.ninja", "Makefile"].some((name) => existsSync(path.join(folder, name)))) return rmSync(cache);
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, "utf8"))?.[1];
  if (home && existsSync(home) && realpathSync(home) === realpathSync(root)) return;
  rmSync(folder, { recursive: true });
}

const problem = cmakeProblem();
if (problem) {
  console.error(
    `${problem} shardspeed needs CMake >= 3.24 and a C++20 compiler (Debian, Ubuntu: apt install cmake g++).`,
  );
  process.exit(1);
}
const kinds = {
  cpu: { folder: "build", options: [] },
  // The tests are configured too, to share what they are linked with; who wants them names them as targets.
  emulator: {
    folder: "build-emulator",
    options: ["--CDSHARDSPEED_CUDA=EMULATOR", "--CDSHARDSPEED_TESTS=ON", "--CDSHARDSPEED_BENCH=ON"],
  },
  cuda: { folder: "build-cuda", options: ["--CDSHARDSPEED_CUDA=ON"] },
};
const given = process.argv.slice(2);
const kind = given.includes("--emulator") ? kinds.emulator : given.includes("--cuda") ? kinds.cuda : kinds.cpu;
const extra = given.filter((argument) => argument !== "--emulator" && argument !== "--cuda");
if (kind === kinds.emulator && !extra.includes("--target")) extra.push("--target", "shardspeed");
removeUselessCache(path.join(root, kind.folder));
const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
const parallel = String(availableParallelism());
// Not "compile": on any compile error that command deletes the folder and compiles everything a second time.
const args = [
  cmakeJs,
  "build",
  "--directory",
  root,
  "--out",
  kind.folder,
  "--config",
  "Release",
  "--parallel",
  parallel,
];
const { status } = spawnSync(process.execPath, [...args, ...kind.options, ...extra], { cwd: root, stdio: "inherit" });
process.exitCode = status ?? 1;
