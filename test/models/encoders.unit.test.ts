import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import type { Checkpoint } from "../../dist/checkpoint/types.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { encoderFolder, encoders, readEncoder } from "../support/encoders.js";
import { relativeError } from "../support/fixtures.js";
import { collectWarnings, readConfig, rename } from "./helpers.js";
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

describe("names of norms that older versions wrote", () => {
  const description = describeModel(readConfig(`${encoderFolder("bert_classifier")}/config.json`));
  const older = (name: string) =>
    name.replace(/(?<=LayerNorm\.)weight$/, "gamma").replace(/(?<=LayerNorm\.)bias$/, "beta");
  const resolve = (checkpoint: Checkpoint) => {
    const { warnings, logger } = collectWarnings();
    const { weights } = resolveWeights(description, checkpoint, { logger });
    return { warnings, places: weights.map(({ tensor: _, ...place }) => place) };
  };

  test("are read as the present ones, without a warning", async () => {
    const checkpoint = await openCheckpoint(encoderFolder("bert_classifier"));
    const renamed = rename(checkpoint, older);
    assert.notDeepEqual([...renamed.tensors.keys()], [...checkpoint.tensors.keys()]);
    assert.deepEqual(resolve(renamed), { ...resolve(checkpoint), warnings: [] });
  });

  test("in shards, all of them", async () => {
    const checkpoint = rename(await openCheckpoint(encoderFolder("bert_classifier")), older);
    const cut = "bert.encoder.layer.0.output.LayerNorm.gamma";
    const whole = checkpoint.tensors.get(cut);
    assert.ok(whole);
    const half = (whole.shape[0] as number) / 2;
    const first = { ...whole, shape: [half] };
    const pieces = new Map([[cut, [first, { ...first, byteOffset: whole.byteOffset + 1000 }]]]);
    const { places, warnings } = resolve({
      ...checkpoint,
      tensors: new Map(checkpoint.tensors).set(cut, first),
      pieces,
    });
    const tiles = places.filter(({ role }) => role === "layers.0.mlp.norm.weight");
    assert.deepEqual(
      tiles.map(({ byteOffset, shape }) => [byteOffset - whole.byteOffset, ...shape]),
      [0, 1000].map((offset) => [offset, half]),
    );
    assert.deepEqual(warnings, []);
  });

  test("beside the present ones are not used, and named", async () => {
    const checkpoint = await openCheckpoint(encoderFolder("bert_classifier"));
    const name = "bert.embeddings.LayerNorm.gamma";
    const entry = checkpoint.tensors.get("bert.embeddings.LayerNorm.weight");
    assert.ok(entry);
    const { places, warnings } = resolve({
      ...checkpoint,
      tensors: new Map(checkpoint.tensors).set(name, { ...entry, name, byteOffset: 0 }),
    });
    assert.deepEqual(places, resolve(checkpoint).places);
    assert.match(
      warnings.join(),
      /1 tensor that the bert model of config\.json does not use: bert\.embeddings\.LayerNorm\.gamma$/,
    );
  });
});
