import { test } from "node:test";
import { build, halfAnHour, addressChecked as kind, missingSanitizer, runCases } from "./native_build.js";

// The same with AddressSanitizer: what kernels and host code read and write out of bounds, or undefined arithmetic.

const skip = missingSanitizer(kind);

for (const executable of ["emulator_tests", "cuda_tests"]) {
  test(`${executable} ${kind.name}`, { skip, timeout: halfAnHour }, async (t) => {
    build(kind, [executable]);
    await runCases(t, kind, executable);
  });
}
