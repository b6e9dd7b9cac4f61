import { invalidArgument, ShardspeedError } from "./errors.js";
import { adviseName } from "./nearest.js";
import { isObject } from "./objects.js";
import {
  functionRule,
  inRange,
  type NumberRange,
  oneOf,
  type Rule,
  signalRule,
  textRule,
  trueOrFalse,
} from "./rules.js";
import { truncate } from "./text.js";

/** Reads named options out of something that a caller passed, with errors that name the option. An option that is undefined is unset. */
export class OptionReader {
  readonly #options: Record<string, unknown>;

  /**
   * @param kind What each of them is, for messages: "generation option".
   * @throws ShardspeedError ERR_INVALID_ARGUMENT for no object, and for names that are not among `known`.
   */
  constructor(kind: string, options: unknown, known: readonly string[]) {
    if (options !== undefined && !isObject(options)) throw invalidArgument(`the ${kind}s`, "an object", options);
    this.#options = { ...options };
    for (const name of Object.keys(this.#options)) {
      if (known.includes(name)) continue;
      throw unknownName(kind, name, adviseName(name, known));
    }
  }

  get(name: string): unknown {
    return this.#options[name];
  }

  /** @throws ShardspeedError ERR_INVALID_ARGUMENT with the option, what was found and what is expected. */
  read<T, U>(name: string, rule: Rule<T>, unset: U): T | U {
    const value = this.#options[name];
    if (value === undefined) return unset;
    const checked = rule(value);
    if ("expected" in checked) throw invalidArgument(name, checked.expected, value);
    return checked.value;
  }

  integer<U>(name: string, minimum: number, maximum: number, unset: U): number | U {
    return this.read(name, inRange("integer", { minimum, maximum }), unset);
  }

  number<U>(name: string, range: NumberRange, unset: U): number | U {
    return this.read(name, inRange("number", range), unset);
  }

  boolean(name: string, unset: boolean): boolean {
    return this.read(name, trueOrFalse, unset);
  }

  /** A name or a path. */
  text<U>(name: string, unset: U): string | U {
    return this.read(name, textRule, unset);
  }

  choice<T extends string>(name: string, choices: readonly T[], unset: T): T {
    return this.read(name, oneOf(choices), unset);
  }

  function<T extends (...args: never[]) => void>(name: string): T | undefined {
    return this.read(name, functionRule as Rule<T>, undefined);
  }

  signal(name: string): AbortSignal | undefined {
    return this.read(name, signalRule, undefined);
  }
}

/** ERR_INVALID_ARGUMENT for a name that is none of a kind: 'Unknown generation option "n". Did you mean topK?' */
export function unknownName(kind: string, name: string, advice: string): ShardspeedError {
  return new ShardspeedError("ERR_INVALID_ARGUMENT", `Unknown ${kind} ${JSON.stringify(truncate(name))}. ${advice}`);
}
