import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

// The C++ tests, so that one command runs everything. They build and run without Node, each kind in a folder of its own
// that stays for the next time.

const root = fileURLToPath(new URL("../../", import.meta.url));
const halfAnHour = 1_800_000;

function run(command: string, args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  return { status, output: error ? error.message : `${stdout}${stderr}` };
}

const hasNinja = run("ninja", ["--version"]).status === 0;
// A processor's address layout that is too random is one that ThreadSanitizer cannot handle.
const fixedAddresses = run("setarch", ["-R", "true"]).status === 0 ? ["setarch", "-R"] : [];

/** Why programs with this sanitizer cannot be built here; undefined where they can. */
function missingSanitizer(sanitizer: string): string | undefined {
  const compiler = process.env.CXX ?? "c++";
  const { status } = run("sh", [
    "-c",
    `echo 'int main() {}' | ${compiler} -fsanitize=${sanitizer} -x c++ - -o /dev/null`,
  ]);
  return status === 0 ? undefined : `${compiler} cannot link programs with -fsanitize=${sanitizer} here`;
}

// A build type of its own: the released one always optimises fully, and the kernels take minutes to compile so with
// checks in them. Checks as calls and not as inlined code are what compilers get through soonest.
const sanitized = [
  "-DCMAKE_BUILD_TYPE=Sanitized",
  "-DCMAKE_CXX_FLAGS_SANITIZED=-O1 --param asan-instrumentation-with-call-threshold=0",
];

function build(folder: string, options: string[]): void {
  const generator = hasNinja ? ["-G", "Ninja"] : [];
  const configured = run("cmake", ["-S", ".", "-B", folder, ...generator, "-DSHARDSPEED_TESTS=ON", ...options]);
  assert.equal(configured.status, 0, configured.output);
  const built = run("cmake", ["--build", folder, "--parallel", String(Math.min(4, availableParallelism()))]);
  assert.equal(built.status, 0, built.output);
  assert.doesNotMatch(built.output, /\bwarning:/, "the sources compile without a warning");
}

const kinds = [
  { name: "as released", folder: "build-native", sanitizer: "" },
  {
    name: "with AddressSanitizer and UndefinedBehaviorSanitizer",
    folder: "build-native-asan",
    sanitizer: "address,undefined",
  },
  { name: "with ThreadSanitizer", folder: "build-native-tsan", sanitizer: "thread" },
];

for (const { name, folder, sanitizer } of kinds) {
  const skip = (sanitizer && missingSanitizer(sanitizer)) || false;
  test(`C++ tests ${name}`, { skip, timeout: halfAnHour }, (t) => {
    build(folder, sanitizer ? [`-DSHARDSPEED_SANITIZE=${sanitizer}`, ...sanitized] : []);
    const prefix = sanitizer === "thread" ? fixedAddresses : [];
    const [command = "", ...args] = [...prefix, `${root}${folder}/test/native/native_tests`];
    const { status, output } = run(command, args);
    const lines = output.trimEnd().split("\n");
    for (const line of lines.filter((text) => text.startsWith("skipped"))) t.diagnostic(line);
    t.diagnostic(lines.at(-1) ?? "no output");
    assert.equal(status, 0, lines.filter((text) => !/^(ok|skipped)\b/.test(text)).join("\n"));
    assert.match(output, /^[1-9]\d* passed, 0 failed/m);
  });
}
