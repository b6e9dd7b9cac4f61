import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  narrow,
  type StridedView,
  select,
  share,
  transpose,
  unflatten,
  type ViewStep,
} from "../../dist/models/weights/views.js";
import { contiguous } from "./helpers.js";

/** A tensor as nested lists of element numbers: the plain meaning that strides stand for. */
type Nested = number | Nested[];

function elements({ shape, strides, offset }: StridedView): Nested {
  const [size, ...rest] = shape;
  const [stride, ...others] = strides;
  if (size === undefined || stride === undefined) return offset;
  return Array.from({ length: size }, (_, i) =>
    elements({ shape: rest, strides: others, offset: offset + i * stride }),
  );
}

function list(nested: Nested | undefined): Nested[] {
  assert.ok(Array.isArray(nested));
  return nested;
}

/** Applies a change to the lists of one dimension. */
function along(nested: Nested, dimension: number, change: (part: Nested[]) => Nested): Nested {
  return dimension === 0 ? change(list(nested)) : list(nested).map((part) => along(part, dimension - 1, change));
}

function swapFirstTwo(nested: Nested): Nested {
  return list(list(nested)[0]).map((_, column) => list(nested).map((row) => list(row)[column] as Nested));
}

interface Step {
  name: string;
  step: ViewStep;
  plain: (nested: Nested) => Nested;
  shape: number[];
}

/** A step that fits the shape, chosen by a few numbers. */
function chooseStep(shape: readonly number[], [kind, one, other]: [number, number, number]): Step | undefined {
  const dimension = one % shape.length;
  const size = shape[dimension] as number;
  if (kind === 0) {
    const start = other % size;
    const length = 1 + (one % (size - start));
    const plain = (nested: Nested) => along(nested, dimension, (part) => part.slice(start, start + length));
    return { name: "narrow", step: narrow(dimension, start, length), plain, shape: shape.with(dimension, length) };
  }
  if (kind === 1 && shape.length > 1) {
    const index = other % size;
    const plain = (nested: Nested) => along(nested, dimension, (part) => part[index] as Nested);
    return { name: "select", step: select(dimension, index), plain, shape: shape.toSpliced(dimension, 1) };
  }
  if (kind === 2) {
    const inner = [1, 2, 3].filter((divisor) => size % divisor === 0)[other % 3] ?? 1;
    const cut = (part: Nested[]) =>
      Array.from({ length: size / inner }, (_, i) => part.slice(i * inner, (i + 1) * inner));
    const sizes = [size / inner, inner];
    const plain = (nested: Nested) => along(nested, dimension, cut);
    return {
      name: "unflatten",
      step: unflatten(dimension, sizes),
      plain,
      shape: shape.toSpliced(dimension, 1, ...sizes),
    };
  }
  if (kind === 3 && dimension + 1 < shape.length) {
    const swapped = [...shape];
    [swapped[dimension], swapped[dimension + 1]] = [shape[dimension + 1] as number, size];
    const plain = (nested: Nested) => along(nested, dimension, swapFirstTwo);
    return { name: "transpose", step: transpose(dimension, dimension + 1), plain, shape: swapped };
  }
  return undefined;
}

test("any sequence of steps is what it says, on any strides", () => {
  const shapes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 });
  const choice = fc.tuple(fc.nat(3), fc.nat(1000), fc.nat(1000));
  const strideFactor = fc.integer({ min: 1, max: 3 });
  fc.assert(
    fc.property(
      shapes,
      strideFactor,
      fc.nat(50),
      fc.array(choice, { maxLength: 5 }),
      (shape, factor, offset, choices) => {
        let view: StridedView = { shape, strides: contiguous(shape).map((stride) => stride * factor), offset };
        let expected = elements(view);
        for (const numbers of choices) {
          const chosen = chooseStep(view.shape, numbers);
          if (!chosen) continue;
          const before = structuredClone(view);
          const next = chosen.step(view);
          assert.deepEqual(view, before, `${chosen.name} leaves its input alone`);
          view = next;
          expected = chosen.plain(expected);
          assert.deepEqual(view.shape, chosen.shape);
        }
        assert.deepEqual(elements(view), expected);
      },
    ),
  );
});

describe("steps that do not fit", () => {
  const view: StridedView = { shape: [4, 6], strides: [6, 1], offset: 0 };
  const cases: [string, ViewStep][] = [
    ["narrow past the end", narrow(1, 4, 3)],
    ["narrow before the start", narrow(1, -1, 2)],
    ["narrow to nothing", narrow(0, 0, 0)],
    ["narrow a dimension that is not there", narrow(2, 0, 1)],
    ["select past the end", select(0, 4)],
    ["unflatten to another size", unflatten(1, [4, 2])],
    ["unflatten to what is left, where that is no whole number", unflatten(1, [-1, 4])],
    ["share of a piece that is cut within a block", share(0, 1, 1, 3)],
    ["share past the end", share(1, 4, 3, 6)],
    ["transpose a dimension that is not there", transpose(0, 2)],
  ];
  for (const [name, step] of cases) test(name, () => assert.throws(() => step(view), RangeError));
});

test("share takes of a piece of a tensor what narrow takes of the whole", () => {
  const whole: StridedView = { shape: [12, 5], strides: [5, 1], offset: 0 };
  assert.deepEqual(share(0, 4, 4, 12)(whole), narrow(0, 4, 4)(whole));
  const piece: StridedView = { shape: [6, 5], strides: [5, 1], offset: 0 };
  assert.deepEqual(share(0, 4, 4, 12)(piece), narrow(0, 2, 2)(piece));
  assert.deepEqual(unflatten(0, [-1, 3])(piece), unflatten(0, [2, 3])(piece));
});

test("per-head interleaved q, k, v: rows of two dimensions", () => {
  // (heads 2, 3, headDim 2, hidden 3) rows of a fused matrix, as BLOOM and GPT-NeoX keep them.
  const fused: StridedView = { shape: [12, 3], strides: [3, 1], offset: 0 };
  const key = [unflatten(0, [2, 3, 2]), select(1, 1)].reduce((view, step) => step(view), fused);
  assert.deepEqual(key, { shape: [2, 2, 3], strides: [18, 3, 1], offset: 6 });
});
