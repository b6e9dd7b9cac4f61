import { type Budget, TemplateError } from "./budget.js";
import { Dict, Float, floatText, numberOf, repr, Tuple, toText, typeName, Undefined, type Value } from "./values.js";

/** `"%s and %5.2f" % (a, b)` and `"%(name)s" % mapping`. */
export function percentFormat(template: string, given: Value, budget: Budget): string {
  const values = given instanceof Tuple ? given.items : [given];
  let used = 0;
  const next = (): Value => {
    if (used >= values.length) throw new TemplateError("not enough arguments for format string");
    return values[used++] as Value;
  };
  const text = template.replace(
    /%(?:\(([^)]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d+))?[hlL]?([\s\S]?)/g,
    (
      _,
      key: string | undefined,
      flags: string,
      widthText: string | undefined,
      precisionText: string | undefined,
      kind: string,
    ) => {
      if (kind === "%") return "%";
      const size = (digits: string | undefined) =>
        digits === "*" ? Number(next()) : digits === undefined ? undefined : Number(digits);
      const width = size(widthText) ?? 0;
      const precision = size(precisionText);
      budget.text(width + (precision ?? 0));
      const value = key === undefined ? next() : valueForKey(given, key);
      if (key !== undefined) used = values.length;
      const body = convert(kind, value, precision, flags);
      return pad(body, width, flags);
    },
  );
  if (used < values.length && !(given instanceof Dict)) {
    throw new TemplateError("not all arguments converted during string formatting");
  }
  budget.text(text.length);
  return text;
}

function valueForKey(given: Value, key: string): Value {
  if (!(given instanceof Dict)) throw new TemplateError("format requires a mapping");
  const value = given.get(key);
  if (value === undefined) throw new TemplateError(`the format needs the key ${repr(key)}`);
  return value;
}

function convert(kind: string, value: Value, precision: number | undefined, flags: string): string {
  if (kind === "s" || kind === "r" || kind === "a") {
    const text = kind === "s" ? toText(value) : repr(value);
    return precision === undefined ? text : Array.from(text).slice(0, precision).join("");
  }
  if (kind === "c" && typeof value === "string") return value;
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined || (kind === "c" && value instanceof Float)) {
    throw new TemplateError(`%${kind} format: a real number is required, not ${typeName(value)}`);
  }
  if (kind === "c") return String.fromCodePoint(number);
  return withSign(number, flags, formatNumber(kind, Math.abs(number), precision, flags.includes("#")));
}

function withSign(number: number, flags: string, digits: string): string {
  const negative = number < 0 || Object.is(number, -0);
  return (negative ? "-" : flags.includes("+") ? "+" : flags.includes(" ") ? " " : "") + digits;
}

/** A number that is not negative in one of Python's presentations. */
export function formatNumber(kind: string, value: number, precision: number | undefined, alternate: boolean): string {
  const integer = (radix: number, prefix: string) =>
    (alternate ? prefix : "") +
    Math.trunc(value)
      .toString(radix)
      .padStart(precision ?? 0, "0");
  switch (kind) {
    case "d":
    case "i":
    case "u":
      return integer(10, "");
    case "x":
      return integer(16, "0x");
    case "X":
      return integer(16, "0x").toUpperCase();
    case "o":
      return integer(8, "0o");
    case "b":
      return integer(2, "0b");
  }
  if (!Number.isFinite(value)) return floatText(value);
  const digits = Math.min(precision ?? 6, 100);
  switch (kind) {
    case "f":
    case "F":
      return fixed(value, digits);
    case "e":
    case "E": {
      const text = value.toExponential(digits).replace(/e([+-])(\d)$/, "e$10$2");
      return kind === "E" ? text.toUpperCase() : text;
    }
    case "g":
    case "G": {
      const text = general(value, digits === 0 ? 1 : digits, alternate);
      return kind === "G" ? text.toUpperCase() : text;
    }
    case "%":
      return `${fixed(value * 100, digits)}%`;
  }
  throw new TemplateError(`unsupported format character '${kind}'`);
}

/** toFixed gives an exponent from 1e21 on. */
function fixed(value: number, digits: number): string {
  return value < 1e21 ? value.toFixed(digits) : BigInt(value).toString() + (digits > 0 ? `.${"0".repeat(digits)}` : "");
}

function general(value: number, digits: number, keepZeros: boolean): string {
  const exponent = value === 0 ? 0 : Number(value.toExponential(digits - 1).split("e")[1]);
  const useExponent = exponent < -4 || exponent >= digits;
  const text = useExponent ? value.toExponential(digits - 1) : fixed(value, Math.max(0, digits - 1 - exponent));
  const [mantissa, power] = text.split("e") as [string, string?];
  const short = keepZeros || !mantissa.includes(".") ? mantissa : mantissa.replace(/\.?0+$/, "");
  return power === undefined ? short : `${short}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}

function pad(body: string, width: number, flags: string): string {
  const missing = width - Array.from(body).length;
  if (missing <= 0) return body;
  if (flags.includes("-")) return body + " ".repeat(missing);
  if (!flags.includes("0")) return " ".repeat(missing) + body;
  const [sign = ""] = /^[-+ ]/.exec(body) ?? [];
  return sign + "0".repeat(missing) + body.slice(sign.length);
}
