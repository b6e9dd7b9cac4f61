import { bytesOf, rowsOf } from "../models/weights/tiles.js";
import type { WeightView } from "../native/spec.js";
import type { Range } from "./cut.js";

/** A view of one or two dimensions, and where its first element belongs in its role's tensor. */
export interface SourceTile extends WeightView {
  firstRow: number;
  firstCol: number;
}

/** The views of a role as tiles of two dimensions, or of one where the role is a vector. */
export function toTiles(views: readonly WeightView[]): SourceTile[] {
  return views.flatMap((view) => flatten({ firstRow: 0, firstCol: 0, ...view }));
}

function flatten(view: SourceTile): SourceTile[] {
  if (view.shape.length <= 2) return [view];
  const [size = 0, ...shape] = view.shape;
  const [stride = 0, ...strides] = view.strides;
  const rows = rowsOf(shape);
  return Array.from({ length: size }, (_, index) => {
    const byteOffset = view.byteOffset + index * stride * bytesOf(view.dtype);
    return flatten({ ...view, byteOffset, shape, strides, firstRow: view.firstRow + index * rows });
  }).flat();
}

/** What of the tiles lies in some rows and columns of the role's tensor, placed from the first of these on. */
export function cutTiles(tiles: readonly SourceTile[], rows: Range, cols: Range): SourceTile[] {
  return tiles.flatMap((tile) => {
    const isVector = tile.shape.length === 1;
    const [height, width] = isVector ? [1, tile.shape[0] as number] : (tile.shape as [number, number]);
    const [down, across] = isVector ? [0, tile.strides[0] as number] : (tile.strides as [number, number]);
    const ownRows = overlap({ first: tile.firstRow, count: height }, rows);
    const ownCols = overlap({ first: tile.firstCol, count: width }, cols);
    if (ownRows.count === 0 || ownCols.count === 0) return [];
    const skipped = (ownRows.first - tile.firstRow) * down + (ownCols.first - tile.firstCol) * across;
    return [
      {
        ...tile,
        byteOffset: tile.byteOffset + skipped * bytesOf(tile.dtype),
        shape: isVector ? [ownCols.count] : [ownRows.count, ownCols.count],
        firstRow: ownRows.first - rows.first,
        firstCol: ownCols.first - cols.first,
      },
    ];
  });
}

/** The same elements with rows and columns exchanged. */
export function transposeTile(tile: SourceTile): SourceTile {
  return {
    ...tile,
    shape: tile.shape.toReversed(),
    strides: tile.strides.toReversed(),
    firstRow: tile.firstCol,
    firstCol: tile.firstRow,
  };
}

function overlap(one: Range, other: Range): Range {
  const first = Math.max(one.first, other.first);
  return { first, count: Math.max(0, Math.min(one.first + one.count, other.first + other.count) - first) };
}
