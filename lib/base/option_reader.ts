import { invalidArgument, ShardspeedError } from "./errors.js";
import { nearestKey } from "./nearest.js";

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
      const near = nearestKey(name, known);
      const advice = near === undefined ? `Known are: ${known.join(", ")}` : `Did you mean ${near}?`;
      throw new ShardspeedError("ERR_INVALID_ARGUMENT", `${what} has no option ${JSON.stringify(name)}. ${advice}`);
    }
  }

  get(name: string): unknown {
    return this.#options[name];
  }

  integer<T>(name: string, minimum: number, maximum: number, unset: T): number | T {
    const value = this.#options[name];
    if (value === undefined) return unset;
    if (!Number.isInteger(value) || (value as number) < minimum || (value as number) > maximum) {
      throw invalidArgument(name, `an integer from ${minimum} to ${maximum}`, value);
    }
    return value as number;
  }

  number(name: string, expected: string, accepts: (value: number) => boolean, unset: number): number {
    const value = this.#options[name];
    if (value === undefined) return unset;
    if (typeof value !== "number" || !Number.isFinite(value) || !accepts(value))
      throw invalidArgument(name, expected, value);
    return value;
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
