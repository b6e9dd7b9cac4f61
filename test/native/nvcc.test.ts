import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { before, test } from "node:test";
import { halfAnHour, root } from "./native_build.js";

// The CUDA sources by the real compiler. It needs no GPU: what is checked is that they compile without a warning, what
// registers the kernels need, what their machine code does, and that an addon with CUDA works on a machine without a driver.

// Exit status of the scripts here, where the compiler or the disassembler is not there and cannot be fetched.
const noToolkit = 3;

function runNode(args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, args, {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
    maxBuffer: 1 << 28,
  });
}

const addon = `${root}build-nvcc/Release/shardspeed.node`;
let missing: string | undefined;
let checked: { status: number | null; stdout: string; stderr: string };

before(
  () => {
    checked = runNode(["scripts/kernel_registers.mjs"]);
    if (checked.status === noToolkit) missing = checked.stderr.trim();
  },
  { timeout: halfAnHour },
);

test("the kernels compile without a warning, spill nothing and need no more registers than before", (t) => {
  if (missing) return t.skip(missing);
  assert.equal(checked.status, 0, `${checked.stdout}${checked.stderr}`);
  for (const line of checked.stdout.trimEnd().split("\n")) t.diagnostic(line);
});

test("their machine code has no fewer loads under way and uses no local memory", (t) => {
  if (missing) return t.skip(missing);
  const { status, stdout, stderr } = runNode(["scripts/check_sass.mjs", "--built"]);
  if (status === noToolkit) return t.skip(stderr.trim());
  assert.equal(status, 0, stderr);
  for (const line of `${stderr}${stdout.trimEnd().split("\n").at(-1)}`.split("\n")) t.diagnostic(line);
});

test("CUDA 12 compiles the kernels too, for drivers older than CUDA 13", { timeout: halfAnHour }, (t) => {
  const { status, stdout, stderr } = runNode(["scripts/compile_cuda12.mjs"]);
  if (status === noToolkit) return t.skip(stderr.trim());
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.match(stdout, /^projection_few\.cu: compiled for sm_90$/m);
});

/** Runs a program with the addon built here; its JSON output. */
function runWithAddon(program: string): unknown {
  // No device is shown to CUDA, also where there is one.
  const env = { SHARDSPEED_BINDING: addon, CUDA_VISIBLE_DEVICES: "" };
  const { status, stdout, stderr } = runNode(["--input-type=module", "--eval", program], env);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

test("an addon with CUDA loads where there is none, says what is missing and computes on the CPU", (t) => {
  if (missing) return t.skip(missing);
  const { report, ids, code, message } = runWithAddon(`
    import { createRequire } from "node:module";
    import { initInference } from "./dist/index.js";
    const native = createRequire(import.meta.url)(${JSON.stringify(addon)});
    const engine = await initInference("models/demo", { device: "cpu" });
    const { ids } = await engine.generate("The", { maxNewTokens: 3, ignoreEos: true });
    await engine.dispose();
    const failure = await initInference("models/demo", { device: "cuda" }).then(() => undefined, (error) => error);
    const { code, message } = failure ?? {};
    console.log(JSON.stringify({ report: native.cudaReport(), ids, code, message }));
  `) as {
    report: { built: boolean; emulated: boolean; problem?: string; runtimeVersion?: string; devices: unknown[] };
    ids: number[];
    code?: string;
    message?: string;
  };
  assert.equal(report.built, true);
  assert.equal(report.emulated, false);
  assert.deepEqual(report.devices, []);
  assert.match(report.problem ?? "", /driver|no CUDA device|CUDA_VISIBLE_DEVICES/i);
  assert.match(report.runtimeVersion ?? "", /^\d+\.\d+$/);
  assert.equal(ids.length, 3);
  assert.equal(code, "ERR_CUDA");
  assert.match(message ?? "", /driver|no CUDA device|CUDA_VISIBLE_DEVICES/i);
});

// Libraries that are opened when they are there: what cuda/ declares of each, and a change of its header that must be seen.
for (const [name, library, source, change] of [
  [
    "cuBLASLt",
    "cublas",
    "cublaslt_header_check.cpp",
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER=CUBLASLT_MATMUL_DESC_EPILOGUE",
  ],
  ["NCCL", "nccl", "nccl_header_check.cpp", "internal=internal[2], more"],
] as const) {
  test(`what is declared of ${name} is what its header declares`, (t) => {
    const { status, stdout, stderr } = runNode(["scripts/cuda_toolkit.mjs", "--with", library]);
    if (status !== 0) return t.skip(stderr.trim());
    const [toolkit, headers] = stdout.trim().split("\n");
    const folders = ["-I.", "-Isrc", "-isystem", headers ?? "", "-isystem", `${toolkit}/include`];
    const compile = (...more: string[]) =>
      spawnSync(
        process.env.CXX ?? "c++",
        ["-std=c++20", "-fsyntax-only", ...folders, ...more, `test/native/cuda/${source}`],
        { cwd: root, encoding: "utf8" },
      );
    const checked = compile();
    assert.equal(checked.status, 0, checked.stderr);
    // And it does find a difference.
    const changed = compile(`-D${change}`);
    assert.notEqual(changed.status, 0, "a declaration that differs passed");
  });
}
