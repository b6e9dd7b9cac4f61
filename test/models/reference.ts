import { layerOf } from "../../dist/models/roles.js";
import type { Activation, LayerSpec, ModelSpec, NormSpec, RotarySpec, WeightPlan } from "../../dist/native/spec.js";
import { readView } from "./helpers.js";

/** Rows of numbers. */
export type Rows = number[][];

interface Norm {
  weight: number[] | undefined;
  bias: number[] | undefined;
}

/**
 * What a ModelSpec and a WeightPlan mean, in the plainest way: every position anew, in double precision, no cache. Slow,
 * and short enough to be checked by reading; for models of a few thousand weights.
 */
export class ReferenceModel {
  readonly #spec: ModelSpec;
  readonly #weights = new Map<string, { values: number[]; columns: number }>();

  constructor(spec: ModelSpec, { files, weights }: WeightPlan) {
    this.#spec = spec;
    for (const view of weights) {
      const path = files[view.file]?.path ?? "";
      // A bias that lies by heads comes in runs, one behind the other.
      const before = this.#weights.get(view.role)?.values ?? [];
      const columns = before.length + (view.shape.at(-1) ?? 1);
      this.#weights.set(view.role, { values: [...before, ...readView(path, view)], columns });
    }
  }

  /** Logits at every position. */
  logits(ids: readonly number[]): Rows {
    const { layers, embedding, hiddenSize, output } = this.#spec;
    let x = this.#embed(ids);
    for (let layer = 0; layer < layers.length; layer++) x = this.#layer(x, layer);
    if (output.norm) x = this.#normalize(x, "norm", output.norm);
    if (embedding.width !== hiddenSize) x = this.#project(x, "head.projection");
    return this.#project(x, this.#weights.has("head.weight") ? "head" : "embed.tokens");
  }

  #embed(ids: readonly number[]): Rows {
    const { embedding, hiddenSize } = this.#spec;
    const { width, positions, norm } = embedding;
    let x = ids.map((id) => this.#row("embed.tokens.weight", id));
    if (width !== hiddenSize) x = this.#project(x, "embed.projection");
    if (positions) x = x.map((row, at) => add(row, this.#row("embed.positions.weight", at + positions.offset)));
    return norm ? this.#normalize(x, "embed.norm", norm) : x;
  }

  #layer(x: Rows, index: number): Rows {
    const kind = layerOf(this.#spec, index);
    const role = `layers.${index}`;
    const attentionNorm = (rows: Rows) => this.#normalize(rows, `${role}.attn.norm`, kind.norms.norm);
    const feedForwardNorm = (rows: Rows) => this.#normalize(rows, `${role}.mlp.norm`, kind.norms.norm);
    const attend = (rows: Rows) => this.#attend(rows, kind, `${role}.attn`);
    const feedForward = (rows: Rows) => this.#feedForward(rows, kind, `${role}.mlp`);
    switch (kind.residual) {
      case "sequential": {
        const between = addRows(x, attend(attentionNorm(x)));
        return addRows(between, feedForward(feedForwardNorm(between)));
      }
      case "parallel":
        return addRows(addRows(x, attend(attentionNorm(x))), feedForward(feedForwardNorm(x)));
      case "shared-norm parallel":
        return addRows(addRows(x, attend(attentionNorm(x))), feedForward(attentionNorm(x)));
      case "post-norm": {
        const between = attentionNorm(addRows(x, attend(x)));
        return feedForwardNorm(addRows(between, feedForward(between)));
      }
    }
  }

  #feedForward(x: Rows, { feedForward: { gated, activation } }: LayerSpec, role: string): Rows {
    const up = this.#project(x, `${role}.up`);
    const active = (rows: Rows) => rows.map((row) => row.map((value) => activate(activation, value)));
    if (!gated) return this.#project(active(up), `${role}.down`);
    const gate = active(this.#project(x, `${role}.gate`));
    const product = gate.map((row, i) => row.map((value, j) => value * (up[i]?.[j] as number)));
    return this.#project(product, `${role}.down`);
  }

  #attend(x: Rows, { attention }: LayerSpec, role: string): Rows {
    const { heads, kvHeads, headDim, scale, positions } = attention;
    const turned = (rows: Rows, count: number) => {
      if (positions.kind !== "rotary") return rows;
      const rotary = this.#spec.rotaryTables[positions.table] as RotarySpec;
      return rows.map((row, at) => rotate(row, count, headDim, at, rows.length, rotary));
    };
    const q = turned(this.#project(x, `${role}.q`), heads);
    const k = turned(this.#project(x, `${role}.k`), kvHeads);
    const v = this.#project(x, `${role}.v`);
    const out = q.map((row, at) => {
      const parts: number[] = [];
      for (let head = 0; head < heads; head++) {
        const query = row.slice(head * headDim, (head + 1) * headDim);
        const from = Math.floor(head / (heads / kvHeads)) * headDim;
        const slope = positions.kind === "alibi" ? (positions.slopes[head] as number) : 0;
        const scores = k
          .slice(0, at + 1)
          .map((key, keyAt) => scale * dot(query, key.slice(from, from + headDim)) + slope * (keyAt - at));
        const shares = softmax(scores);
        for (let j = from; j < from + headDim; j++) {
          parts.push(shares.reduce((sum, share, i) => sum + share * (v[i]?.[j] as number), 0));
        }
      }
      return parts;
    });
    return this.#project(out, `${role}.o`);
  }

  #normalize(x: Rows, role: string, { kind, epsilon }: NormSpec): Rows {
    const { weight, bias }: Norm = {
      weight: this.#weights.get(`${role}.weight`)?.values,
      bias: this.#weights.get(`${role}.bias`)?.values,
    };
    return x.map((row) => {
      const mean = kind === "layer" ? average(row) : 0;
      const root = Math.sqrt(average(row.map((value) => (value - mean) ** 2)) + epsilon);
      return row.map((value, i) => ((value - mean) / root) * (weight?.[i] ?? 1) + (bias?.[i] ?? 0));
    });
  }

  #project(x: Rows, role: string): Rows {
    const weight = this.#weights.get(`${role}.weight`);
    const bias = this.#weights.get(`${role}.bias`)?.values;
    if (!weight) throw new Error(`no ${role}.weight`);
    const rows = Array.from({ length: weight.values.length / weight.columns }, (_, out) =>
      weight.values.slice(out * weight.columns, (out + 1) * weight.columns),
    );
    return x.map((row) => rows.map((weights, out) => dot(row, weights) + (bias?.[out] ?? 0)));
  }

  #row(role: string, index: number): number[] {
    const weight = this.#weights.get(role);
    if (!weight) throw new Error(`no ${role}`);
    return weight.values.slice(index * weight.columns, (index + 1) * weight.columns);
  }
}

/** All heads of one row, turned by the angles of its position in a sequence of `length`. */
function rotate(
  row: number[],
  heads: number,
  headDim: number,
  at: number,
  length: number,
  rotary: RotarySpec,
): number[] {
  const half = headDim / 2;
  const frequencies = frequenciesFor(rotary, headDim, length);
  const out = [...row];
  for (let head = 0; head < heads; head++) {
    for (let j = 0; j < half; j++) {
      const [first, second] = [head * headDim + j, head * headDim + j + half];
      const angle = at * (frequencies[j] as number);
      const [cos, sin] = [Math.cos(angle) * rotary.amplitude, Math.sin(angle) * rotary.amplitude];
      out[first] = (row[first] as number) * cos - (row[second] as number) * sin;
      out[second] = (row[second] as number) * cos + (row[first] as number) * sin;
    }
  }
  return out;
}

function frequenciesFor({ inverseFrequencies, dynamic }: RotarySpec, headDim: number, length: number): number[] {
  if (!dynamic || length <= dynamic.originalPositions) return inverseFrequencies;
  const stretch = (dynamic.factor * length) / dynamic.originalPositions - (dynamic.factor - 1);
  const base = dynamic.base * stretch ** (headDim / (headDim - 2));
  return inverseFrequencies.map((_, j) => base ** ((-2 * j) / headDim));
}

function activate(activation: Activation, x: number): number {
  switch (activation) {
    case "none":
      return x;
    case "relu":
      return Math.max(x, 0);
    case "relu_squared":
      return Math.max(x, 0) ** 2;
    case "gelu":
      return 0.5 * x * (1 + erf(x / Math.SQRT2));
    case "gelu_tanh":
      return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    case "quick_gelu":
      return x / (1 + Math.exp(-1.702 * x));
    case "silu":
      return x / (1 + Math.exp(-x));
    case "tanh":
      return Math.tanh(x);
    case "sigmoid":
      return 1 / (1 + Math.exp(-x));
  }
}

/** The error function by its power series, which is exact enough where it is not 1 already. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function add(one: readonly number[], other: readonly number[]): number[] {
  return one.map((value, i) => value + (other[i] as number));
}

function addRows(one: Rows, other: Rows): Rows {
  return one.map((row, i) => add(row, other[i] as number[]));
}

function dot(one: readonly number[], other: readonly number[]): number {
  return one.reduce((sum, value, i) => sum + value * (other[i] as number), 0);
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
