import { invalidArgument, ShardspeedError } from "./errors.js";
import { nearestKey } from "./nearest.js";

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

/** What to do about a name that is not among the known ones. */
export function adviseName(found: string, known: readonly string[]): string {
  const near = nearestKey(found, known);
  return near === undefined ? `Known are: ${known.join(", ")}` : `Did you mean ${near}?`;
}

/** Reads named options out of something that a caller passed, with errors that name the option. An option that is undefined is unset. */
export class OptionReader {
  readonly #options: Record<string, unknown>;

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT for no object, and for names that are not among `known`. */
  constructor(what: string, options: unknown, known: readonly string[]) {
    if (options !== undefined && (typeof options !== "object" || options === null || Array.isArray(options))) {
      throw invalidArgument(what, "an object", options);
    }
    this.#options = { ...options };
    for (const name of Object.keys(this.#options)) {
      if (known.includes(name)) continue;
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `${what} has no option ${JSON.stringify(name)}. ${adviseName(name, known)}`,
      );
    }
  }

  get(name: string): unknown {
    return this.#options[name];
  }

  integer<T>(name: string, minimum: number, maximum: number, unset: T): number | T {
    return this.inRange(name, "integer", { minimum, maximum }, unset);
  }

  number<T>(name: string, range: NumberRange, unset: T): number | T {
    return this.inRange(name, "number", range, unset);
  }

  inRange<T>(name: string, kind: "integer" | "number", range: NumberRange, unset: T): number | T {
    const value = this.#options[name];
    if (value === undefined) return unset;
    const { minimum = Number.NEGATIVE_INFINITY, above = Number.NEGATIVE_INFINITY, maximum = Number.MAX_VALUE } = range;
    const isOfKind = kind === "integer" ? Number.isInteger(value) : Number.isFinite(value);
    if (isOfKind && (value as number) >= minimum && (value as number) > above && (value as number) <= maximum)
      return value as number;
    throw invalidArgument(name, describeRange(kind, range), value);
  }

  boolean(name: string, unset: boolean): boolean {
    const value = this.#options[name];
    if (value === undefined) return unset;
    if (typeof value !== "boolean") throw invalidArgument(name, "true or false", value);
    return value;
  }

  function<T extends (...args: never[]) => void>(name: string): T | undefined {
    const value = this.#options[name];
    if (value !== undefined && typeof value !== "function") throw invalidArgument(name, "a function", value);
    return value as T | undefined;
  }

  signal(name: string): AbortSignal | undefined {
    const value = this.#options[name] as Partial<AbortSignal> | null | undefined;
    if (value === undefined) return undefined;
    // Not instanceof: signals of another realm, or of a polyfill, are as good.
    if (typeof value?.aborted !== "boolean" || typeof value.addEventListener !== "function") {
      throw invalidArgument(name, "an AbortSignal", value);
    }
    return value as AbortSignal;
  }
}
