import { test } from "node:test";
import { build, halfAnHour, threadChecked as kind, missingSanitizer, runCases } from "./native_build.js";

// ThreadSanitizer knows the emulator's threads, so it finds what races in kernels: two accesses that no barrier orders.

const skip = missingSanitizer(kind);

for (const executable of ["emulator_tests", "cuda_tests"]) {
  test(`${executable} ${kind.name}`, { skip, timeout: halfAnHour }, async (t) => {
    build(kind, [executable]);
    await runCases(t, kind, executable);
  });
}
