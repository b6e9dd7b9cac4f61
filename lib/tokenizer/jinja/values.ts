import { countStep, TemplateError } from "./budget.js";

/**
 * Python's values, as far as templates meet them. None is null, int a whole number, str a string, list an array; float
 * needs a class because 1.0 is written otherwise than 1.
 */
export type Value = null | boolean | number | string | Value[] | PyObject;

/** A value that JavaScript has no type for. */
export abstract class PyObject {
  abstract readonly typeName: string;

  /** What Python's str() gives, where it is no container. */
  toText(): string {
    return `<${this.typeName} object>`;
  }

  /** `value.name`; undefined: there is none. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }

  /** The items that a `for` goes over; undefined: not iterable. */
  iterate(): Iterable<Value> | undefined {
    return undefined;
  }

  isTrue(): boolean {
    return true;
  }
}

export class Float extends PyObject {
  readonly typeName = "float";
  readonly value: number;

  constructor(value: number) {
    super();
    this.value = value;
  }

  override toText(): string {
    return floatText(this.value);
  }
  override isTrue(): boolean {
    return this.value !== 0;
  }
}

/** What a name or field that is not there gives: empty text, an empty list, false, and an error for anything else. */
export class Undefined extends PyObject {
  readonly typeName = "Undefined";
  readonly #message: string;

  constructor(message: string) {
    super();
    this.#message = message;
  }

  fail(): never {
    throw new TemplateError(this.#message);
  }
  override toText(): string {
    return "";
  }
  override iterate(): Iterable<Value> {
    return [];
  }
  override isTrue(): boolean {
    return false;
  }
}

abstract class Items extends PyObject {
  readonly items: Value[];

  constructor(items: Value[]) {
    super();
    this.items = items;
  }

  override iterate(): Iterable<Value> {
    return this.items;
  }
  override isTrue(): boolean {
    return this.items.length > 0;
  }
}

export class Tuple extends Items {
  readonly typeName = "tuple";
  /** The names of a named tuple's items. */
  readonly #names: readonly string[];

  constructor(items: Value[], names: readonly string[] = []) {
    super(items);
    this.#names = names;
  }

  override attribute(name: string): Value | undefined {
    const place = this.#names.indexOf(name);
    return place < 0 ? undefined : this.items[place];
  }
}

export class Dict extends PyObject {
  readonly typeName = "dict";
  readonly #entries = new Map<unknown, [Value, Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    super();
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }
  get(key: Value): Value | undefined {
    return this.#entries.get(hashKey(key))?.[1];
  }
  has(key: Value): boolean {
    return this.#entries.has(hashKey(key));
  }
  /** Only for dicts that are being made: templates cannot change one. */
  set(key: Value, value: Value): void {
    const hash = hashKey(key);
    const known = this.#entries.get(hash);
    this.#entries.set(hash, [known === undefined ? key : known[0], value]);
  }
  entries(): [Value, Value][] {
    return [...this.#entries.values()];
  }
  keys(): Value[] {
    return Array.from(this.#entries.values(), ([key]) => key);
  }
  override iterate(): Iterable<Value> {
    return this.keys();
  }
  override isTrue(): boolean {
    return this.#entries.size > 0;
  }
}

/** Equal keys have equal hashes: 1, 1.0 and True are one key. */
export function hashKey(key: Value): unknown {
  if (typeof key === "boolean") return Number(key);
  if (key instanceof Float) return key.value;
  if (key instanceof Tuple) return `\0tuple ${repr(key)}`;
  if (Array.isArray(key) || key instanceof Dict) throw new TemplateError(`unhashable type: '${typeName(key)}'`);
  return key;
}

/** What filters such as map give: items that are made as they are asked for, once. */
export class Generator extends PyObject {
  readonly typeName: string;
  readonly #items: Iterator<Value>;

  constructor(items: Iterable<Value>, name = "generator") {
    super();
    this.#items = items[Symbol.iterator]();
    this.typeName = name;
  }

  override iterate(): Iterable<Value> {
    const items = this.#items;
    return {
      // Without return(): a loop that is left leaves the rest to the next one.
      [Symbol.iterator]: () => ({ next: () => items.next() }),
    };
  }
}

/** The result of dict.keys(), values() or items(). */
export class View extends Items {
  readonly typeName: string;

  constructor(kind: "keys" | "values" | "items", items: Value[]) {
    super(items);
    this.typeName = `dict_${kind}`;
  }
}

export class Range extends PyObject {
  readonly typeName = "range";
  readonly start: number;
  readonly stop: number;
  readonly step: number;

  constructor(start: number, stop: number, step: number) {
    super();
    this.start = start;
    this.stop = stop;
    this.step = step;
  }

  get length(): number {
    return Math.max(0, Math.ceil((this.stop - this.start) / this.step));
  }
  override toText(): string {
    return this.step === 1 ? `range(${this.start}, ${this.stop})` : `range(${this.start}, ${this.stop}, ${this.step})`;
  }
  override *iterate(): Iterable<Value> {
    for (let i = 0; i < this.length; i++) yield this.start + i * this.step;
  }
  override isTrue(): boolean {
    return this.length > 0;
  }
}

/** Arguments of a call: those by place, then those by name. */
export interface Arguments {
  positional: Value[];
  named: Map<string, Value>;
}

export class Callable extends PyObject {
  readonly typeName: string = "function";
  readonly name: string;
  readonly call: (call: Arguments) => Value;

  constructor(name: string, call: (call: Arguments) => Value) {
    super();
    this.name = name;
    this.call = call;
  }

  override toText(): string {
    return `<function ${this.name}>`;
  }
}

/** namespace(): what a template may change. */
export class Namespace extends PyObject {
  readonly typeName = "Namespace";
  readonly #values: Map<string, Value>;

  constructor(values: Map<string, Value>) {
    super();
    this.#values = new Map();
    for (const [name, value] of values) this.set(name, value);
  }

  set(name: string, value: Value): void {
    if (name.startsWith("_")) {
      throw new TemplateError(`a namespace cannot hold ${repr(name)}: names that start with an underscore are refused`);
    }
    this.#values.set(name, value);
  }
  override attribute(name: string): Value | undefined {
    return this.#values.get(name);
  }
  override toText(): string {
    return `<Namespace ${repr(new Dict(this.#values))}>`;
  }
}

/** A value, or what stands for one that is missing. Not `??`: None is a value. */
export function orElse(value: Value | undefined, make: () => Value): Value {
  return value === undefined ? make() : value;
}

export function isTrue(value: Value): boolean {
  if (value === null) return false;
  if (Array.isArray(value)) return value.length > 0;
  return value instanceof PyObject ? value.isTrue() : Boolean(value);
}

/** Python's name of a value's type. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (Array.isArray(value)) return "list";
  if (value instanceof PyObject) return value.typeName;
  return typeof value === "boolean" ? "bool" : typeof value === "number" ? "int" : "str";
}

/** Containers deeper than this are refused, wherever they are walked. */
const deepest = 200;

/** What `{{ value }}` writes. */
export function toText(value: Value): string {
  return typeof value === "string" ? value : repr(value);
}

/** Python's repr(). */
export function repr(value: Value, depth = 0): string {
  countStep();
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return stringRepr(value);
  if (depth > deepest) throw new TemplateError(`a value nests more than ${deepest} levels`);
  const all = (items: Value[]) => items.map((item) => repr(item, depth + 1)).join(", ");
  if (Array.isArray(value)) return `[${all(value)}]`;
  if (value instanceof Tuple) return value.items.length === 1 ? `(${all(value.items)},)` : `(${all(value.items)})`;
  if (value instanceof Dict) {
    return `{${value
      .entries()
      .map(([key, item]) => `${repr(key, depth + 1)}: ${repr(item, depth + 1)}`)
      .join(", ")}}`;
  }
  if (value instanceof View) return `${value.typeName}([${all(value.items)}])`;
  return depth > 0 && value instanceof Undefined ? "Undefined" : value.toText();
}

function stringRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = text.replace(/['"\\]|(?! )[\p{C}\p{Z}]/gu, (character) => {
    if (character === "'" || character === '"') return character === quote ? `\\${character}` : character;
    const short = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    if (short !== undefined) return short;
    const code = character.codePointAt(0) as number;
    const hex = code.toString(16);
    return code < 0x100
      ? `\\x${hex.padStart(2, "0")}`
      : code < 0x10000
        ? `\\u${hex.padStart(4, "0")}`
        : `\\U${hex.padStart(8, "0")}`;
  });
  return quote + inside + quote;
}

/** Python's repr() of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [mantissa, exponentText] = value.toExponential().split("e") as [string, string];
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const sign = value < 0 ? "-" : "";
  const digits = mantissa.replace(/[-.]/g, "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

/** Python's ==. */
export function isEqual(a: Value, b: Value, depth = 0): boolean {
  countStep();
  if (a === b) return true;
  if (depth > deepest) throw new TemplateError(`a value nests more than ${deepest} levels`);
  const x = numberOf(a);
  const y = numberOf(b);
  if (x !== undefined && y !== undefined) return x === y;
  const sameItems = (left: Value[], right: Value[]) =>
    left.length === right.length && left.every((item, i) => isEqual(item, right[i] as Value, depth + 1));
  if (Array.isArray(a)) return Array.isArray(b) && sameItems(a, b);
  if (a instanceof Tuple) return b instanceof Tuple && sameItems(a.items, b.items);
  if (a instanceof Dict) {
    if (!(b instanceof Dict) || a.size !== b.size) return false;
    return a.entries().every(([key, item]) => {
      const other = b.get(key);
      return other !== undefined && isEqual(item, other, depth + 1);
    });
  }
  if (a instanceof Range && b instanceof Range) {
    return isEqual([...a.iterate()], [...b.iterate()]);
  }
  return a instanceof Undefined && b instanceof Undefined;
}

/** The number that a bool, int or float is; undefined for anything else. */
export function numberOf(value: Value): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return Number(value);
  return value instanceof Float ? value.value : undefined;
}

/** The items of anything that a `for` can go over. */
export function iterate(value: Value): Iterable<Value> {
  if (Array.isArray(value)) return value;
  if (typeof value === "string") return value; // By code points, as in Python.
  const items = value instanceof PyObject ? value.iterate() : undefined;
  if (items === undefined) throw new TemplateError(`'${typeName(value)}' object is not iterable`);
  return items;
}

/** Python's len(); undefined where there is none. */
export function lengthOf(value: Value): number | undefined {
  if (typeof value === "string") return codePointLength(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Tuple || value instanceof View) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof Range) return value.length;
  return value instanceof Undefined ? 0 : undefined;
}

const hasSurrogates = /[\ud800-\udfff]/;

function codePointLength(text: string): number {
  return hasSurrogates.test(text) ? Array.from(text).length : text.length;
}

/** A text as something that is indexed by characters as Python counts them. */
export function characters(text: string): string | string[] {
  return hasSurrogates.test(text) ? Array.from(text) : text;
}

/**
 * JavaScript's values as Python's: what JSON would make of them. A number with a fraction is a float; functions, symbols
 * and undefined are left out, as JSON.stringify does.
 */
export function fromJavaScript(value: unknown, depth = 0): Value {
  if (depth > deepest) throw new TemplateError(`a value nests more than ${deepest} levels`);
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isInteger(value) ? value : new Float(value);
    case "bigint":
      return Number(value);
    case "object":
      break;
    default:
      return null;
  }
  if (value === null) return null;
  if (value instanceof PyObject) return value;
  if (Array.isArray(value)) return value.map((item) => fromJavaScript(item, depth + 1));
  if ("toJSON" in value && typeof value.toJSON === "function") return fromJavaScript(value.toJSON(), depth + 1);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return new Dict(
    entries
      .filter(([, item]) => !["undefined", "function", "symbol"].includes(typeof item))
      .map(([key, item]) => [String(key), fromJavaScript(item, depth + 1)] as const),
  );
}
