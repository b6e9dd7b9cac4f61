import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { build, halfAnHour, released as kind, root, run, runCases } from "./native_build.js";

// The kernels and the host code around them on the emulator, compiled as they are released.

for (const executable of ["emulator_tests", "cuda_tests"]) {
  test(`${executable} ${kind.name}`, { timeout: halfAnHour }, async (t) => {
    build(kind, [executable]);
    await runCases(t, kind, executable);
  });
}

test("gpu_bench runs on the emulator", { timeout: halfAnHour }, () => {
  build(kind, ["gpu_bench"]);
  const { status, output } = run(`${root}${kind.folder}/bench/native/gpu_bench`, ["--smoke"]);
  // Fails too where whole models have weights that are zeros.
  assert.equal(status, 0, output);
  for (const part of ["memory", "projection", "rows", "decode", "prefill", "sampling", "model", "prompt"])
    assert.match(output, new RegExp(`^${part} +model`, "m"));
  assert.match(output, /^cuBLASLt: not measured, /m);
});

test("gpu_bench checks products of whole models on the emulator", { timeout: halfAnHour }, () => {
  build(kind, ["gpu_bench"]);
  const json = path.join(mkdtempSync(path.join(tmpdir(), "gpu-bench-")), "bench.json");
  const args = ["--smoke", "--only", "verify,verify-library", "--json", json];
  const { status, output } = run(`${root}${kind.folder}/bench/native/gpu_bench`, args);
  assert.equal(status, 0, output);
  assert.equal(output.match(/64 outputs of 65 rows compared with fp64/g)?.length, 10, output);
  const { failures, notes } = JSON.parse(readFileSync(json, "utf8"));
  assert.deepEqual(failures, []);
  assert.ok(notes.some((note: string) => note.startsWith("cuBLASLt: not checked, ")));
  const unknown = run(`${root}${kind.folder}/bench/native/gpu_bench`, ["--models", "GPT-9"]);
  assert.equal(unknown.status, 1);
  assert.match(unknown.output, /--models GPT-9 names no model/);
});
