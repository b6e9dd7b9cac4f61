// Builds native code, incrementally: CMake is configured where the folder has no cache of this checkout with these options.
//   node scripts/build_native.mjs               build/Release/shardspeed.node, for the CPU
//   node scripts/build_native.mjs --emulator    build/emulator/shardspeed.node, for tests: with the CUDA backend, its kernels
//                                               compiled as C++ and run on the processor
//   node scripts/build_native.mjs --cuda        build-cuda/Release/shardspeed.node, with the CUDA backend by the nvcc
//                                               that CUDACXX names or PATH finds
//   node scripts/build_native.mjs --nvcc-check  build-nvcc/Release/shardspeed.node, the same for tests: src/ and binding/ are taken
//                                               from build/, as they lie there
//   node scripts/build_native.mjs --debug       build-debug/Debug/shardspeed.node, with symbols and not optimised
// --strict makes warnings errors, as in tests. --target NAME builds something else of the folder, such as native_tests: what is compiled with the same flags is compiled
// once. Extra arguments go to cmake-js, for example --CDSOME_OPTION=ON.
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
 * CMake refuses a cache made for another folder, which is what a copied or moved checkout has. One without build files is
 * what a failed configuration leaves, which cmake-js would take for a finished one; and to one with other options it would
 * not pass ours. Without its cache CMake configures anew, and keeps what is compiled.
 */
function removeUselessCache(folder, options) {
  const cache = path.join(folder, "CMakeCache.txt");
  if (!existsSync(cache)) return;
  const text = readFileSync(cache, "utf8");
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(text)?.[1];
  if (home && !(existsSync(home) && realpathSync(home) === realpathSync(root)))
    return rmSync(folder, { recursive: true });
  const isConfigured = ["build.ninja", "Makefile"].some((name) => existsSync(path.join(folder, name)));
  const hasOptions = options.every((option) => {
    const [name, ...value] = option.slice("--CD".length).split("=");
    return text.split("\n").some((line) => line.startsWith(`${name}:`) && line.endsWith(`=${value.join("=")}`));
  });
  if (!isConfigured || !hasOptions) rmSync(cache);
}

const problem = cmakeProblem();
if (problem) {
  console.error(
    `${problem} shardspeed needs CMake >= 3.24 and a C++20 compiler (Debian, Ubuntu: apt install cmake g++).`,
  );
  process.exit(1);
}
// The tests and the emulator are configured in the folder of the addon, to share objects; they are built where they are wanted.
const withTests = ["--CDSHARDSPEED_CUDA=EMULATOR", "--CDSHARDSPEED_TESTS=ON", "--CDSHARDSPEED_BENCH=ON"];
const kinds = {
  "--emulator": { folder: "build", config: "Release", options: withTests, target: "shardspeed_emulated" },
  "--cuda": { folder: "build-cuda", config: "Release", options: ["--CDSHARDSPEED_CUDA=ON"], target: "shardspeed" },
  "--nvcc-check": {
    ...{ folder: "build-nvcc", config: "Release", target: "shardspeed" },
    options: ["--CDSHARDSPEED_CUDA=ON", `--CDSHARDSPEED_BUILT=${path.join(root, "build")}`],
  },
  "--debug": { folder: "build-debug", config: "Debug", options: [], target: "shardspeed" },
};
const released = { folder: "build", config: "Release", options: withTests, target: "shardspeed" };
const given = process.argv.slice(2);
const { folder, config, options, target } = kinds[given.find((argument) => argument in kinds)] ?? released;
const extra = given
  .filter((argument) => !(argument in kinds))
  .map((argument) => (argument === "--strict" ? "--CDCMAKE_COMPILE_WARNING_AS_ERROR=ON" : argument));
if (!extra.includes("--target")) extra.push("--target", target);
removeUselessCache(
  path.join(root, folder),
  [...options, ...extra].filter((argument) => argument.startsWith("--CD")),
);
const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
const parallel = String(availableParallelism());
// Not "compile": on any compile error that command deletes the folder and compiles everything a second time.
const args = [cmakeJs, "build", "--directory", root, "--out", folder, "--config", config, "--parallel", parallel];
const { status } = spawnSync(process.execPath, [...args, ...options, ...extra], { cwd: root, stdio: "inherit" });
process.exitCode = status ?? 1;
