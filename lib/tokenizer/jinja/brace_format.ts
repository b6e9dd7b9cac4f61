import { type Budget, TemplateError } from "./budget.js";
import { formatNumber } from "./percent_format.js";
import {
  type Arguments,
  Float,
  floatText,
  lengthOf,
  numberOf,
  repr,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** The ways from a value to a part of it. */
interface Lookups {
  getAttribute(object: Value, name: string, budget: Budget): Value;
  getItem(object: Value, key: Value, budget: Budget): Value;
}

/** str.format: `"{} {0} {name.field[key]!r:>8}".format(...)`. */
export function braceFormat(template: string, given: Arguments, budget: Budget, lookups: Lookups): string {
  let made = "";
  let automatic = 0;
  let place = 0;
  while (place < template.length) {
    const character = template[place] as string;
    if (character !== "{" && character !== "}") {
      made += character;
      place++;
    } else if (template[place + 1] === character) {
      made += character;
      place += 2;
    } else if (character === "}") {
      throw new TemplateError("Single '}' encountered in format string");
    } else {
      const end = endOfField(template, place);
      const [, name = "", conversion, spec = ""] =
        /^([^!:]*)(?:!(.))?(?::([\s\S]*))?$/.exec(template.slice(place + 1, end)) ?? [];
      const resolve = (field: string): Value =>
        lookUp(field === "" || /^[.[]/.test(field) ? `${automatic++}${field}` : field, given, budget, lookups);
      const value = resolve(name);
      const filled = spec.replace(/\{([^{}]*)\}/g, (_, inner: string) => toText(resolve(inner)));
      const shown = conversion === "r" ? repr(value) : conversion === "s" ? toText(value) : value;
      made += formatValue(shown, filled, budget);
      place = end + 1;
    }
    if (made.length > budget.limits.textLength) budget.text(made.length);
  }
  budget.text(made.length);
  return made;
}

function endOfField(template: string, start: number): number {
  let depth = 0;
  for (let i = start; i < template.length; i++) {
    if (template[i] === "{") depth++;
    if (template[i] === "}" && --depth === 0) return i;
  }
  throw new TemplateError("expected '}' before end of string");
}

function lookUp(field: string, { positional, named }: Arguments, budget: Budget, lookups: Lookups): Value {
  const [name = ""] = /^[^.[]*/.exec(field) ?? [];
  let value = /^\d+$/.test(name) ? positional[Number(name)] : named.get(name);
  if (value === undefined) {
    throw new TemplateError(
      /^\d+$/.test(name) ? "Replacement index out of range for positional args tuple" : `format() lacks '${name}'`,
    );
  }
  for (const step of field.slice(name.length).matchAll(/\.([^.[]+)|\[([^\]]+)\]/g)) {
    const key = step[2];
    value =
      key === undefined
        ? lookups.getAttribute(value, step[1] as string, budget)
        : lookups.getItem(value, /^\d+$/.test(key) ? Number(key) : key, budget);
    if (value instanceof Undefined) value.fail();
  }
  return value;
}

/** format(value, spec) */
export function formatValue(value: Value, spec: string, budget: Budget): string {
  if (spec === "") return toText(value);
  const match = /^(?:([\s\S])?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/u.exec(spec);
  if (match === null) throw new TemplateError(`Invalid format specifier '${spec}'`);
  const [, fill, align, sign = "-", alternate, zero, widthText, grouping, precisionText, kind] = match;
  const width = Number(widthText ?? 0);
  const precision = precisionText === undefined ? undefined : Number(precisionText);
  budget.text(width + (precision ?? 0));
  const number = typeof value === "string" ? undefined : numberOf(value);
  if (number === undefined || kind === "s") {
    if (typeof value !== "string") {
      throw new TemplateError(`unsupported format string passed to ${typeName(value)}.__format__`);
    }
    const text = precision === undefined ? value : Array.from(value).slice(0, precision).join("");
    return pad(text, width, fill ?? (zero === undefined ? " " : "0"), align ?? "<");
  }
  const digits = group(numberText(value, Math.abs(number), kind, precision, alternate !== undefined), grouping);
  const isNegative = number < 0 || Object.is(number, -0);
  const signText = isNegative ? "-" : sign === "-" ? "" : sign;
  if (align === "=" || (align === undefined && zero !== undefined)) {
    return signText + pad(digits, width - signText.length, fill ?? "0", ">");
  }
  return pad(signText + digits, width, fill ?? (zero === undefined ? " " : "0"), align ?? ">");
}

function numberText(
  value: Value,
  size: number,
  kind: string | undefined,
  precision: number | undefined,
  alternate: boolean,
): string {
  if (value instanceof Float) {
    if (kind === undefined && precision === undefined) return floatText(size);
    if (kind !== undefined && "dxXobc".includes(kind)) {
      throw new TemplateError(`Unknown format code '${kind}' for object of type 'float'`);
    }
    return formatNumber(kind ?? "g", size, precision, alternate);
  }
  if (kind === "c") return String.fromCodePoint(size);
  if (kind === undefined || kind === "n" || "dxXob".includes(kind)) {
    if (precision !== undefined) throw new TemplateError("Precision not allowed in integer format specifier");
    return formatNumber(kind === undefined || kind === "n" ? "d" : kind, size, undefined, alternate);
  }
  return formatNumber(kind, size, precision, alternate);
}

function group(digits: string, separator: string | undefined): string {
  if (separator === undefined) return digits;
  const [whole = "", ...rest] = digits.split(/(?=[.e%])/);
  return whole.replace(/\B(?=(\d{3})+$)/g, separator) + rest.join("");
}

function pad(text: string, width: number, fill: string, align: string): string {
  const missing = width - (lengthOf(text) as number);
  if (missing <= 0) return text;
  if (align === "<") return text + fill.repeat(missing);
  if (align === "^") return fill.repeat(missing >> 1) + text + fill.repeat(missing - (missing >> 1));
  return fill.repeat(missing) + text;
}
