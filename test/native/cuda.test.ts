import assert from "node:assert/strict";
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
  assert.equal(status, 0, output);
  for (const part of ["memory", "projection", "rows", "decode", "prefill", "sampling", "model"])
    assert.match(output, new RegExp(`^${part} +model`, "m"));
});
