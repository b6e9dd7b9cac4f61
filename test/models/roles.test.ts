import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { largestTpSize } from "../../dist/loading/sharding.js";
import { describeModel } from "../../dist/models/index.js";
import { heldShape, parseRole, shapeOf } from "../../dist/models/roles.js";
import { contiguous, rowsOf } from "../../dist/models/weights/tiles.js";
import type { RankPlan } from "../../dist/native/binding.js";
import { loadNative } from "../../dist/native/load.js";
import type { ModelSpec } from "../../dist/native/spec.js";
import { fixture } from "../support/fixtures.js";
import { refusedGoldens } from "../support/golden.js";
import { type Config, goldens, isTied, readConfig } from "./helpers.js";

// lib/models/roles.ts against what descriptors say of checkpoints, and against what C++ deals out to ranks.

function describeGolden(name: string, changes: Config = {}) {
  return describeModel({ ...readConfig(fixture("golden", name, "config.json")), ...changes });
}

describe("every place has the shape of its role", () => {
  for (const name of goldens) {
    test(name, () => {
      const { spec, layout } = describeGolden(name);
      for (const place of [...layout.body, ...layout.head]) {
        const { shape } = place.view.reduce((view, step) => step(view), contiguous(place.shape));
        const { isBias, role } = parseRole(place.role);
        const found =
          isBias || role.isVector ? [1, rowsOf(shape) * (shape.at(-1) ?? 0)] : [rowsOf(shape), shape.at(-1)];
        const [, cols = 0] = found as [number, number];
        const whole = shapeOf(spec, place.role);
        if (place.firstCol === undefined) assert.deepEqual(found, whole, place.role);
        else assert.ok(place.firstCol + cols <= whole[1], place.role);
      }
    });
  }

  test("a name that is no role", () => {
    for (const name of ["embed", "embed.tokens", "layers.0.attn.x.weight", "attn.q.weight", "layers.0.norm.weight", ""])
      assert.throws(() => parseRole(name), TypeError, name);
  });
});

describe("ranks hold what C++ deals out", () => {
  // Sizes that nothing divides evenly, beside those of the golden data.
  const uneven: Record<string, Config> = {
    llama_heads: { num_attention_heads: 9, num_key_value_heads: 3, intermediate_size: 137, vocab_size: 101 },
    opt_odd: {},
    gpt2_heads: {},
    bloom: { n_head: 8 },
    falcon: { num_kv_heads: 1 },
    falcon_7b: { ffn_hidden_size: 77 },
  };
  const computed = goldens.filter((name) => !Object.hasOwn(refusedGoldens, name));
  for (const [name, changes] of [...computed.map((golden) => [golden, {}] as const), ...Object.entries(uneven)]) {
    test(`${name} ${JSON.stringify(changes)}`, () => {
      const { spec, layout } = describeGolden(name, changes);
      const roles = [...layout.body, ...layout.head].map(({ role }) => role);
      const binding = loadNative();
      for (let size = 1; size <= Math.min(largestTpSize(spec), 9); size++) {
        for (let rank = 0; rank < size; rank++) {
          const held = binding.shardShapes(planOf(spec, rank, size));
          for (const name of roles.filter((role) => role.endsWith(".weight"))) {
            const { matrix, role } = parseRole(name);
            if (matrix === "head" && isTied(spec)) continue;
            if (role.isVector && held[matrix] === undefined) {
              assert.deepEqual(heldShape(spec, name, rank, size), shapeOf(spec, name), `${name} is whole`);
              continue;
            }
            assert.deepEqual(heldShape(spec, name, rank, size), held[matrix], `${name} of rank ${rank} of ${size}`);
          }
        }
      }
    });
  }
});

function planOf(spec: ModelSpec, rank: number, size: number): RankPlan {
  return {
    ...{ spec, dtype: "float32", devices: ["cpu"], tpSize: size, firstRank: rank, threads: 1 },
    ...{ maxSequenceTokens: spec.maxPositions, maxBatchTokens: 16, communicationDtype: "float32" },
  };
}
