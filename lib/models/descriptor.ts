import type { ModelLabels, ModelSpec, Task, WeightDtype } from "../native/spec.js";
import type { ConfigReader } from "./config.js";
import { share, transpose, type ViewStep } from "./weights/views.js";

export type { ModelLabels, Task } from "../native/spec.js";

/** Where a weight role lies in a checkpoint: the tensor's name and shape there, and the way from it to the role's rows. */
export interface WeightPlace {
  /** As roles.ts lists them. */
  role: string;
  /** Name behind the body's or the head's prefix. */
  tensor: string;
  /** As stored. */
  shape: readonly number[];
  /** Applied in order; none for a tensor that is the role as it is. They do the same to a piece of the tensor, where it was cut into shards. */
  view: readonly ViewStep[];
  /** The tensor may have more rows than the shape says, which nothing uses: a vocabulary filled up to a round size. */
  padded?: boolean;
  /** Where a vector that is one of several tensors begins in the role's vector: xIELU's two numbers. */
  firstCol?: number;
  /** Where the weight is in checkpoints that do not have `tensor`: these keep several in one. */
  instead?: WeightPlace | undefined;
}

/** What a descriptor makes of one config. */
export interface ArchitectureDescription {
  spec: ModelSpec;
  /** Behind one of the descriptor's body prefixes. */
  body: WeightPlace[];
  /** Outside the body. A tied head.weight stands here too: checkpoints may carry it all the same. */
  head: WeightPlace[];
}

/**
 * One architecture of Hugging Face transformers: how its config.json becomes a ModelSpec, and where its weights lie. A
 * new one is a file with such an object, and a line in index.ts.
 */
export interface ModelDescriptor {
  /** config.json's model_type. */
  modelType: string;
  /** One line for `inspect` and the docs. */
  summary: string;
  /** Names in config.json's `architectures` that this describes; of the first where it names none. */
  classes: readonly string[];
  /** Classes without a head: they do where the head is the token embedding. */
  bodyClasses: readonly string[];
  /** What these classes are for, of those that do not generate text. */
  tasks?: Readonly<Record<string, Task>>;
  /** Other names of config keys. */
  aliases: Readonly<Record<string, string>>;
  /** Values of config keys that are absent, as the reference's class has them. */
  defaults?: Readonly<Record<string, unknown>>;
  /** Config keys of this architecture that do not change what inference computes. */
  ignoredKeys: readonly string[];
  /** Config keys with the one value (or null) that changes nothing: any other is refused. */
  fixedKeys: Readonly<Record<string, unknown>>;
  /** What may stand before the body's tensor names, the usual one first. */
  bodyPrefixes: readonly string[];
  /** Tensors that carry no weights: buffers that older versions stored. */
  ignoredTensors: readonly RegExp[];
  /** Names of tensors that older versions wrote, and what stands for each. */
  renames?: readonly (readonly [found: RegExp, name: string])[];
  describe(config: ConfigReader, task: Task): ArchitectureDescription;
}

/** The keys of one config, each in one list. */
export interface KeyReport {
  /** That the descriptor read: what they say is computed. */
  used: string[];
  /** That change the arithmetic elsewhere or in other values, and have a value here that changes nothing. */
  neutral: string[];
  /** That never change what inference computes. */
  ignored: string[];
  /** That nobody knows here, and that transformers ignores as well. */
  unknown: string[];
}

/** What config.json says about a model: what it computes, and where its weights should lie. */
export interface ModelDescription {
  spec: ModelSpec;
  /** config.json's dtype (torch_dtype); undefined where it names none that weights have here. */
  storedDtype: WeightDtype | undefined;
  /** What became of each key of config.json. */
  keys: KeyReport;
  labels: ModelLabels;
  /** What resolveWeights matches with a checkpoint. */
  layout: {
    body: readonly WeightPlace[];
    head: readonly WeightPlace[];
    bodyPrefixes: readonly string[];
    ignoredTensors: readonly RegExp[];
    renames: readonly (readonly [found: RegExp, name: string])[];
  };
}

/** A tensor that is a role as it is. */
export function stored(role: string, tensor: string, shape: readonly number[], ...view: ViewStep[]): WeightPlace {
  return { role, tensor, shape, view };
}

/** nn.Linear: weight (out, in) and, where it has one, bias (out). */
export function linear(role: string, tensor: string, out: number, input: number, bias: boolean): WeightPlace[] {
  return [
    stored(`${role}.weight`, `${tensor}.weight`, [out, input]),
    ...(bias ? [stored(`${role}.bias`, `${tensor}.bias`, [out])] : []),
  ];
}

/** GPT-2's Conv1D, which stores (in, out) and always has a bias: the outputs first ... first + out - 1 of `total`. */
export function conv1d(
  role: string,
  tensor: string,
  out: number,
  input: number,
  first = 0,
  total = out,
): WeightPlace[] {
  return [
    stored(`${role}.weight`, `${tensor}.weight`, [input, total], transpose(0, 1), share(0, first, out, total)),
    stored(`${role}.bias`, `${tensor}.bias`, [total], share(0, first, out, total)),
  ];
}

/** Several matrices of nn.Linear in one, behind one another along its rows. */
export function stackedLinear(
  parts: readonly [role: string, rows: number][],
  tensor: string,
  input: number,
  bias = false,
): WeightPlace[] {
  const total = parts.reduce((sum, [, rows]) => sum + rows, 0);
  let first = 0;
  return parts.flatMap(([role, rows]) => {
    const own = share(0, first, rows, total);
    first += rows;
    return [
      stored(`${role}.weight`, `${tensor}.weight`, [total, input], own),
      ...(bias ? [stored(`${role}.bias`, `${tensor}.bias`, [total], own)] : []),
    ];
  });
}

/** A norm's weight and, where it has one, bias. */
export function norm(role: string, tensor: string, width: number, bias: boolean): WeightPlace[] {
  return [
    stored(`${role}.weight`, `${tensor}.weight`, [width]),
    ...(bias ? [stored(`${role}.bias`, `${tensor}.bias`, [width])] : []),
  ];
}

/** One layer's places, for every layer: roles become `layers.N.role`, tensors `stem.N.tensor`. */
export function everyLayer(layers: number, stem: string, places: readonly WeightPlace[]): WeightPlace[] {
  return Array.from({ length: layers }, (_, layer) => inLayer(layer, stem, places)).flat();
}

/** The places of one layer: roles become `layers.N.role`, tensors `stem.N.tensor`. */
export function inLayer(layer: number, stem: string, places: readonly WeightPlace[]): WeightPlace[] {
  return places.map((place) => ({
    ...place,
    role: `layers.${layer}.${place.role}`,
    tensor: `${stem}.${layer}.${place.tensor}`,
    ...(place.instead ? { instead: inLayer(layer, stem, [place.instead])[0] } : {}),
  }));
}

/** Width of a head where heads share the model's width evenly. */
export function evenHeads(config: ConfigReader, widthKey: string, width: number, heads: number): number {
  if (width % heads !== 0) throw config.wrong(widthKey, `a multiple of the number of attention heads, ${heads}`);
  return width / heads;
}
