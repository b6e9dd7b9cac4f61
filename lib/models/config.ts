import { ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import { showValue } from "../base/text.js";

/** Bounds of an integer in a config, and what stands in for it where the key is absent. */
export interface IntegerRange {
  /** Default 1. */
  minimum?: number;
  maximum: number;
  /** Without it the key is required. */
  unset?: number;
  /** null counts as absent, as where the reference's type is `int | None`. */
  nullable?: boolean;
}

/** As IntegerRange, for finite numbers. */
export interface NumberRange {
  minimum?: number;
  /** The smallest value is itself outside. */
  above?: number;
  maximum?: number;
  unset?: number;
  nullable?: boolean;
}

/** A value as it stands in JSON, short enough for a message, with its type where that is what is wrong. */
export function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean" || value === null || value === undefined)
    return String(value);
  return `${showValue(value)} (${Array.isArray(value) ? "array" : typeof value})`;
}

/** ERR_UNSUPPORTED_MODEL for a key of config.json: what was found, what was expected, what to do. */
export function unsupportedKey(key: string, found: unknown, expected: string, advice = ""): ShardspeedError {
  const text = found === undefined ? `config.json has no ${key}` : `config.json has ${key} = ${show(found)}`;
  return new ShardspeedError("ERR_UNSUPPORTED_MODEL", `${text}, expected ${expected}.${advice && ` ${advice}`}`);
}

/** A key that is undefined, as in an object that did not come from JSON, is absent. */
function entriesOf(object: Record<string, unknown>): Map<string, unknown> {
  return new Map(Object.entries(object).filter(([, value]) => value !== undefined));
}

/**
 * config.json, read key by key: checks types and ranges, and remembers which keys were read, so that what is left over
 * can be judged. Every error is ERR_UNSUPPORTED_MODEL and names the key, what was found and what was expected.
 * OptionReader refuses a name that it does not know; here a key may be any, and what is unread matters only once the architecture is known.
 */
export class ConfigReader {
  readonly #values: ReadonlyMap<string, unknown>;
  /** What stands in for keys that are absent. */
  readonly #defaults: ReadonlyMap<string, unknown>;
  readonly #path: string;
  readonly #read = new Set<string>();
  readonly #sections = new Map<string, ConfigReader>();
  /** Things worth a warning that are no errors: values that the reference ignores as well. */
  readonly notes: string[];

  private constructor(
    values: ReadonlyMap<string, unknown>,
    path: string,
    notes: string[],
    defaults: ReadonlyMap<string, unknown> = new Map(),
  ) {
    this.#values = values;
    this.#path = path;
    this.notes = notes;
    this.#defaults = defaults;
  }

  static open(config: unknown): ConfigReader {
    if (!isObject(config)) {
      throw new ShardspeedError("ERR_UNSUPPORTED_MODEL", `config.json is ${show(config)}, expected an object.`);
    }
    return new ConfigReader(entriesOf(config), "", []);
  }

  /** A section that is not there. */
  static empty(key: string): ConfigReader {
    return new ConfigReader(new Map(), `${key}.`, []);
  }

  /** The same config with other names of its keys (`hidden_size` for GPT-2's `n_embd`) replaced by the usual ones. */
  withAliases(aliases: Readonly<Record<string, string>>): ConfigReader {
    const values = new Map(this.#values);
    for (const [alias, name] of Object.entries(aliases)) {
      if (!values.has(alias)) continue;
      const found = values.get(alias);
      if (values.has(name) && values.get(name) !== found) {
        throw unsupportedKey(alias, found, `${show(values.get(name))}, as ${name}, which is the same setting`);
      }
      values.set(name, found);
      values.delete(alias);
    }
    return new ConfigReader(values, this.#path, this.notes, this.#defaults);
  }

  /** The same config with values for the keys that it has not: those that the reference's class has. */
  withDefaults(defaults: Readonly<Record<string, unknown>>): ConfigReader {
    return new ConfigReader(this.#values, this.#path, this.notes, entriesOf(defaults));
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** The value as it is, without counting as read. */
  peek(key: string): unknown {
    return this.#values.get(key);
  }

  /** The value as it is, or its default; counts as read. */
  raw(key: string): unknown {
    this.#read.add(key);
    return this.#values.has(key) ? this.#values.get(key) : this.#defaults.get(key);
  }

  integer(key: string, range: IntegerRange): number {
    const value = this.#present(key, range.nullable);
    const minimum = range.minimum ?? 1;
    if (value === undefined && range.unset !== undefined) return range.unset;
    if (!Number.isSafeInteger(value) || (value as number) < minimum || (value as number) > range.maximum) {
      throw this.wrong(key, `an integer from ${minimum} to ${range.maximum}`);
    }
    return value as number;
  }

  number(key: string, range: NumberRange): number {
    const value = this.#present(key, range.nullable);
    if (value === undefined && range.unset !== undefined) return range.unset;
    const { minimum = Number.NEGATIVE_INFINITY, above = Number.NEGATIVE_INFINITY, maximum = Number.MAX_VALUE } = range;
    if (typeof value !== "number" || !(value >= minimum && value > above && value <= maximum)) {
      const low =
        range.above !== undefined ? ` above ${above}` : range.minimum !== undefined ? ` of at least ${minimum}` : "";
      const high = range.maximum === undefined ? "" : `${low && " and"} of at most ${maximum}`;
      throw this.wrong(key, `a number${low}${high}`);
    }
    return value;
  }

  /** A list of numbers above a bound, of one length. */
  numbers(key: string, { above, length }: { above: number; length: number }): number[] {
    const value = this.raw(key);
    const isNumber = (item: unknown) => typeof item === "number" && Number.isFinite(item) && item > above;
    if (!Array.isArray(value) || value.length !== length || !value.every(isNumber)) {
      throw this.wrong(key, `a list of ${length} numbers above ${above}`);
    }
    return value;
  }

  flag(key: string, unset: boolean): boolean {
    const value = this.#present(key);
    if (value === undefined) return unset;
    if (typeof value !== "boolean") throw this.wrong(key, "true or false");
    return value;
  }

  text(key: string, unset: string): string;
  text(key: string, unset: undefined): string | undefined;
  text(key: string, unset: string | undefined): string | undefined {
    const value = this.#present(key);
    if (value === undefined) return unset;
    if (typeof value !== "string") throw this.wrong(key, "a string");
    return value;
  }

  /** One of a table's keys, as the table has it. */
  choice<T>(key: string, table: Readonly<Record<string, T>>, unset: string): T {
    const value = this.text(key, unset);
    if (!Object.hasOwn(table, value)) throw this.wrong(key, `one of ${Object.keys(table).join(", ")}`);
    return table[value] as T;
  }

  /** An object inside the config; undefined where it is absent, null or empty. Its keys are `key.name` in messages. */
  section(key: string): ConfigReader | undefined {
    const value = this.#present(key, true);
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.wrong(key, "an object");
    if (Object.keys(value).length === 0) return undefined;
    const opened = this.#sections.get(key);
    if (opened) return opened;
    const section = new ConfigReader(entriesOf(value), `${this.#path}${key}.`, this.notes);
    this.#sections.set(key, section);
    return section;
  }

  /** The error for a value that passed its own check and does not fit with another one. */
  wrong(key: string, expected: string, advice = ""): ShardspeedError {
    return unsupportedKey(this.#path + key, this.#values.get(key), expected, advice);
  }

  keys(): string[] {
    return [...this.#values.keys()];
  }

  /** Keys that were read, in the order of the config. */
  read(): string[] {
    return this.keys().filter((key) => this.#read.has(key));
  }

  /** Keys that nothing read, with their path: `rope_scaling.finetuned`. */
  unread(): string[] {
    const own = this.keys().filter((key) => !this.#read.has(key));
    return [
      ...own.map((key) => this.#path + key),
      ...[...this.#sections.values()].flatMap((section) => section.unread()),
    ];
  }

  #present(key: string, nullable = false): unknown {
    const value = this.raw(key);
    return value === null && nullable ? undefined : value;
  }
}
