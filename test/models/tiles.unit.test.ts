import assert from "node:assert/strict";
import { test } from "node:test";
import type { TensorEntry } from "../../dist/checkpoint/types.js";
import type { WeightPlace } from "../../dist/models/descriptor.js";
import { groupedQkv } from "../../dist/models/parts/attention.js";
import { findJoint, makeTiles } from "../../dist/models/weights/tiles.js";
import { transpose } from "../../dist/models/weights/views.js";

// Pieces of a tensor, as shards have them, become tiles of a role.

function piece(shape: number[], file: number): TensorEntry {
  const strides = shape.map((_, at) => shape.slice(at + 1).reduce((product, size) => product * size, 1));
  return { name: "t", dtype: "float16", shape, strides, file, byteOffset: 100 };
}

function tilesOf(place: WeightPlace, ...shapes: number[][]) {
  const pieces = shapes.map(piece);
  const joint = findJoint(place, pieces);
  assert.ok(joint !== undefined, "the pieces fit together");
  return makeTiles(place, pieces, joint).map(({ file, byteOffset, shape, firstRow, firstCol }) => ({
    file,
    byteOffset,
    shape,
    first: [firstRow ?? 0, firstCol ?? 0],
  }));
}

const matrix: WeightPlace = { role: "r.weight", tensor: "t", shape: [12, 8], view: [] };

test("rows, columns and copies", () => {
  assert.deepEqual(tilesOf(matrix, [5, 8], [3, 8], [4, 8]), [
    { file: 0, byteOffset: 100, shape: [5, 8], first: [0, 0] },
    { file: 1, byteOffset: 100, shape: [3, 8], first: [5, 0] },
    { file: 2, byteOffset: 100, shape: [4, 8], first: [8, 0] },
  ]);
  assert.deepEqual(tilesOf(matrix, [12, 2], [12, 5], [12, 1]), [
    { file: 0, byteOffset: 100, shape: [12, 2], first: [0, 0] },
    { file: 1, byteOffset: 100, shape: [12, 5], first: [0, 2] },
    { file: 2, byteOffset: 100, shape: [12, 1], first: [0, 7] },
  ]);
  assert.deepEqual(tilesOf(matrix, [12, 8], [12, 8]), [{ file: 0, byteOffset: 100, shape: [12, 8], first: [0, 0] }]);
  for (const shapes of [
    [
      [5, 8],
      [6, 8],
    ],
    [
      [5, 8],
      [7, 7],
    ],
    [
      [12, 8],
      [12, 4],
    ],
  ] as number[][][])
    assert.equal(findJoint(matrix, shapes.map(piece)), undefined, JSON.stringify(shapes));
});

test("pieces of a transposed matrix", () => {
  const place = { ...matrix, view: [transpose(0, 1)] };
  const tiles = tilesOf(place, [5, 8], [7, 8]);
  assert.deepEqual(
    tiles.map(({ shape, first }) => [shape, first]),
    [
      [
        [8, 5],
        [0, 0],
      ],
      [
        [8, 7],
        [0, 5],
      ],
    ],
  );
});

test("a padded vocabulary is cut in the pieces that reach beyond it", () => {
  const place = { ...matrix, padded: true };
  const rows = (...shapes: number[][]) => tilesOf(place, ...shapes).map(({ shape, first }) => [shape[0], first[0]]);
  assert.deepEqual(rows([8, 8], [8, 8]), [
    [8, 0],
    [4, 8],
  ]);
  assert.deepEqual(rows([7, 8], [5, 8], [4, 8]).slice(0, 2), [
    [7, 0],
    [5, 7],
  ]);
});

test("a bias is placed by columns", () => {
  const bias: WeightPlace = { role: "r.bias", tensor: "t", shape: [9], view: [] };
  assert.deepEqual(tilesOf(bias, [4], [5]), [
    { file: 0, byteOffset: 100, shape: [4], first: [0, 0] },
    { file: 1, byteOffset: 100, shape: [5], first: [0, 4] },
  ]);
});

// A group is its query heads, its key, its value: two heads of 3 rows each, in two groups.
test("grouped queries, keys and values", () => {
  const places = groupedQkv({ hidden: 5, heads: 4, kvHeads: 2, headDim: 3 }, "qkv", true);
  const rows = Object.fromEntries(
    places.map((place) => {
      const [view] = makeTiles(place, [piece([...place.shape], 0)], "whole");
      const width = place.role.endsWith("bias") ? 1 : 5;
      return [place.role, [((view?.byteOffset ?? 0) - 100) / 2 / width, view?.shape.slice(0, 2)]];
    }),
  );
  assert.deepEqual(rows["attn.q.weight"], [0, [2, 2]]);
  assert.deepEqual(rows["attn.k.weight"], [6, [2, 3]]);
  assert.deepEqual(rows["attn.v.weight"], [9, [2, 3]]);
  assert.equal((rows["attn.k.bias"] as unknown[])[0], 6);
  assert.equal((rows["attn.v.bias"] as unknown[])[0], 9);
});
