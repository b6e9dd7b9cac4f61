import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { compareEncoder, encoderFolder, encoders } from "../support/encoders.js";

// Encoders and classifiers on the CPU engine, against what transformers computes in fp32.

describe("goldens of encoders in fp32", () => {
  for (const name of encoders) {
    test(name, async () => {
      await using engine = await initInference(encoderFolder(name), {
        config: { dtype: "fp32" },
        device: "cpu",
        threads: 2,
      });
      await compareEncoder(engine, name, 2e-4);
    });
  }
});
