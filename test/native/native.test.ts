import { test } from "node:test";
import {
  addressChecked,
  build,
  halfAnHour,
  missingSanitizer,
  released,
  runCases,
  threadChecked,
} from "./native_build.js";

// The C++ tests of src/, so that one command runs everything.

for (const kind of [released, addressChecked, threadChecked]) {
  test(`C++ tests ${kind.name}`, { skip: missingSanitizer(kind), timeout: halfAnHour }, async (t) => {
    build(kind, ["native_tests"]);
    await runCases(t, kind, "native_tests");
  });
}
