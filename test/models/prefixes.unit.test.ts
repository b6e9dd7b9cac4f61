import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasCode } from "../support/fixtures.js";
import { makeCheckpoint, rename, smallest } from "./helpers.js";
import { places, resolve, shapes } from "./stored_shapes.js";

describe("prefixes", () => {
  const canonical = {
    ...{ opt: "model.decoder.", gpt2: "transformer.", llama: "model." },
    ...{ bloom: "transformer.", falcon: "transformer." },
  };
  const variants: [keyof typeof smallest, string][] = [
    ["opt", "decoder."],
    ["opt", ""],
    ["opt", "model.model.decoder."],
    ["opt", "module.model.decoder."],
    ["opt", "module.decoder."],
    ["gpt2", ""],
    ["gpt2", "module.transformer."],
    ["gpt2", "_orig_mod.transformer."],
    ["gpt2", "module."],
    ["llama", ""],
    ["llama", "model.model."],
    ["llama", "module.module.model."],
    ["llama", "_orig_mod.model."],
    ["bloom", ""],
    ["falcon", "module.transformer."],
  ];
  for (const [family, prefix] of variants) {
    test(`${family} behind ${JSON.stringify(prefix)}`, () => {
      const usual = makeCheckpoint(shapes[family]);
      const renamed = rename(usual, (name) =>
        name.startsWith(canonical[family]) ? prefix + name.slice(canonical[family].length) : name,
      );
      const found = resolve(smallest[family], renamed);
      assert.deepEqual(places(found.weights), places(resolve(smallest[family], usual).weights));
      assert.deepEqual(found.warnings, []);
    });
  }

  test("the head stands behind the wrapper alone", () => {
    const usual = makeCheckpoint(shapes.llama);
    const found = resolve(
      smallest.llama,
      rename(usual, (name) => `module.${name}`),
    );
    assert.equal(found.roles.get("head.weight")?.tensor, "module.lm_head.weight");
    assert.deepEqual(found.warnings, []);
  });

  test("a prefix that no wrapper makes is named", () => {
    const foreign = rename(makeCheckpoint(shapes.llama), (name) => `language_model.${name}`);
    assert.throws(
      () => resolve(smallest.llama, foreign),
      hasCode("ERR_CHECKPOINT", /stand behind "language_model\.model\.", expected one of "model\.", ""/),
    );
  });

  test("it is one prefix for all: tensors under another one are missing", () => {
    const mixed = rename(makeCheckpoint(shapes.opt), (name) =>
      name.includes("layers.1.fc1") ? name.replace("model.", "") : name,
    );
    assert.throws(
      () => resolve(smallest.opt, mixed),
      hasCode(
        "ERR_CHECKPOINT",
        /lacks 2 tensors.*model\.decoder\.layers\.1\.fc1\.weight, model\.decoder\.layers\.1\.fc1\.bias/,
      ),
    );
  });

  test("two models in one checkpoint are refused, a whole one beside a part of one is found", () => {
    const usual = makeCheckpoint(shapes.gpt2);
    const twice = {
      ...usual,
      tensors: new Map([...usual.tensors, ...rename(usual, (name) => `module.${name}`).tensors]),
    };
    assert.throws(
      () => resolve(smallest.gpt2, twice),
      hasCode("ERR_CHECKPOINT", /more than one model: .*"transformer\." and "module\.transformer\."/),
    );
    const part = rename(usual, (name) => (name.includes("h.1.") ? undefined : `module.${name}`));
    const both = resolve(smallest.gpt2, { ...usual, tensors: new Map([...part.tensors, ...usual.tensors]) });
    assert.equal(both.roles.get("norm.weight")?.tensor, "transformer.ln_f.weight");
    assert.equal(both.warnings.length, 1);
  });
});
