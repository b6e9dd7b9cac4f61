import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { encoderFolder, encoders, readEncoder } from "../support/encoders.js";
import { relativeError } from "../support/fixtures.js";
import { collectWarnings, readConfig } from "./helpers.js";
import { ReferenceModel } from "./reference.js";

// As golden.unit.test.ts, of models that make no text: the descriptors alone, computed in the plainest way.

describe("specs and views of encoders reproduce the outputs of transformers", () => {
  for (const name of encoders) {
    test(name, async () => {
      const folder = encoderFolder(name);
      const { warnings, logger } = collectWarnings();
      const description = describeModel(readConfig(`${folder}/config.json`), { logger });
      assert.deepEqual(warnings, []);
      const resolved = resolveWeights(description, await openCheckpoint(folder));
      const model = new ReferenceModel(resolved.spec, resolved);
      const { prompts, tensors, task } = readEncoder(name);
      assert.equal(description.labels.task, task);
      for (const [i, { ids, tokenTypeIds }] of prompts.entries()) {
        const hidden = model.hidden(ids, tokenTypeIds);
        const compare = (what: string, rows: number[][]) => {
          const error = relativeError(
            new Float32Array(rows.flat()),
            tensors.get(`prompt${i}.${what}`)?.data as Float32Array,
          );
          assert.ok(error < 5e-6, `prompt ${i}: ${what} differ by ${error}`);
        };
        compare("logits", task === "base" ? hidden : model.head(hidden));
        if (tensors.has(`prompt${i}.pooled`)) compare("pooled", model.head(hidden));
      }
    });
  }
});
