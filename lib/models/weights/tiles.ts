import type { TensorEntry } from "../../checkpoint/types.js";
import type { StoredWeightDtype, WeightView } from "../../native/spec.js";
import type { WeightPlace } from "../descriptor.js";
import type { StridedView } from "./views.js";

const elementBytes: Readonly<Record<StoredWeightDtype, number>> = { float32: 4, float16: 2, bfloat16: 2, float64: 8 };

export function isStoredWeightDtype(dtype: string): dtype is StoredWeightDtype {
  return Object.hasOwn(elementBytes, dtype);
}

export function bytesOf(dtype: StoredWeightDtype): number {
  return elementBytes[dtype];
}

/** How pieces make up a tensor: all are the same whole one, or they lie side by side along a dimension. */
export type Joint = { axis: number } | "whole";

/**
 * Finds out how a tensor was cut into pieces, from the shape that it has when it is whole. Pieces of that very shape are copies, which
 * every rank had; others differ from it in one dimension, along which they add up to it.
 *
 * @returns undefined where they fit in no way.
 */
export function findJoint(place: WeightPlace, pieces: readonly TensorEntry[]): Joint | undefined {
  const { shape: whole } = place;
  const fits = (sum: number, size: number, axis: number) =>
    sum === size || (place.padded === true && axis === 0 && sum > size);
  if (pieces.every(({ shape }) => sameExcept(shape, whole, -1))) return "whole";
  const axes = whole.flatMap((size, axis) => {
    if (!pieces.every(({ shape }) => sameExcept(shape, whole, axis))) return [];
    const sum = pieces.reduce((total, { shape }) => total + (shape[axis] as number), 0);
    return fits(sum, size, axis) ? [axis] : [];
  });
  return axes.length === 1 ? { axis: axes[0] as number } : undefined;
}

function sameExcept(shape: readonly number[], whole: readonly number[], axis: number): boolean {
  return shape.length === whole.length && shape.every((size, at) => at === axis || size === whole[at]);
}

/**
 * The views that make up a role: of one piece one, of several a tile each. A vector of several dimensions (a bias by heads) becomes a tile
 * for each run of it, since all but the last dimension of a view are rows.
 *
 * @throws RangeError where a piece ends within one of the blocks that the place tells apart.
 */
export function makeTiles(place: WeightPlace, pieces: readonly TensorEntry[], joint: Joint): WeightView[] {
  const isVector = place.shape.length === 1;
  const views = (joint === "whole" ? pieces.slice(0, 1) : pieces).map((entry) =>
    viewOf(place, cutPadding(place, entry, pieces, joint)),
  );
  const { firstCol } = place;
  if (views.length === 1 && !(isVector && views[0]?.shape.length !== 1))
    return firstCol === undefined ? views : views.map((view) => ({ ...view, firstCol }));
  const cols = isVector ? 1 : (applySteps(place, { ...contiguous(place.shape) }).shape.at(-1) as number);
  const alongRows = !isVector && views.every(({ shape }) => shape.at(-1) === cols);
  let at = firstCol ?? 0;
  return views.flatMap((view) => {
    const tiles = isVector ? runsOf(view) : [view];
    return tiles.map((tile) => {
      const placed = alongRows ? { ...tile, firstRow: at } : { ...tile, firstCol: at };
      at += alongRows ? rowsOf(tile.shape) : (tile.shape.at(-1) as number);
      return placed;
    });
  });
}

/** Rows of a view: all dimensions but the last. */
export function rowsOf(shape: readonly number[]): number {
  return shape.slice(0, -1).reduce((product, size) => product * size, 1);
}

/** Of a padded tensor only as many rows as there should be, in the pieces that have them. */
function cutPadding(place: WeightPlace, entry: TensorEntry, pieces: readonly TensorEntry[], joint: Joint): TensorEntry {
  if (!place.padded || joint === "whole" || joint.axis !== 0) return entry;
  const before = pieces.slice(0, pieces.indexOf(entry)).reduce((sum, { shape }) => sum + (shape[0] as number), 0);
  const rows = Math.min(entry.shape[0] as number, Math.max(0, (place.shape[0] as number) - before));
  return { ...entry, shape: entry.shape.with(0, rows) };
}

export function contiguous(shape: readonly number[]): StridedView {
  const strides = shape.map((_, at) => shape.slice(at + 1).reduce((product, size) => product * size, 1));
  return { shape: [...shape], strides, offset: 0 };
}

function applySteps(place: WeightPlace, start: StridedView): StridedView {
  return place.view.reduce((view, step) => step(view), start);
}

function viewOf(place: WeightPlace, entry: TensorEntry): WeightView {
  const { dtype } = entry;
  if (!isStoredWeightDtype(dtype)) throw new TypeError(`${entry.name} was not checked`);
  const start = { shape: [...entry.shape], strides: [...entry.strides], offset: 0 };
  const { shape, strides, offset } = applySteps(place, start);
  return {
    role: place.role,
    tensor: entry.name,
    dtype,
    file: entry.file,
    byteOffset: entry.byteOffset + offset * elementBytes[dtype],
    shape,
    strides,
  };
}

/** A view of several dimensions as vectors, one behind the other. */
function runsOf(view: WeightView): WeightView[] {
  if (view.shape.length === 1) return [view];
  const [size = 0, ...shape] = view.shape;
  const [stride = 0, ...strides] = view.strides;
  return Array.from({ length: size }, (_, index) => {
    const byteOffset = view.byteOffset + index * stride * elementBytes[view.dtype];
    return runsOf({ ...view, byteOffset, shape, strides });
  }).flat();
}
