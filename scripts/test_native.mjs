// Builds and runs the C++ tests, without the rest: only cases with a FILTER in their topic/name, where some are given.
//   node scripts/test_native.mjs [FILTER...]                 those of src/, as released
//   node scripts/test_native.mjs --cuda [FILTER...]          those of cuda/ and of the emulator, as released, on the emulator
//   node scripts/test_native.mjs --sanitizers [FILTER...]    all of them under each sanitizer
// Other options go to the test program: --list, --exclude PARTS, --seed NUMBER, --slowest NUMBER.
import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");

/** Runs a program; ends this one where it fails. */
function run(command, args, env = process.env) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env });
  if (error) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
}

function hasCases(program, options) {
  const { stdout } = spawnSync(program, [...options, "--list"], { encoding: "utf8" });
  return stdout.trim() !== "";
}

const kinds = ["--cuda", "--sanitizers"];
const given = process.argv.slice(2);
const valued = ["--exclude", "--seed", "--slowest"];
const options = [];
const filters = [];
for (let i = 0; i < given.length; i++) {
  if (kinds.includes(given[i])) continue;
  if (valued.includes(given[i])) options.push(given[i], given[++i] ?? "");
  else (given[i].startsWith("--") ? options : filters).push(given[i]);
}
if (filters.length > 0) options.push("--filter", filters.join(","));

if (given.includes("--sanitizers")) {
  run(process.execPath, ["scripts/compile.mjs", "test/tsconfig.json"]);
  const env = { ...process.env, SHARDSPEED_NATIVE_TEST_OPTIONS: JSON.stringify(options) };
  run(process.execPath, ["test/run.mjs", "--times", "--name", "Sanitizer", "native/native.test", "native/cuda_"], env);
} else {
  const targets = given.includes("--cuda") ? ["cuda_tests", "emulator_tests"] : ["native_tests"];
  for (const target of targets) run(process.execPath, ["scripts/build_native.mjs", "--target", target]);
  const programs = targets.map((target) => path.join(root, "build", "test", "native", target));
  // Where nothing matches in any, the program itself says so.
  const chosen = programs.filter((program) => hasCases(program, options));
  for (const program of chosen.length > 0 ? chosen : programs.slice(0, 1)) run(program, options);
}
