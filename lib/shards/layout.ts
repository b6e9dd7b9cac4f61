import { ShardspeedError } from "../base/errors.js";
import type { WeightPlace } from "../models/descriptor.js";
import type { ModelDescription } from "../models/index.js";
import { bytesOf, contiguous, rowsOf } from "../models/weights/tiles.js";
import type { ModelSpec, WeightView } from "../native/spec.js";
import { cutOf, type Range, shareOf } from "./cut.js";
import { cutTiles, type SourceTile, toTiles, transposeTile } from "./source.js";

/** A tensor of a shard: under the name that the model's own class has for it, and what its elements are made of. */
export interface ShardTensor {
  name: string;
  shape: number[];
  views: SourceTile[];
}

/** The tensors of the files of a checkpoint in shards. */
export interface ShardLayout {
  /** That no rank has alone. */
  whole: ShardTensor[];
  /** By rank. */
  ranks: ShardTensor[][];
}

/** Divides a model's tensors among ranks, in the names and layouts of the model's own class. */
export function layOutShards(
  { layout }: ModelDescription,
  spec: ModelSpec,
  weights: readonly WeightView[],
  size: number,
): ShardLayout {
  const sources = new Map<string, WeightView[]>();
  for (const view of weights) {
    const views = sources.get(view.role);
    if (views) views.push(view);
    else sources.set(view.role, [view]);
  }
  const groups = new Map<string, WeightPlace[]>();
  const add = (place: WeightPlace, prefix: string) => {
    if (!sources.has(place.role)) return; // a tied head
    const name = prefix + place.tensor;
    groups.set(name, [...(groups.get(name) ?? []), place]);
  };
  for (const place of layout.body) add(place, layout.bodyPrefixes[0] ?? "");
  for (const place of layout.head) add(place, "");
  const result: ShardLayout = { whole: [], ranks: Array.from({ length: size }, () => []) };
  for (const [name, places] of groups) {
    const tilesOf = ({ role }: WeightPlace) => toTiles(sources.get(role) as WeightView[]);
    // A tensor of all experts stays whole: it has a dimension more than those that are cut.
    const holdsExperts = places.some(({ role, shape }) => shape.length > (role.endsWith(".bias") ? 1 : 2));
    const isCut = !holdsExperts && places.every(({ role }) => shareOf(spec, role, 0, size) !== undefined);
    const source = holdsExperts ? wholeSource(name, places[0] as WeightPlace, sources) : undefined;
    if (source) result.whole.push(source);
    else if (!isCut) result.whole.push(makeTensor(name, places, tilesOf, undefined));
    else {
      for (const [rank, tensors] of result.ranks.entries()) {
        tensors.push(makeTensor(name, places, tilesOf, (role) => shareOf(spec, role, rank, size) as Range));
      }
    }
  }
  return result;
}

/** The tensor that a place is a part of, as it lies in its file; undefined where its elements do not lie as the place says. */
function wholeSource(
  name: string,
  place: WeightPlace,
  sources: ReadonlyMap<string, WeightView[]>,
): ShardTensor | undefined {
  const [view, ...others] = sources.get(place.role) ?? [];
  const { offset, strides } = roleView(place, place.shape);
  if (!view || others.length > 0 || strides.some((stride, at) => stride !== view.strides[at])) return undefined;
  const shape = [...place.shape];
  const [cols = 1] = shape.slice(-1);
  const byteOffset = view.byteOffset - offset * bytesOf(view.dtype);
  const tile = { ...view, byteOffset, shape: [rowsOf(shape), cols], strides: [cols, 1] };
  return { name, shape, views: toTiles([tile]) };
}

function makeTensor(
  name: string,
  places: readonly WeightPlace[],
  tilesOf: (place: WeightPlace) => SourceTile[],
  share: ((role: string) => Range) | undefined,
): ShardTensor {
  const whole = places[0]?.shape as readonly number[];
  const shape = share === undefined ? [...whole] : cutShape(whole, places, share);
  return {
    name,
    shape,
    views: places.flatMap((place) => placeRole(place, shape, tilesOf(place), share?.(place.role))),
  };
}

/** The shape of a tensor whose roles each keep a part: the dimension that they are cut along is shorter by as much. */
function cutShape(whole: readonly number[], places: readonly WeightPlace[], share: (role: string) => Range): number[] {
  let [kept, all] = [0, 0];
  for (const place of places) {
    const role = roleView(place, whole);
    kept += share(place.role).count;
    all +=
      cutOf(place.role) === "rows" && place.shape.length > 1
        ? rowsOf(role.shape)
        : sizeOfVectorOrColumns(role.shape, place);
  }
  const axis = cutAxis(places[0] as WeightPlace, whole);
  return whole.with(axis, ((whole[axis] as number) * kept) / all) as number[];
}

function sizeOfVectorOrColumns(shape: readonly number[], place: WeightPlace): number {
  return place.shape.length > 1 ? (shape.at(-1) as number) : shape.reduce((product, size) => product * size, 1);
}

function roleView(place: WeightPlace, shape: readonly number[]) {
  return place.view.reduce((view, step) => step(view), contiguous(shape));
}

/** Which dimension of the tensor the role's rows, or its columns, run along. */
function cutAxis(place: WeightPlace, whole: readonly number[]): number {
  if (whole.length === 1) return 0;
  const { strides } = roleView(place, whole);
  const stride = cutOf(place.role) === "rows" ? (strides[0] as number) : (strides.at(-1) as number);
  return stride % (whole[1] as number) === 0 ? 0 : 1;
}

/** Puts the part of a role where it belongs in a tensor of this shape. */
function placeRole(
  place: WeightPlace,
  shape: readonly number[],
  tiles: readonly SourceTile[],
  share: Range | undefined,
): SourceTile[] {
  const isVector = shape.length === 1;
  const width = shape.at(-1) as number;
  let { first: row, first: col } = share ?? { first: place.firstCol ?? 0 };
  // A place with a first column is a part of a vector, also where its tensor is none.
  if (isVector || place.firstCol !== undefined || cutOf(place.role) === "columns") row = 0;
  else col = 0;
  const placed: SourceTile[] = [];
  for (const block of blocksOf(roleView(place, shape), isVector)) {
    const part = cutTiles(tiles, { first: row, count: block.rows }, { first: col, count: block.cols });
    const [top, left] = isVector ? [0, block.offset] : [Math.floor(block.offset / width), block.offset % width];
    const turned = block.down === 1 && !isVector && Math.max(width, block.cols) > 1;
    if (!turned && !isVector && block.rows > 1 && block.down !== width) {
      throw new ShardspeedError(
        "ERR_UNSUPPORTED_MODEL",
        `Shards of this model cannot be saved: the rows of ${place.role} do not lie side by side in ${place.tensor}.`,
      );
    }
    for (const tile of turned ? part.map(transposeTile) : part) {
      placed.push({ ...tile, firstRow: tile.firstRow + top, firstCol: tile.firstCol + left });
    }
    if (isVector) col += block.cols;
    else row += block.rows;
  }
  return placed;
}

/** A part of a role that lies in a tensor as a matrix does (or as a run, where the tensor is a vector). */
interface Block {
  offset: number;
  rows: number;
  cols: number;
  /** Elements from a row to the next one. */
  down: number;
}

function blocksOf(view: { shape: number[]; strides: number[]; offset: number }, isVector: boolean): Block[] {
  const { shape, strides, offset } = view;
  if (shape.length > (isVector ? 1 : 2)) {
    const [size = 0, ...rest] = shape;
    const [stride = 0, ...others] = strides;
    return Array.from({ length: size }, (_, index) =>
      blocksOf({ shape: rest, strides: others, offset: offset + index * stride }, isVector),
    ).flat();
  }
  const [rows, cols] = isVector ? [1, shape[0] as number] : (shape as [number, number]);
  return [{ offset, rows, cols, down: isVector ? 0 : (strides[0] as number) }];
}
