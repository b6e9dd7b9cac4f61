import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

// How the C++ tests are built and run: as released in the folder of the addon, where what the two share is compiled once,
// and under sanitizers without Node, each kind in a folder of its own that stays for the next time.

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const halfAnHour = 1_800_000;

export interface Kind {
  name: string;
  folder: string;
  sanitizer: "" | "address,undefined" | "thread";
}

export const released: Kind = { name: "as released", folder: "build", sanitizer: "" };
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

/** What is built of each kind: every executable of test cases. */
export const programs = ["native_tests", "emulator_tests", "cuda_tests"];

/** Builds these targets. A warning is a failure. */
export function build({ folder, sanitizer }: Kind, targets: string[]): void {
  if (!sanitizer) {
    for (const target of targets)
      checkBuild(run(process.execPath, ["scripts/build_native.mjs", "--strict", "--target", target]));
    return;
  }
  const generator = run("ninja", ["--version"]).status === 0 ? ["-G", "Ninja"] : [];
  const options = ["-DSHARDSPEED_TESTS=ON", "-DSHARDSPEED_CUDA=EMULATOR", `-DSHARDSPEED_SANITIZE=${sanitizer}`];
  const configured = run("cmake", ["-S", ".", "-B", folder, ...generator, ...options, ...sanitizedOptions]);
  assert.equal(configured.status, 0, configured.output);
  const parallel = String(Math.min(4, availableParallelism()));
  // ccache takes files with a precompiled header only if told that it may.
  const env = { ...process.env, CCACHE_SLOPPINESS: "pch_defines,time_macros" };
  checkBuild(run("cmake", ["--build", folder, "--parallel", parallel, "--target", ...targets], env));
}

function checkBuild({ status, output }: { status: number | null; output: string }): void {
  assert.equal(status, 0, output);
  assert.doesNotMatch(output, /\bwarning:/, "the sources compile without a warning");
}

// A processor's address layout that is too random is one that ThreadSanitizer cannot handle.
const fixedAddresses = run("setarch", ["-R", "true"]).status === 0 ? ["setarch", "-R"] : [];

// Of scripts/test_native.mjs, which runs a part of the cases.
const caseOptions: string[] = JSON.parse(process.env.SHARDSPEED_NATIVE_TEST_OPTIONS ?? "[]");

interface Output {
  status: number | null;
  text: string;
}

function start(command: string, args: string[]): Promise<Output> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    const keep = (chunk: string) => {
      text += chunk;
    };
    child.stdout.setEncoding("utf8").on("data", keep);
    child.stderr.setEncoding("utf8").on("data", keep);
    child.on("error", (error) => resolve({ status: null, text: error.message }));
    child.on("close", (status) => resolve({ status, text }));
  });
}

/** All shards of the cases, a process each and as many at a time as there are processors: most cases keep only one busy. */
async function runShards(command: string, args: string[], isThreadChecked: boolean): Promise<Output[]> {
  const atATime = availableParallelism();
  // Some cases take far longer than others: with more shards than processors none is left with much more than its part.
  // Under ThreadSanitizer each access takes longer, the more threads the process has had, which the emulator makes by thousands.
  const shards = (isThreadChecked ? 32 : 4) * atATime;
  const outputs: Output[] = [];
  let next = 1;
  const work = async () => {
    while (next <= shards) outputs.push(await start(command, [...args, "--shard", `${next++}/${shards}`]));
  };
  await Promise.all(Array.from({ length: atATime }, work));
  return outputs;
}

const summary = /^(\d+) passed, (\d+) failed, (\d+) skipped, (\d+) checks(.*)$/m;

/** Runs an executable of test cases; its counts, its slowest cases and what it skipped become diagnostics of the test. */
export async function runCases(t: TestContext, { folder, sanitizer }: Kind, executable: string): Promise<void> {
  const prefix = sanitizer === "thread" ? fixedAddresses : [];
  const [command = "", ...args] = [...prefix, `${root}${folder}/test/native/${executable}`, ...caseOptions];
  if (caseOptions.length > 0 && run(command, [...args, "--list"]).output.trim() === "") return t.skip("no such case");
  const outputs = await runShards(command, [...args, "--slowest", "3"], sanitizer === "thread");
  const lines = outputs.flatMap(({ text }) => text.trimEnd().split("\n"));
  const milliseconds = (line: string) => Number(/\((\d+) ms\)$/.exec(line)?.[1] ?? 0);
  const slow = lines.filter((text) => text.startsWith("slow")).sort((a, b) => milliseconds(b) - milliseconds(a));
  for (const line of [...lines.filter((text) => text.startsWith("skipped")), ...slow.slice(0, 5)]) t.diagnostic(line);
  const counts = outputs.map(({ text }) => summary.exec(text)?.slice(1, 5).map(Number));
  const sum = (place: number) => counts.reduce((total, count) => total + (count?.[place] ?? 0), 0);
  t.diagnostic(`${sum(0)} passed, ${sum(1)} failed, ${sum(2)} skipped, ${sum(3)} checks`);
  const said = lines.filter((text) => !/^(ok|skipped|slow)\b/.test(text)).join("\n");
  for (const [i, { status }] of outputs.entries()) {
    assert.equal(status, 0, said);
    assert.ok(counts[i], `a process ended without its summary:\n${said}`);
  }
  assert.ok(sum(0) > 0 && sum(1) === 0, said);
}
