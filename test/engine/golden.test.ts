import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { demoModel, fixture, type Golden, readFloatTensors, readJson, relativeError } from "../support/fixtures.js";

// The engine against what transformers computes in fp32 from the same stored weights.

interface Tolerance {
  dtype: string;
  relative: number;
}

async function compare(modelFolder: string, goldenFolder: string, { dtype, relative }: Tolerance): Promise<void> {
  const golden = readJson<Golden>(join(goldenFolder, "golden.json"));
  const tensors = readFloatTensors(join(goldenFolder, "golden.safetensors"));
  await using engine = await initInference(modelFolder, { config: { dtype }, threads: 2, device: "cpu" });
  for (const [i, prompt] of golden.prompts.entries()) {
    const { logits } = await engine.forward({ inputIds: [prompt.ids] });
    const expected = tensors.get(`prompt${i}.logits`);
    assert.ok(expected, `golden.safetensors has prompt${i}.logits`);
    assert.deepEqual(logits.dims, [1, ...expected.shape]);
    const error = relativeError(logits.data, expected.data);
    assert.ok(error <= relative, `prompt ${i}: logits differ by ${error}, more than ${relative}`);
    const options = { maxNewTokens: prompt.greedy.length, ignoreEos: true };
    const { ids } = await engine.generate(prompt.ids, options);
    assert.deepEqual(ids, prompt.greedy, `prompt ${i}: greedy tokens`);
  }
}

const goldens = readdirSync(fixture("golden")).filter((name) => existsSync(fixture("golden", name, "golden.json")));

describe("goldens in fp32", () => {
  for (const name of goldens) {
    test(name, () => compare(fixture("golden", name), fixture("golden", name), { dtype: "float32", relative: 2e-4 }));
  }
});

describe("goldens in their stored dtype", () => {
  for (const name of goldens) {
    const { weightsDtype } = readJson<Golden>(fixture("golden", name, "golden.json"));
    // The CPU backend keeps activations and cache in fp32, so storage that loses nothing costs nothing.
    test(`${name} as ${weightsDtype}`, () =>
      compare(fixture("golden", name), fixture("golden", name), { dtype: weightsDtype, relative: 2e-4 }));
  }
});

describe("goldens in fp16", () => {
  for (const name of goldens) {
    test(name, () => compare(fixture("golden", name), fixture("golden", name), { dtype: "fp16", relative: 5e-3 }));
  }
});

describe("checkpoint forms", () => {
  for (const form of readdirSync(fixture("forms"))) {
    const { base } = readJson<{ base: string }>(fixture("forms", form, "form.json"));
    test(form, () => compare(fixture("forms", form), fixture("golden", base), { dtype: "fp32", relative: 2e-4 }));
    test(`${form} in fp16`, () =>
      compare(fixture("forms", form), fixture("golden", base), { dtype: "fp16", relative: 5e-3 }));
  }
});

interface DemoRow {
  prompt: string;
  ids: number[];
  greedy: number[];
  text: string;
  first: { id: number; logit: number }[];
  decoded_prompt: string;
}

describe("demo model", () => {
  for (const dtype of ["fp32", "fp16"]) {
    test(`writes the golden text in ${dtype}`, async () => {
      const rows = readJson<DemoRow[]>(join(demoModel, "golden.json"));
      await using engine = await initInference(demoModel, { config: { dtype }, threads: 2 });
      const results = await engine.generate(
        rows.map((row) => row.prompt),
        { maxNewTokens: 48, ignoreEos: true, logprobs: 5 },
      );
      for (const [i, row] of rows.entries()) {
        assert.deepEqual(engine.tokenizer?.encode(row.prompt), row.ids);
        assert.equal(engine.tokenizer?.decode(row.ids), row.decoded_prompt);
        assert.deepEqual(results[i]?.ids, row.greedy, row.prompt);
        assert.equal(results[i]?.text, row.text);
        assert.deepEqual(
          results[i]?.logprobs?.[0]?.top.map(({ id }) => id),
          row.first.map(({ id }) => id),
        );
      }
    });
  }
});
