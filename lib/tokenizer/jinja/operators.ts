import { braceFormat } from "./brace_format.js";
import type { Budget } from "./budget.js";
import { countStep, TemplateError } from "./budget.js";
import { attributeOf } from "./methods.js";
import type { BinaryOperator, CompareOperator } from "./nodes.js";
import { percentFormat } from "./percent_format.js";
import {
  Callable,
  characters,
  Dict,
  Float,
  isEqual,
  iterate,
  lengthOf,
  numberOf,
  orElse,
  PyObject,
  Range,
  repr,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.js";

/** Makes a number of the kind that Python gives: float if one operand is. */
function number(value: number, isFloat: boolean): Value {
  if (isFloat) return new Float(value);
  if (!Number.isSafeInteger(value)) throw new TemplateError("an integer is too large");
  // There is no integer -0.
  return value + 0;
}

export function binary(operator: BinaryOperator, left: Value, right: Value, budget: Budget): Value {
  if (left instanceof Undefined) left.fail();
  if (operator === "%" && typeof left === "string") return percentFormat(left, right, budget);
  if (right instanceof Undefined) right.fail();
  const a = numberOf(left);
  const b = numberOf(right);
  if (a !== undefined && b !== undefined) {
    return arithmetic(operator, a, b, left instanceof Float || right instanceof Float);
  }
  if (operator === "+") {
    const sum = join(left, right, budget);
    if (sum !== undefined) return sum;
  }
  if (operator === "*") {
    const repeated = repeat(left, right, budget) ?? repeat(right, left, budget);
    if (repeated !== undefined) return repeated;
  }
  const name = operator === "**" ? "** or pow()" : operator;
  throw new TemplateError(`unsupported operand type(s) for ${name}: '${typeName(left)}' and '${typeName(right)}'`);
}

function arithmetic(operator: BinaryOperator, a: number, b: number, isFloat: boolean): Value {
  switch (operator) {
    case "+":
      return number(a + b, isFloat);
    case "-":
      return number(a - b, isFloat);
    case "*":
      return number(a * b, isFloat);
    case "**":
      if (a === 0 && b < 0) throw new TemplateError("zero to a negative power");
      return number(a ** b, isFloat || b < 0);
  }
  if (b === 0) throw new TemplateError("division by zero");
  if (operator === "/") return new Float(a / b);
  if (operator === "//") return number(Math.floor(a / b), isFloat);
  const rest = a % b;
  return number(rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest, isFloat);
}

function join(left: Value, right: Value, budget: Budget): Value | undefined {
  if (typeof left === "string" && typeof right === "string") {
    budget.text(Math.min(right.length, left.length));
    checkLength(left.length + right.length, budget);
    return left + right;
  }
  if (Array.isArray(left) && Array.isArray(right)) {
    budget.step(left.length + right.length);
    return [...left, ...right];
  }
  if (left instanceof Tuple && right instanceof Tuple) return new Tuple([...left.items, ...right.items]);
  return undefined;
}

/** Joined text is not copied by JavaScript, so only its length is checked and no work counted. */
function checkLength(length: number, budget: Budget): void {
  if (length > budget.limits.textLength) budget.text(length);
}

function repeat(what: Value, times: Value, budget: Budget): Value | undefined {
  if (typeof times !== "number" && typeof times !== "boolean") return undefined;
  const count = Math.max(0, Number(times));
  if (typeof what === "string") {
    budget.text(what.length * count);
    return what.repeat(count);
  }
  const items = Array.isArray(what) ? what : what instanceof Tuple ? what.items : undefined;
  if (items === undefined) return undefined;
  budget.step(items.length * count);
  const repeated: Value[] = [];
  for (let i = 0; i < count && items.length > 0; i++) repeated.push(...items);
  return Array.isArray(what) ? repeated : new Tuple(repeated);
}

export function unary(operator: "-" | "+", operand: Value): Value {
  if (operand instanceof Undefined) operand.fail();
  const value = numberOf(operand);
  if (value === undefined) throw new TemplateError(`bad operand type for unary ${operator}: '${typeName(operand)}'`);
  return number(operator === "-" ? -value : value, operand instanceof Float);
}

export function concat(parts: Value[], budget: Budget): string {
  let joined = "";
  for (const part of parts) {
    const text = toText(part);
    budget.text(Math.min(joined.length, text.length));
    joined += text;
    checkLength(joined.length, budget);
  }
  return joined;
}

export function compare(operator: CompareOperator, left: Value, right: Value, budget: Budget): boolean {
  switch (operator) {
    case "==":
      return isEqual(left, right);
    case "!=":
      return !isEqual(left, right);
    case "in":
      return contains(right, left, budget);
    case "not in":
      return !contains(right, left, budget);
  }
  const difference = order(left, right, operator);
  if (Number.isNaN(difference)) return false;
  return operator === "<"
    ? difference < 0
    : operator === "<="
      ? difference <= 0
      : operator === ">"
        ? difference > 0
        : difference >= 0;
}

/** Negative, zero or positive as `left` is before, with or behind `right`; NaN where a float is that. */
export function order(left: Value, right: Value, operator = "<"): number {
  countStep();
  if (left instanceof Undefined) left.fail();
  if (right instanceof Undefined) right.fail();
  const a = numberOf(left);
  const b = numberOf(right);
  if (a !== undefined && b !== undefined) return a === b ? 0 : a - b;
  if (typeof left === "string" && typeof right === "string") return orderText(left, right);
  const x = Array.isArray(left) ? left : left instanceof Tuple ? left.items : undefined;
  const y = Array.isArray(right) ? right : right instanceof Tuple ? right.items : undefined;
  if (x !== undefined && y !== undefined && Array.isArray(left) === Array.isArray(right)) {
    for (let i = 0; i < Math.min(x.length, y.length); i++) {
      if (!isEqual(x[i] as Value, y[i] as Value)) return order(x[i] as Value, y[i] as Value, operator);
    }
    return x.length - y.length;
  }
  throw new TemplateError(
    `'${operator}' not supported between instances of '${typeName(left)}' and '${typeName(right)}'`,
  );
}

/** By code points: UTF-16 has characters beyond U+FFFF before U+E000. */
function orderText(left: string, right: string): number {
  if (left === right) return 0;
  const shorter = Math.min(left.length, right.length);
  for (let i = 0; i < shorter; i++) {
    if (left.charCodeAt(i) === right.charCodeAt(i)) continue;
    const a = left.charCodeAt(i);
    const b = right.charCodeAt(i);
    const isSurrogate = (unit: number) => unit >= 0xd800 && unit < 0xe000;
    return isSurrogate(a) !== isSurrogate(b) ? (isSurrogate(a) ? 1 : -1) : a - b;
  }
  return left.length - right.length;
}

/** Python's `item in container`. */
export function contains(container: Value, item: Value, budget: Budget): boolean {
  if (typeof container === "string") {
    if (item instanceof Undefined) item.fail();
    if (typeof item !== "string") {
      throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    budget.text(container.length);
    return container.includes(item);
  }
  if (container instanceof Dict) return container.has(item);
  if (container instanceof Range && typeof item === "number") {
    const place = (item - container.start) / container.step;
    return Number.isInteger(place) && place >= 0 && place < container.length;
  }
  if (!Array.isArray(container) && !(container instanceof PyObject && container.iterate() !== undefined)) {
    throw new TemplateError(`argument of type '${typeName(container)}' is not iterable`);
  }
  for (const one of iterate(container)) {
    budget.step();
    if (isEqual(one, item)) return true;
  }
  return false;
}

/** `object.name`: an attribute, else the item of that name. */
export function getAttribute(object: Value, name: string, budget: Budget): Value {
  if (object instanceof Undefined) object.fail();
  const attribute = attributeOrMethod(object, name, budget);
  if (attribute !== undefined) return attribute;
  return orElse(object instanceof Dict ? object.get(name) : undefined, () => missing(object, name));
}

/** `object[key]`: an item, else the attribute of that name. */
export function getItem(object: Value, key: Value, budget: Budget): Value {
  if (object instanceof Undefined) object.fail();
  const item = itemOf(object, key);
  if (item !== undefined) return item;
  return orElse(typeof key === "string" ? attributeOrMethod(object, key, budget) : undefined, () =>
    missing(object, key),
  );
}

/** str.format() is here and not among the other methods: it looks up attributes and items itself. */
function attributeOrMethod(object: Value, name: string, budget: Budget): Value | undefined {
  if (typeof object === "string" && name === "format")
    return new Callable(name, (call) => braceFormat(object, call, budget, { getAttribute, getItem }));
  return attributeOf(object, name, budget);
}

function itemOf(object: Value, key: Value): Value | undefined {
  if (object instanceof Dict) {
    const isKey = key === null || typeof key !== "object" || key instanceof Float || key instanceof Tuple;
    return isKey ? object.get(key) : undefined;
  }
  if (typeof key !== "number" && typeof key !== "boolean") return undefined;
  const items = sequenceOf(object);
  if (items === undefined) return undefined;
  const place = Number(key);
  return items[place < 0 ? items.length + place : place];
}

/** The items of what can be indexed by number. */
function sequenceOf(object: Value): ArrayLike<Value> | undefined {
  if (typeof object === "string") return characters(object);
  if (Array.isArray(object)) return object;
  if (object instanceof Tuple) return object.items;
  return object instanceof Range ? [...object.iterate()] : undefined;
}

function missing(object: Value, key: Value): Undefined {
  const owner = object === null ? "None" : `'${typeName(object)} object'`;
  return new Undefined(
    typeof key === "string" ? `${owner} has no attribute '${key}'` : `${owner} has no element ${repr(key)}`,
  );
}

/** `object[start:stop:step]` */
export function getSlice(object: Value, start: Value, stop: Value, step: Value, budget: Budget): Value {
  if (object instanceof Undefined) object.fail();
  const sequence = sequenceOf(object);
  if (sequence === undefined) return missing(object, "slice");
  const stride = bound(step) ?? 1;
  if (stride === 0) throw new TemplateError("slice step cannot be zero");
  const { length } = sequence;
  const clamp = (place: number | undefined, unset: number) => {
    if (place === undefined) return unset;
    const fromStart = place < 0 ? place + length : place;
    return Math.max(stride > 0 ? 0 : -1, Math.min(stride > 0 ? length : length - 1, fromStart));
  };
  const from = clamp(bound(start), stride > 0 ? 0 : length - 1);
  const to = clamp(bound(stop), stride > 0 ? length : -1);
  budget.step(Math.ceil(Math.max(0, (to - from) / stride) / 16));
  if (typeof sequence === "string" && stride === 1) return sequence.slice(from, Math.max(from, to));
  const picked: Value[] = [];
  for (let i = from; stride > 0 ? i < to : i > to; i += stride) picked.push(sequence[i] as Value);
  if (typeof object === "string") return picked.join("");
  return object instanceof Tuple ? new Tuple(picked) : picked;
}

function bound(value: Value): number | undefined {
  if (value === null) return undefined;
  if (value instanceof Undefined) return undefined;
  if (typeof value !== "number" && typeof value !== "boolean") {
    throw new TemplateError("slice indices must be integers or None");
  }
  return Number(value);
}

/** len(), or the error that Python has. */
export function lengthOrFail(value: Value): number {
  const length = lengthOf(value);
  if (length === undefined) throw new TemplateError(`object of type '${typeName(value)}' has no len()`);
  return length;
}

/** The items of a value as an array, each counted. */
export function listOf(value: Value, budget: Budget): Value[] {
  if (Array.isArray(value)) {
    budget.step(value.length);
    return value;
  }
  if (value instanceof View) return value.items;
  const items: Value[] = [];
  for (const item of iterate(value)) {
    budget.step();
    items.push(item);
  }
  return items;
}
