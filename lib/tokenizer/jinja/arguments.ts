import { type Budget, TemplateError } from "./budget.js";
import { type Arguments, numberOf, typeName, Undefined, type Value } from "./values.js";

/**
 * Gives each parameter its argument; undefined where the call has none.
 *
 * @param names Parameters in their order; those behind "*" only by name, and a "?" marks one that may be left out.
 */
export function bind(what: string, { positional, named }: Arguments, names: readonly string[]): (Value | undefined)[] {
  const star = names.indexOf("*");
  const byPlace = star < 0 ? names.length : star;
  const parameters = names.filter((name) => name !== "*");
  if (positional.length > byPlace) {
    throw new TemplateError(`${what} takes at most ${byPlace} arguments (${positional.length} given)`);
  }
  const rest = new Map(named);
  const values = parameters.map((parameter, i) => {
    const name = parameter.replace("?", "");
    const isNamed = rest.has(name);
    const value = i < byPlace && i < positional.length ? positional[i] : rest.get(name);
    if (isNamed && value !== rest.get(name)) throw new TemplateError(`${what} got multiple values for '${name}'`);
    rest.delete(name);
    if (value === undefined && !parameter.endsWith("?")) throw new TemplateError(`${what} is missing '${name}'`);
    return value;
  });
  const [unknown] = rest.keys();
  if (unknown !== undefined) throw new TemplateError(`${what} got an unexpected keyword argument '${unknown}'`);
  return values;
}

export function textOf(value: Value, what: string): string {
  if (value instanceof Undefined) value.fail();
  if (typeof value !== "string") throw new TemplateError(`${what} must be str, not ${typeName(value)}`);
  return value;
}

export function integerOf(value: Value, what: string): number {
  if (value instanceof Undefined) value.fail();
  if (typeof value === "number" || typeof value === "boolean") return Number(value);
  throw new TemplateError(`${what}: '${typeName(value)}' object cannot be interpreted as an integer`);
}

export function realOf(value: Value, what: string): number {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined) throw new TemplateError(`${what}: must be real number, not ${typeName(value)}`);
  return number;
}

/** What filters need of the rendering that they are part of. */
export interface FilterContext {
  budget: Budget;
  applyFilter(name: string, value: Value, call: Arguments): Value;
  applyTest(name: string, value: Value, call: Arguments): boolean;
}

export type Filter = (value: Value, call: Arguments, context: FilterContext) => Value;
