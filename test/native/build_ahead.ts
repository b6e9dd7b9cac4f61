import { addressChecked, build, missingSanitizer, programs, threadChecked } from "./native_build.js";

// What test/run.mjs starts beside the tests that keep one processor idle: the builds under sanitizers, which take longest.

for (const kind of [threadChecked, addressChecked]) {
  if (missingSanitizer(kind)) continue;
  try {
    build(kind, programs);
  } catch {
    // It fails again in the test that needs it, which then shows why.
  }
}
