import { ShardspeedError } from "../../base/errors.js";
import { checkpointError, listed, quote } from "../../checkpoint/errors.js";
import type { TensorEntry } from "../../checkpoint/types.js";
import type { LowRankAddition, WeightView } from "../../native/spec.js";
import type { ModelDescription, WeightPlace } from "../descriptor.js";
import { bytesOf, isStoredWeightDtype, makeTiles } from "../weights/tiles.js";
import type { StridedView } from "../weights/views.js";
import type { Adapter, Factors } from "./adapter.js";

/** What an adapter makes of a model's weights. Files count behind those of the checkpoint. */
export interface MergedParts {
  additions: LowRankAddition[];
  /** Views in place of the checkpoint's, by role. */
  replaced: Map<string, WeightView[]>;
  /** Of replaced roles, those that what is tied to them does not share. */
  own: Set<string>;
}

/**
 * Finds the roles that an adapter's tensors belong to, by the names that the model's own class has for them, whatever the checkpoint calls
 * them. A module may be a part of a role or hold several.
 *
 * @param roles That the model has.
 * @param firstFile Index of the adapter's first file.
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_UNSUPPORTED_MODEL, for tensors of wrong shapes and for those that belong to no role.
 */
export function mergeAdapter(
  adapter: Adapter,
  layout: ModelDescription["layout"],
  roles: ReadonlySet<string>,
  firstFile: number,
): MergedParts {
  const names = presentNames(adapter, layout);
  const parts: MergedParts = { additions: [], replaced: new Map(), own: new Set() };
  const used = new Set<string>();
  const { body, head, bodyPrefixes } = layout;
  const spots = [
    ...body.map((place) => ({ place, prefixes: bodyPrefixes })),
    ...head.map((place) => ({ place, prefixes: [""] })),
  ];
  for (const { place: first, prefixes } of spots) {
    if (!roles.has(first.role)) continue;
    for (const place of first.instead ? [first, first.instead] : [first]) {
      const tensors = prefixes.map((prefix) => prefix + place.tensor);
      const [tensor, whole] = find(tensors, names.replacements);
      if (tensor !== undefined && whole !== undefined) {
        used.add(tensor);
        parts.replaced.set(place.role, replace(adapter, place, whole.entry, firstFile));
        if (whole.isOwn) parts.own.add(place.role);
      }
      if (!place.tensor.endsWith(".weight")) continue;
      const [module, factors] = find(
        tensors.map((name) => name.replace(/\.weight$/, "")),
        names.factors,
      );
      if (module === undefined || factors === undefined) continue;
      used.add(module);
      parts.additions.push(makeAddition(adapter, place, factors.module, factors.own, firstFile));
    }
  }
  const left = [...names.factors.keys(), ...names.replacements.keys()].filter((name) => !used.has(name));
  if (left.length > 0) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${adapter.folder} changes ${listed(left.map(quote))}, which this model has nothing of that an adapter could be merged with. ` +
        "Check that the adapter belongs to the model.",
    );
  }
  return parts;
}

/** What older versions called otherwise has its present name; patterns of the config go by the given one. */
function presentNames({ factors, replacements }: Adapter, { renames }: ModelDescription["layout"]) {
  const present = (name: string) => renames.reduce((now, [found, instead]) => now.replace(found, instead), name);
  return {
    factors: new Map(
      [...factors].map(([module, own]) => [present(`${module}.weight`).replace(/\.weight$/, ""), { module, own }]),
    ),
    replacements: new Map([...replacements].map(([name, own]) => [present(name), own])),
  };
}

function find<T>(names: readonly string[], among: ReadonlyMap<string, T>): [string, T] | [undefined, undefined] {
  for (const name of names) {
    const found = among.get(name);
    if (found !== undefined) return [name, found];
  }
  return [undefined, undefined];
}

function fileOf({ files, folder }: Adapter, { file }: TensorEntry): string {
  return files[file]?.path ?? folder;
}

function replace(adapter: Adapter, place: WeightPlace, entry: TensorEntry, firstFile: number): WeightView[] {
  checkTensor(adapter, entry, place.shape, "config.json");
  return makeTiles(place, [{ ...entry, file: entry.file + firstFile }], "whole");
}

function checkTensor(adapter: Adapter, entry: TensorEntry, shape: readonly number[], source: string): void {
  const at = { file: fileOf(adapter, entry), tensor: entry.name };
  if (!isStoredWeightDtype(entry.dtype)) {
    throw checkpointError(at, `is stored as ${entry.dtype}, expected float32, float16, bfloat16 or float64`);
  }
  if (entry.shape.length === shape.length && entry.shape.every((size, i) => size === shape[i])) return;
  throw checkpointError(at, `has shape [${entry.shape.join(", ")}], expected [${shape.join(", ")}] from ${source}`);
}

/**
 * The factors in the order of a role's rows and columns. The way from the stored tensor to the role only rearranges sizes and strides: the
 * same way, gone by a tensor whose elements lie where a factor's row is, leads to the rows of the factor.
 */
function makeAddition(
  adapter: Adapter,
  place: WeightPlace,
  module: string,
  { a, b, magnitude, isEmbedding }: Factors,
  firstFile: number,
): LowRankAddition {
  const { config, folder } = adapter;
  if (a === undefined || b === undefined) throw new TypeError(`${module} was not checked`);
  const refuse = (why: string) => {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${folder}: the factors of ${quote(module)} cannot be merged: ${why}.`,
    );
  };
  if (place.shape.length !== 2) refuse("the model has no matrix there");
  const isTable = /^(embed|positions)\./.test(place.role);
  if (isTable !== isEmbedding)
    refuse(isTable ? "the model has an embedding there" : "the model has no embedding there");
  if (isEmbedding && magnitude) refuse("use_dora is not followed for embeddings");
  // The dimension of the stored tensor that the role's rows run along: the module's outputs, or the tokens of an embedding.
  const rowAxis: 0 | 1 = walk(place, [0, 1]).strides.at(-1) === 0 ? 1 : 0;
  const [outputs, inputs] = [place.shape[rowAxis] as number, place.shape[1 - rowAxis] as number];
  const rank = config.rankOf(module);
  const source = `${config.path} (r = ${rank}) and config.json`;
  checkTensor(adapter, a, [rank, isEmbedding ? outputs : inputs], source);
  checkTensor(adapter, b, [isEmbedding ? inputs : outputs, rank], source);
  const at = { adapter, place, rowAxis, firstFile };
  const [ofRows, ofCols] = isEmbedding ? [transposed(a), b] : [b, transposed(a)];
  const right = factorView(at, ofCols, "cols");
  return {
    role: place.role,
    scale: config.scaleOf(module),
    left: factorView(at, ofRows, "rows"),
    right: { ...right, shape: right.shape.toReversed(), strides: right.strides.toReversed() },
    ...(magnitude === undefined ? {} : { magnitude: magnitudeView(at, magnitude, outputs) }),
  };
}

function transposed(entry: TensorEntry): TensorEntry {
  return { ...entry, shape: entry.shape.toReversed(), strides: entry.strides.toReversed() };
}

/** Where in the stored tensor, counted by these strides, the role's elements lie. */
function walk(place: WeightPlace, strides: readonly [number, number]): StridedView {
  return place.view.reduce<StridedView>((view, step) => step(view), {
    shape: [...place.shape],
    strides: [...strides],
    offset: 0,
  });
}

/** What of a role a factor is for, and where it belongs. */
interface Spot {
  adapter: Adapter;
  place: WeightPlace;
  rowAxis: 0 | 1;
  firstFile: number;
}

/** Of a factor with a row for each row (or column) of the stored matrix, those of the role's; its own columns are the last dimension. */
function factorView({ place, rowAxis, firstFile, adapter }: Spot, entry: TensorEntry, of: "rows" | "cols"): WeightView {
  const { dtype } = entry;
  if (!isStoredWeightDtype(dtype)) throw new TypeError(`${entry.name} was not checked`);
  const [step = 0, across = 1] = entry.strides;
  const alongFirst = (of === "rows") === (rowAxis === 0);
  const { shape, strides, offset } = walk(place, alongFirst ? [step, 0] : [0, step]);
  const others = of === "rows" ? strides.slice(-1) : strides.slice(0, -1);
  if (others.some((stride, i) => stride !== 0 && shape.at(of === "rows" ? -1 : i) !== 1)) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${adapter.folder}: tensor ${quote(entry.name)} cannot be merged: rows and columns of ${place.role} are mixed in ${place.tensor}.`,
    );
  }
  const own = of === "rows" ? [shape.slice(0, -1), strides.slice(0, -1)] : [shape.slice(-1), strides.slice(-1)];
  const [sizes = [], steps = []] = own;
  return {
    role: place.role,
    tensor: entry.name,
    dtype,
    file: entry.file + firstFile,
    byteOffset: entry.byteOffset + offset * bytesOf(dtype),
    shape: [...sizes, entry.shape[1] as number],
    strides: [...steps, across],
  };
}

/** A length for each output: a vector, or a matrix of one column or one row. */
function magnitudeView(at: Spot, entry: TensorEntry, outputs: number): WeightView {
  const count = entry.shape.reduce((product, size) => product * size, 1);
  const axis = entry.shape.indexOf(outputs);
  if (count !== outputs || axis < 0) checkTensor(at.adapter, entry, [outputs], "config.json");
  const vector = { ...entry, shape: [outputs, 1], strides: [entry.strides[axis] as number, 1] };
  checkTensor(at.adapter, vector, [outputs, 1], "config.json");
  return factorView(at, vector, "rows");
}
