/** What a scalar can be. */
export type Scalar = string | number | boolean | null;

const words = new Map<string, Scalar>([
  ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as const),
  ...["yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"].map((word) => [word, true] as const),
  ...["no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"].map((word) => [word, false] as const),
  ...[".nan", ".NaN", ".NAN"].map((word) => [word, Number.NaN] as const),
]);

const infinity = /^([-+]?)\.(?:inf|Inf|INF)$/;
const integer = /^[-+]?(?:0b[01_]+|0x[\da-fA-F_]+|0o?[0-7_]+|0|[1-9][\d_]*)$/;
const decimal = /^[-+]?(?:\d[\d_]*)?\.\d[\d_]*(?:[eE][-+]?\d+)?$|^[-+]?\d[\d_]*(?:\.|\.?[eE][-+]?\d+)$/;
const sexagesimal = /^[-+]?(?:[1-9][\d_]*(?::[0-5]?\d)+|\d[\d_]*(?::[0-5]?\d)+\.[\d_]*)$/;

/**
 * The value of a scalar that is written without quotes, as PyYAML reads it (YAML 1.1), since it is Python that files in use were written for: `yes` and `off` are booleans, `010` is 8, `1_000` is 1000,
 * `1:30` is 90. Three things are read as everybody else reads them: `1e-5` is a number, `0o10` is 8, and a date stays text.
 */
export function plainScalar(source: string): Scalar {
  const word = words.get(source);
  if (word !== undefined) return word;
  const infinite = infinity.exec(source);
  if (infinite !== null) return infinite[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (!/^[-+.\d]/.test(source)) return source;
  if (integer.test(source)) return readInteger(source);
  if (decimal.test(source)) return Number(source.replaceAll("_", ""));
  return sexagesimal.test(source) ? readSexagesimal(source) : source;
}

function readInteger(source: string): Scalar {
  const negative = source.startsWith("-");
  const digits = source.replace(/^[-+]/, "").replaceAll("_", "");
  // In YAML 1.1 a zero before digits makes them octal.
  const value = Number(/^0\d/.test(digits) ? `0o${digits.slice(1)}` : digits);
  if (Number.isNaN(value)) return source; // "0x_"
  return negative ? 0 - value : value;
}

function readSexagesimal(source: string): number {
  const negative = source.startsWith("-");
  const parts = source.replace(/^[-+]/, "").replaceAll("_", "").split(":");
  const value = parts.reduce((sum, part) => sum * 60 + Number(part), 0);
  return negative ? 0 - value : value;
}
