// Builds the native addon into build/Release, incrementally: CMake is configured when build/ has no cache of this
// checkout, then built. Extra arguments go to cmake-js, for example --CDSOME_OPTION=ON (which needs a fresh build/).
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

/** CMake refuses a cache made for another folder, which is what a copied or moved checkout has. */
function removeForeignCache(folder) {
  const cache = path.join(folder, "CMakeCache.txt");
  if (!existsSync(cache)) return;
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
removeForeignCache(path.join(root, "build"));
const cmakeJs = require.resolve("cmake-js/bin/cmake-js");
const parallel = String(availableParallelism());
// Not "compile": on any compile error that command deletes build/ and compiles everything a second time.
const args = [cmakeJs, "build", "--directory", root, "--config", "Release", "--parallel", parallel];
const { status } = spawnSync(process.execPath, [...args, ...process.argv.slice(2)], { stdio: "inherit" });
process.exitCode = status ?? 1;
