import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

// How the C++ tests are built and run: without Node, each kind in a folder of its own that stays for the next time.

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const halfAnHour = 1_800_000;

export interface Kind {
  name: string;
  folder: string;
  sanitizer: "" | "address,undefined" | "thread";
}

export const released: Kind = { name: "as released", folder: "build-native", sanitizer: "" };
export const addressChecked: Kind = {
  name: "with AddressSanitizer and UndefinedBehaviorSanitizer",
  folder: "build-native-asan",
  sanitizer: "address,undefined",
};
export const threadChecked: Kind = { name: "with ThreadSanitizer", folder: "build-native-tsan", sanitizer: "thread" };

export function run(command: string, args: string[], env = process.env): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    env,
    maxBuffer: 1 << 28,
  });
  return { status, output: error ? error.message : `${stdout}${stderr}` };
}

/** Why programs of this kind cannot be built here; false where they can. */
export function missingSanitizer({ sanitizer }: Kind): string | false {
  if (!sanitizer) return false;
  const compiler = process.env.CXX ?? "c++";
  const { status } = run("sh", [
    "-c",
    `echo 'int main() {}' | ${compiler} -fsanitize=${sanitizer} -x c++ - -o /dev/null`,
  ]);
  return status !== 0 && `${compiler} cannot link programs with -fsanitize=${sanitizer} here`;
}

// A build type of its own: the released one always optimises fully, and the kernels take minutes to compile so with
// checks in them. Checks as calls and not as inlined code are what compilers get through soonest.
const sanitizedOptions = [
  "-DCMAKE_BUILD_TYPE=Sanitized",
  "-DCMAKE_CXX_FLAGS_SANITIZED=-O1 --param asan-instrumentation-with-call-threshold=0",
];

/** Builds these targets. */
export function build({ folder, sanitizer }: Kind, targets: string[]): void {
  const generator = run("ninja", ["--version"]).status === 0 ? ["-G", "Ninja"] : [];
  const options = ["-DSHARDSPEED_TESTS=ON"];
  if (sanitizer) options.push("-DSHARDSPEED_CUDA=EMULATOR", `-DSHARDSPEED_SANITIZE=${sanitizer}`, ...sanitizedOptions);
  const configured = run("cmake", ["-S", ".", "-B", folder, ...generator, ...options]);
  assert.equal(configured.status, 0, configured.output);
  const parallel = String(Math.min(4, availableParallelism()));
  checkBuild(run("cmake", ["--build", folder, "--parallel", parallel, "--target", ...targets]));
}

function checkBuild({ status, output }: { status: number | null; output: string }): void {
  assert.equal(status, 0, output);
  assert.doesNotMatch(output, /\bwarning:/, "the sources compile without a warning");
}

/** As released, but in the folder of the addon with the emulator: what the two share is compiled once. */
export const releasedWithAddon: Kind = { name: "as released", folder: "build-emulator", sanitizer: "" };

export function buildWithAddon(target: string): void {
  checkBuild(run(process.execPath, ["scripts/build_native.mjs", "--emulator", "--target", target]));
}

// A processor's address layout that is too random is one that ThreadSanitizer cannot handle.
const fixedAddresses = run("setarch", ["-R", "true"]).status === 0 ? ["setarch", "-R"] : [];

/** Runs an executable of test cases; its summary and what it skipped become diagnostics of the test. */
export function runCases(t: TestContext, { folder, sanitizer }: Kind, executable: string): void {
  const prefix = sanitizer === "thread" ? fixedAddresses : [];
  const [command = "", ...args] = [...prefix, `${root}${folder}/test/native/${executable}`];
  const { status, output } = run(command, args);
  const lines = output.trimEnd().split("\n");
  for (const line of lines.filter((text) => text.startsWith("skipped"))) t.diagnostic(line);
  t.diagnostic(lines.at(-1) ?? "no output");
  assert.equal(status, 0, lines.filter((text) => !/^(ok|skipped)\b/.test(text)).join("\n"));
  assert.match(output, /^[1-9]\d* passed, 0 failed/m);
}
