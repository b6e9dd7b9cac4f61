import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { fixture, type Golden, readFloatTensors, readJson, relativeError } from "../support/fixtures.js";
import { readConfig } from "./helpers.js";
import { ReferenceModel } from "./reference.js";

// The descriptors alone, without the engine: what a spec and its views say, computed in the plainest way, is what
// transformers computes.

const goldens = readdirSync(fixture("golden")).filter((name) => existsSync(fixture("golden", name, "golden.json")));

describe("specs and views reproduce the logits of transformers", () => {
  for (const name of goldens) {
    test(name, async () => {
      const folder = fixture("golden", name);
      const description = describeModel(readConfig(`${folder}/config.json`));
      const resolved = resolveWeights(description, await openCheckpoint(folder));
      const model = new ReferenceModel(resolved.spec, resolved);
      const tensors = readFloatTensors(`${folder}/golden.safetensors`);
      const { prompts } = readJson<Golden>(`${folder}/golden.json`);
      assert.ok(prompts.length > 0);
      for (const [i, { ids, greedy }] of prompts.entries()) {
        const expected = tensors.get(`prompt${i}.logits`);
        assert.ok(expected);
        const logits = model.logits(ids);
        const error = relativeError(new Float32Array(logits.flat()), expected.data);
        assert.ok(error < 5e-6, `prompt ${i}: logits differ by ${error}`);
        assert.equal(indexOfLargest(logits.at(-1) ?? []), greedy[0]);
        // The last token needs the whole sequence: positions and, for dynamic rope, lengths that the prompt has not.
        assert.equal(indexOfLargest(model.logits([...ids, ...greedy.slice(0, -1)]).at(-1) ?? []), greedy.at(-1));
      }
    });
  }
});

function indexOfLargest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}
