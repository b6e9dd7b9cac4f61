import assert from "node:assert/strict";
import { test } from "node:test";
import { goldens } from "../support/golden.js";
import { coverGoldens, variantsOf } from "../support/golden_cover.js";

function unionOf(names: readonly string[], ranks: number): string[] {
  return [...new Set(names.flatMap((name) => [...variantsOf(name, ranks)]))].sort();
}

for (const ranks of [1, 2, 8]) {
  test(`a part of the golden models has every variant that any has, with ${ranks} ranks`, () => {
    const chosen = coverGoldens(goldens, ranks);
    assert.deepEqual(unionOf(chosen, ranks), unionOf(goldens, ranks));
    assert.ok(chosen.length < goldens.length / 2, chosen.join());
  });
}

test("variants of the arithmetic are told apart", () => {
  const variants = unionOf(goldens, 1);
  for (const wanted of [
    "spec.kinds.attention.positions.kind = alibi",
    "spec.kinds.residual = post-norm",
    "spec.kinds.feedForward.activation = silu",
    "weight layers.N.attn.q.bias",
    "one kv head",
    "row of odd vectors",
  ])
    assert.ok(variants.includes(wanted), wanted);
  assert.ok(!variantsOf("llama", 1).has("weight layers.N.attn.q.bias"));
  assert.equal(variantsOf("llama", 64).size, 0, "too small for so many ranks");
});
