import type { Activation } from "../../dist/native/spec.js";

// Functions of numbers and rows, in double precision: for reference.ts.

/** Rows of numbers. */
export type Rows = number[][];

export function capped(value: number, cap: number | undefined): number {
  return cap === undefined || cap === 0 ? value : cap * Math.tanh(value / cap);
}

export function scaleRows(rows: Rows, scale = 1): Rows {
  return rows.map((row) => row.map((value) => value * scale));
}

export function activate(activation: Activation, x: number, learned: readonly number[] = []): number {
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
      return sigmoid(x);
    case "xielu": {
      const [positive = 0, negative = 0] = learned.map((value) => Math.log1p(Math.exp(value)));
      const curve = x > 0 ? positive * x * x : (negative + 0.5) * (Math.expm1(Math.min(x, -1e-6)) - x);
      return curve + 0.5 * x;
    }
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

export function add(one: readonly number[], other: readonly number[]): number[] {
  return one.map((value, i) => value + (other[i] as number));
}

export function addRows(one: Rows, other: Rows): Rows {
  return one.map((row, i) => add(row, other[i] as number[]));
}

export function dot(one: readonly number[], other: readonly number[]): number {
  return one.reduce((sum, value, i) => sum + value * (other[i] as number), 0);
}

export function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
