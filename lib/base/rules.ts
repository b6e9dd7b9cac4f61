/** What became of a value: itself as it counts, with what is to be said of it; or what was expected, and of a list's element which one. */
export type Checked<T> = { value: T; remark?: string } | { expected: string; at?: number };

/**
 * What a value must be: the one way in which options, parameters and keys of configs are checked. A rule knows neither the value's name nor the
 * error it leads to: OptionReader, the reader of DeepSpeed configs and the findings of model-config.yaml add these.
 */
export type Rule<T> = (value: unknown) => Checked<T>;

/** A rule of one condition. @param expected Its words, or a function that makes them where a value is not accepted. */
export function rule<T>(expected: string | (() => string), accepts: (value: unknown) => boolean): Rule<T> {
  return (value) => {
    if (accepts(value)) return { value: value as T };
    return { expected: typeof expected === "string" ? expected : expected() };
  };
}

/** Bounds of a number. */
export interface NumberRange {
  minimum?: number | undefined;
  /** The smallest value is itself outside. */
  above?: number;
  maximum?: number | undefined;
  /** Stands behind the words for the range: what to write instead of a value outside of it. */
  remark?: string;
}

/** Words for the values of a range: "an integer from 0 to 5", "a number above 0, at most 1". */
export function describeRange(kind: "integer" | "number", { minimum, above, maximum, remark }: NumberRange): string {
  const what = kind === "integer" ? "an integer" : "a number";
  const behind = remark === undefined ? "" : ` (${remark})`;
  if (minimum !== undefined && maximum !== undefined) return `${what} from ${minimum} to ${maximum}${behind}`;
  const bounds = [
    ...(above === undefined ? [] : [` above ${above}`]),
    ...(minimum === undefined ? [] : [` of at least ${minimum}`]),
    ...(maximum === undefined ? [] : [` at most ${maximum}`]),
  ];
  return what + bounds.join(",") + behind;
}

export function inRange(kind: "integer" | "number", range: NumberRange): Rule<number> {
  const { minimum = Number.NEGATIVE_INFINITY, above = Number.NEGATIVE_INFINITY, maximum = Number.MAX_VALUE } = range;
  const isOfKind = kind === "integer" ? Number.isInteger : Number.isFinite;
  const describe = () => describeRange(kind, range);
  return rule(describe, (value) => {
    const number = value as number;
    return isOfKind(value) && number >= minimum && number > above && number <= maximum;
  });
}

export const trueOrFalse: Rule<boolean> = rule("true or false", (value) => typeof value === "boolean");

/** A name or a path: a null character ends it early in the system's calls. */
export const textRule: Rule<string> = rule(
  "a string that is not empty",
  (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
);

export const functionRule: Rule<(...args: never[]) => void> = rule(
  "a function",
  (value) => typeof value === "function",
);

/** Not by instanceof: signals of another realm, or of a polyfill, are as good. */
export const signalRule: Rule<AbortSignal> = rule("an AbortSignal", (value) => {
  const signal = value as Partial<AbortSignal> | null;
  return typeof signal?.aborted === "boolean" && typeof signal.addEventListener === "function";
});

export function oneOf<T extends string>(choices: readonly T[]): Rule<T> {
  const describe = () => `one of ${choices.join(", ")}`;
  return rule(describe, (value) => choices.includes(value as T));
}

/** null as well. */
export function orNull<T>(inner: Rule<T>): Rule<T | null> {
  return (value) => (value === null ? { value } : inner(value));
}
