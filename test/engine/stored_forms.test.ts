import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { fixture, readJson } from "../support/fixtures.js";

/** Checkpoints as users have them, each with what transformers 5.24 generates from that very folder. */
describe("checkpoints in unusual forms, as transformers loads them", () => {
  for (const [name, what] of [
    ["tied_head_in_index", "an index that names a tied head which is in no shard"],
    ["float64", "weights in float64"],
  ] as const) {
    test(what, async () => {
      const { ids, new: expected } = readJson<{ ids: number[]; new: number[] }>(
        fixture("users", name, "expected.json"),
      );
      await using engine = await initInference(fixture("users", name), { threads: 1 });
      assert.equal(engine.module.dtype, "float32");
      const { ids: found } = await engine.generate(ids, { maxNewTokens: expected.length, ignoreEos: true });
      assert.deepEqual(found, expected);
    });
  }
});
