import { bind, type Filter, integerOf, realOf, textOf } from "./arguments.js";
import { TemplateError } from "./budget.js";
import { toJson } from "./json.js";
import { listFilters } from "./list_filters.js";
import { replaceText } from "./methods.js";
import { getAttribute, lengthOrFail, order } from "./operators.js";
import { percentFormat } from "./percent_format.js";
import { capitalize, splitLines, strip } from "./python_text.js";
import {
  Dict,
  Float,
  Generator,
  isTrue,
  iterate,
  lengthOf,
  numberOf,
  repr,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** A filter of a text without parameters; other values are written out first, undefined as nothing. */
function onText(change: (text: string) => Value): Filter {
  return (value, call, { budget }) => {
    bind("the filter", call, []);
    const text = toText(value);
    budget.text(text.length);
    return change(text);
  };
}

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;" };

function escapeHtml(text: string): string {
  return text.replace(/[&<>'"]/g, (character) => escapes[character] as string);
}

const fallback: Filter = (value, call) => {
  const [instead = "", boolean = false] = bind("default", call, ["default_value?", "boolean?"]);
  return value instanceof Undefined || (isTrue(boolean) && !isTrue(value)) ? instead : value;
};

const length: Filter = (value, call) => {
  bind("length", call, []);
  return lengthOrFail(value);
};

const escapeFilter = onText(escapeHtml);

const tojson: Filter = (value, call, { budget }) => {
  const [ascii = false, indent = null, separators = null, sort = false] = bind("tojson", call, [
    ...["ensure_ascii?", "indent?", "separators?", "sort_keys?"],
  ]);
  const between = separators === null ? undefined : [...iterate(separators)].map((one) => textOf(one, "a separator"));
  if (between !== undefined && between.length !== 2) throw new TemplateError("separators must be two texts");
  const style = {
    ensureAscii: isTrue(ascii),
    indent:
      indent === null
        ? undefined
        : typeof indent === "string"
          ? indent
          : " ".repeat(Math.min(64, Math.max(0, integerOf(indent, "indent")))),
    itemSeparator: between?.[0] ?? (indent === null ? ", " : ","),
    keySeparator: between?.[1] ?? ": ",
    sortKeys: isTrue(sort),
  };
  return toJson(value, style, budget);
};

const indent: Filter = (value, call, { budget }) => {
  const [width = 4, first = false, blank = false] = bind("indent", call, ["width?", "first?", "blank?"]);
  const space = typeof width === "string" ? width : " ".repeat(Math.min(1000, Math.max(0, integerOf(width, "width"))));
  // As Jinja2 does: without the newline a text that ends in one would lose it.
  const lines = splitLines(`${toText(value)}\n`, false);
  budget.text(toText(value).length + lines.length * space.length);
  const indented = lines.map((line, i) =>
    (i === 0 ? isTrue(first) : isTrue(blank) || line !== "") ? space + line : line,
  );
  return indented.join("\n");
};

const toInteger: Filter = (value, call) => {
  const [instead = 0, base = 10] = bind("int", call, ["default?", "base?"]);
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number !== undefined) return Number.isFinite(number) ? Math.trunc(number) + 0 : instead;
  if (typeof value !== "string") return instead;
  return parseInteger(value, integerOf(base, "base")) ?? instead;
};

function parseInteger(text: string, base: number): number | undefined {
  const [, sign = "", digits = ""] =
    /^([-+]?)(.*)$/s.exec(
      strip(text, "both")
        .toLowerCase()
        .replace(/(?<=\w)_(?=\w)/g, ""),
    ) ?? [];
  const prefix: Record<number, RegExp> = { 2: /^0b/, 8: /^0o/, 16: /^0x/ };
  const bare = digits.replace(prefix[base] ?? /^$/, "");
  const value = /^[\da-z]+$/.test(bare) ? Number.parseInt(bare, base) : Number.NaN;
  const isWhole = !Number.isNaN(value) && [...bare].every((digit) => !Number.isNaN(Number.parseInt(digit, base)));
  if (isWhole) return sign === "-" ? 0 - value : value;
  const float = parseFloatText(text);
  return float === undefined || !Number.isFinite(float) ? undefined : Math.trunc(float) + 0;
}

/** Python's float(); undefined for what it does not read. */
function parseFloatText(text: string): number | undefined {
  const plain = strip(text, "both").replace(/(?<=\d)_(?=\d)/g, "");
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(plain)) return Number(plain);
  const [, sign, name] = /^([-+]?)(inf|infinity|nan)$/i.exec(plain) ?? [];
  if (name === undefined) return undefined;
  if (name.toLowerCase() === "nan") return Number.NaN;
  return sign === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

const toFloat: Filter = (value, call) => {
  const [instead = new Float(0)] = bind("float", call, ["default?"]);
  if (value instanceof Undefined) value.fail();
  const number = typeof value === "string" ? parseFloatText(value) : numberOf(value);
  return number === undefined ? instead : new Float(number);
};

const round: Filter = (value, call) => {
  const [precisionValue = 0, method = "common"] = bind("round", call, ["precision?", "method?"]);
  const precision = integerOf(precisionValue, "precision");
  const number = realOf(value, "round");
  const scale = 10 ** precision;
  switch (method) {
    case "ceil":
      return new Float(Math.ceil(number * scale) / scale);
    case "floor":
      return new Float(Math.floor(number * scale) / scale);
    case "common":
      break;
    default:
      throw new TemplateError("method must be common, ceil or floor");
  }
  // Python's round() of an int is an int; halves go to the even neighbour.
  const rounded =
    precision > 0 && precision <= 100 ? Number(number.toFixed(precision)) : halfToEven(number * scale) / scale;
  return value instanceof Float ? new Float(rounded) : rounded + 0;
};

function halfToEven(value: number): number {
  const below = Math.floor(value);
  const part = value - below;
  if (part !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

const replace: Filter = (value, call, { budget }) => {
  const [from, to, most] = bind("replace", call, ["old", "new", "count?"]) as [Value, Value, Value?];
  const limit = most === undefined || most === null ? -1 : integerOf(most, "count");
  return replaceText(toText(value), toText(from), toText(to), limit, budget);
};

const trim: Filter = (value, call, { budget }) => {
  const [drop = null] = bind("trim", call, ["chars?"]);
  const text = toText(value);
  budget.text(text.length);
  return strip(text, "both", drop === null ? undefined : textOf(drop, "the characters to trim"));
};

const truncate: Filter = (value, call) => {
  const [sizeValue = 255, killWords = false, end = "...", leeway = 5] = bind("truncate", call, [
    ...["length?", "killwords?", "end?", "leeway?"],
  ]);
  const size = integerOf(sizeValue, "length");
  const characters = Array.from(toText(value));
  const tail = toText(end);
  if (characters.length <= size + integerOf(leeway ?? 5, "leeway")) return characters.join("");
  const kept = characters.slice(0, Math.max(0, size - Array.from(tail).length)).join("");
  if (isTrue(killWords)) return kept + tail;
  const space = kept.lastIndexOf(" ");
  return (space < 0 ? kept : kept.slice(0, space)) + tail;
};

const wordwrap: Filter = (value, call) => {
  const [widthValue = 79, breakLong = true, wrapString = "\n"] = bind("wordwrap", call, [
    ...["width?", "break_long_words?", "wrapstring?", "break_on_hyphens?"],
  ]);
  const width = Math.max(1, integerOf(widthValue, "width"));
  const wrap = (line: string): string => {
    const lines: string[] = [];
    let current = "";
    for (let word of line.split(/(?<=\S)\s+/)) {
      const gap = current === "" ? "" : " ";
      if ((current + gap + word).length <= width) {
        current += gap + word;
        continue;
      }
      if (current !== "") lines.push(current);
      for (; isTrue(breakLong) && word.length > width; word = word.slice(width)) lines.push(word.slice(0, width));
      current = word;
    }
    if (current !== "") lines.push(current);
    return lines.join(toText(wrapString));
  };
  return toText(value)
    .split(/\r\n|\r|\n/)
    .map(wrap)
    .join(toText(wrapString));
};

const urlencode: Filter = (value, call) => {
  bind("urlencode", call, []);
  const encode = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
  if (!(value instanceof Dict)) return encode(toText(value)).replaceAll("%2F", "/");
  return value
    .entries()
    .map(([key, item]) => `${encode(toText(key))}=${encode(toText(item))}`.replaceAll("%20", "+"))
    .join("&");
};

const filesizeformat: Filter = (value, call) => {
  const [binary = false] = bind("filesizeformat", call, ["binary?"]);
  const base = isTrue(binary) ? 1024 : 1000;
  const bytes = typeof value === "string" ? (parseFloatText(value) ?? 0) : realOf(value, "filesizeformat");
  if (bytes === 1) return "1 Byte";
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  const prefixes = isTrue(binary)
    ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    : ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
  let unit = base;
  for (const prefix of prefixes) {
    unit *= base;
    if (bytes < unit || prefix === prefixes.at(-1)) return `${((base * bytes) / unit).toFixed(1)} ${prefix}`;
  }
  return "";
};

const xmlattr: Filter = (value, call) => {
  const [autospace = true] = bind("xmlattr", call, ["autospace?"]);
  if (!(value instanceof Dict)) throw new TemplateError("xmlattr needs a mapping");
  const pairs = value.entries().filter(([, item]) => item !== null && !(item instanceof Undefined));
  const text = pairs.map(([key, item]) => `${escapeHtml(toText(key))}="${escapeHtml(toText(item))}"`).join(" ");
  return isTrue(autospace) && text !== "" ? ` ${text}` : text;
};

const textFilters: Record<string, Filter> = {
  capitalize: onText(capitalize),
  lower: onText((text) => text.toLowerCase()),
  upper: onText((text) => text.toUpperCase()),
  // Not str.title(): capitals stand at the start and behind spaces, hyphens and opening brackets only.
  title: onText((text) =>
    text
      .split(/([-\s({[<]+)/u)
      .map((part) => capitalize(part))
      .join(""),
  ),
  string: onText((text) => text),
  safe: onText((text) => text),
  e: escapeFilter,
  escape: escapeFilter,
  forceescape: escapeFilter,
  striptags: onText((text) =>
    strip(text.replace(/<!--[\s\S]*?-->|<[^>]*>/g, "").replace(/\s+/g, " "), "both")
      .replaceAll("&lt;", "<")
      .replaceAll("&gt;", ">")
      .replaceAll("&#34;", '"')
      .replaceAll("&quot;", '"')
      .replaceAll("&#39;", "'")
      .replaceAll("&amp;", "&"),
  ),
  wordcount: onText((text) => text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
  center: (value, call, { budget }) => {
    const [width = 80] = bind("center", call, ["width?"]);
    const text = toText(value);
    const missing = Math.max(0, integerOf(width, "width") - (lengthOf(text) as number));
    budget.text(text.length + missing);
    const before = (missing >> 1) + (missing & integerOf(width, "width") & 1);
    return " ".repeat(before) + text + " ".repeat(missing - before);
  },
  trim,
  truncate,
  wordwrap,
  indent,
  replace,
  format: (value, { positional, named }, { budget }) => {
    if (positional.length > 0 && named.size > 0)
      throw new TemplateError("can't handle positional and keyword arguments");
    return percentFormat(toText(value), named.size > 0 ? new Dict(named) : new Tuple(positional), budget);
  },
  urlencode,
  xmlattr,
  filesizeformat,
  tojson,
  pprint: (value) => repr(value),
};

const numberFilters: Record<string, Filter> = {
  abs: (value, call) => {
    bind("abs", call, []);
    const number = Math.abs(realOf(value, "abs"));
    return value instanceof Float ? new Float(number) : number;
  },
  int: toInteger,
  float: toFloat,
  round,
};

const valueFilters: Record<string, Filter> = {
  default: fallback,
  d: fallback,
  length,
  count: length,
  attr: (value, call, { budget }) => {
    const name = textOf(bind("attr", call, ["name"])[0] as Value, "the attribute's name");
    // Only attributes: the item of a dict is not one.
    return value instanceof Dict && !["get", "keys", "values", "items"].includes(name)
      ? new Undefined(`'dict object' has no attribute '${name}'`)
      : getAttribute(value, name, budget);
  },
  items: (value, call) => {
    bind("items", call, []);
    if (value instanceof Undefined) return new Generator([]);
    if (!(value instanceof Dict)) throw new TemplateError("Can only get item pairs from a mapping.");
    return new Generator(value.entries().map((entry) => new Tuple(entry)));
  },
  dictsort: (value, call, { budget }) => {
    const [caseSensitive = false, by = "key", reverse = false] = bind("dictsort", call, [
      ...["case_sensitive?", "by?", "reverse?"],
    ]);
    if (!(value instanceof Dict)) {
      if (value instanceof Undefined) value.fail();
      throw new TemplateError(`'${typeName(value)}' object has no attribute 'items'`);
    }
    if (by !== "key" && by !== "value") throw new TemplateError('You can only sort by either "key" or "value"');
    const place = by === "key" ? 0 : 1;
    const fold = (item: Value) => (typeof item === "string" && !isTrue(caseSensitive) ? item.toLowerCase() : item);
    const entries = value.entries();
    budget.step(entries.length * 4);
    entries.sort((a, b) => order(fold(a[place]), fold(b[place])) * (isTrue(reverse) ? -1 : 1));
    return entries.map((entry) => new Tuple(entry));
  },
};

const filters = new Map<string, Filter>(
  Object.entries({ ...textFilters, ...numberFilters, ...valueFilters, ...listFilters }),
);

/** Filters of Jinja2 that are not here: "random" gives a prompt that is another one each time, the rest makes HTML. */
export function findFilter(name: string): Filter {
  const filter = filters.get(name);
  if (filter === undefined) throw new TemplateError(`No filter named '${name}'.`);
  return filter;
}

export function isFilter(name: string): boolean {
  return filters.has(name);
}
