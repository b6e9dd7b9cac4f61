import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { fixture, hasCode } from "../support/fixtures.js";
import { compareDemoModel, compareWithGolden, forms, goldens, readGolden, refusedGoldens } from "../support/golden.js";

// The CPU engine against what transformers computes in fp32 from the same stored weights.

const device = "cpu";

describe("goldens in fp32", () => {
  for (const name of goldens) {
    test(name, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), { device, dtype: "float32", relative: 2e-4 }),
    );
  }
});

describe("goldens in their stored dtype", () => {
  for (const name of goldens) {
    const dtype = readGolden(name).weightsDtype;
    // The CPU backend keeps activations and cache in fp32, so storage that loses nothing costs nothing.
    test(`${name} as ${dtype}`, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), { device, dtype, relative: 2e-4 }));
  }
});

describe("goldens in fp16", () => {
  for (const name of goldens) {
    test(name, () =>
      compareWithGolden(fixture("golden", name), fixture("golden", name), { device, dtype: "fp16", relative: 5e-3 }),
    );
  }
});

describe("goldens that the engine refuses so far", () => {
  for (const [name, reason] of Object.entries(refusedGoldens)) {
    test(`${name}: ${reason}`, async () => {
      await assert.rejects(
        initInference(fixture("golden", name), { config: {}, device }),
        hasCode("ERR_UNSUPPORTED_MODEL", new RegExp(`The engine does not compute ${reason}`)),
      );
    });
  }
});

describe("checkpoint forms", () => {
  for (const { form, base } of forms) {
    for (const [dtype, relative] of [
      ["fp32", 2e-4],
      ["fp16", 5e-3],
    ] as const) {
      test(`${form} in ${dtype}`, () =>
        compareWithGolden(fixture("forms", form), fixture("golden", base), { device, dtype, relative }));
    }
  }
});

describe("demo model", () => {
  for (const dtype of ["fp32", "fp16"])
    test(`writes the golden text in ${dtype}`, () => compareDemoModel(device, dtype, 0));
});
