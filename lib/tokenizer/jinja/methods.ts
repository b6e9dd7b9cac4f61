import { bind, integerOf, textOf } from "./arguments.js";
import { type Budget, TemplateError } from "./budget.js";
import { capitalize, count, find, isSpace, split, splitAtSpace, splitLines, strip, title } from "./python_text.js";
import {
  type Arguments,
  Callable,
  characters,
  Dict,
  Float,
  isEqual,
  iterate,
  lengthOf,
  orElse,
  PyObject,
  Tuple,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.js";

/** Methods that change a list or dict: the immutable sandbox of transformers refuses them. */
const changing = new Set([
  ...["append", "extend", "insert", "pop", "remove", "reverse", "sort", "clear"],
  ...["popitem", "setdefault", "update"],
]);

/** An attribute of a value, methods among them; undefined where it has none of that name. */
export function attributeOf(object: Value, name: string, budget: Budget): Value | undefined {
  if (/^__.*__$/.test(name) || ((Array.isArray(object) || object instanceof Dict) && isChanging(object, name))) {
    return new Undefined(`access to attribute '${name}' of '${typeName(object)}' object is unsafe.`);
  }
  if (typeof object === "string") {
    const method = stringMethods.get(name);
    return method === undefined ? undefined : bound(name, (call) => method(object, call, budget));
  }
  if (Array.isArray(object) || object instanceof Tuple) {
    const items = Array.isArray(object) ? object : object.items;
    return sequenceMethod(items, name, budget) ?? (object instanceof Tuple ? object.attribute(name) : undefined);
  }
  if (object instanceof Dict) return dictMethod(object, name, budget);
  if (object instanceof Float && name === "is_integer") return bound(name, () => Number.isInteger(object.value));
  return object instanceof PyObject ? object.attribute(name) : undefined;
}

function isChanging(object: Value, name: string): boolean {
  if (!changing.has(name)) return false;
  const isDictMethod = ["pop", "popitem", "clear", "setdefault", "update"].includes(name);
  return object instanceof Dict ? isDictMethod : !["popitem", "setdefault", "update"].includes(name);
}

function bound(name: string, call: (call: Arguments) => Value): Callable {
  return new Callable(name, call);
}

function sequenceMethod(items: Value[], name: string, budget: Budget): Value | undefined {
  switch (name) {
    case "count":
      return bound(name, (call) => {
        const [wanted] = bind(name, call, ["value"]) as [Value];
        budget.step(items.length);
        return items.filter((item) => isEqual(item, wanted)).length;
      });
    case "index":
      return bound(name, (call) => {
        const [wanted] = bind(name, call, ["value"]) as [Value];
        budget.step(items.length);
        const place = items.findIndex((item) => isEqual(item, wanted));
        if (place < 0) throw new TemplateError("the value is not in the list");
        return place;
      });
    case "copy":
      return bound(name, () => [...items]);
  }
  return undefined;
}

function dictMethod(dict: Dict, name: string, budget: Budget): Value | undefined {
  /** A method without parameters that goes over all entries. */
  const whole = (make: (entries: [Value, Value][]) => Value): Callable =>
    bound(name, (call) => {
      bind(name, call, []);
      budget.step(dict.size);
      return make(dict.entries());
    });
  switch (name) {
    case "get":
      return bound(name, (call) => {
        const [key, fallback = null] = bind(name, call, ["key", "default?"]) as [Value, Value?];
        return orElse(dict.get(key), () => fallback);
      });
    case "keys":
      return whole(
        (entries) =>
          new View(
            "keys",
            entries.map(([key]) => key),
          ),
      );
    case "values":
      return whole(
        (entries) =>
          new View(
            "values",
            entries.map(([, value]) => value),
          ),
      );
    case "items":
      return whole(
        (entries) =>
          new View(
            "items",
            entries.map((entry) => new Tuple(entry)),
          ),
      );
    case "copy":
      return whole((entries) => new Dict(entries));
  }
  return undefined;
}

type StringMethod = (text: string, call: Arguments, budget: Budget) => Value;

/** A method without parameters. */
function plain(change: (text: string) => Value): StringMethod {
  return (text, call, budget) => {
    bind("the method", call, []);
    budget.text(text.length);
    return change(text);
  };
}

/** Whether a text has characters and all are of a kind. */
function all(pattern: RegExp): StringMethod {
  return plain((text) => pattern.test(text));
}

function stripping(sides: "both" | "left" | "right"): StringMethod {
  return (text, call, budget) => {
    const [drop] = bind("strip", call, ["chars?"]);
    budget.text(text.length);
    return strip(
      text,
      sides,
      drop === undefined || drop === null ? undefined : textOf(drop, "the characters to strip"),
    );
  };
}

function splitting(fromRight: boolean): StringMethod {
  return (text, call, budget) => {
    const [separator, most] = bind("split", call, ["sep?", "maxsplit?"]);
    budget.text(text.length);
    const limit = most === undefined ? -1 : integerOf(most, "maxsplit");
    if (separator === undefined || separator === null) return splitAtSpace(text, limit, fromRight);
    const between = textOf(separator, "the separator");
    if (between === "") throw new TemplateError("empty separator");
    return split(text, between, limit, fromRight);
  };
}

function partition(fromRight: boolean): StringMethod {
  return (text, call, budget) => {
    const [separator] = bind("partition", call, ["sep"]) as [Value];
    budget.text(text.length);
    const between = textOf(separator, "the separator");
    if (between === "") throw new TemplateError("empty separator");
    const place = fromRight ? text.lastIndexOf(between) : text.indexOf(between);
    if (place < 0) return new Tuple(fromRight ? ["", "", text] : [text, "", ""]);
    return new Tuple([text.slice(0, place), between, text.slice(place + between.length)]);
  };
}

/** startswith and endswith: with one text or a tuple of them, and where in the text. */
function atEnd(test: (text: string, part: string) => boolean): StringMethod {
  return (text, call) => {
    const [parts, start, end] = bind("startswith", call, ["prefix", "start?", "end?"]) as [Value, Value?, Value?];
    const within = cut(text, start, end);
    const list = parts instanceof Tuple ? parts.items : [parts];
    return list.some((part) => test(within, textOf(part, "startswith first arg")));
  };
}

/** text[start:end] */
function cut(text: string, start: Value | undefined, end: Value | undefined): string {
  if ((start ?? null) === null && (end ?? null) === null) return text;
  const units = characters(text);
  const place = (value: Value | undefined) =>
    (value ?? null) === null ? undefined : integerOf(value as Value, "index");
  const part = units.slice(place(start), place(end));
  return typeof part === "string" ? part : part.join("");
}

function finding(fromRight: boolean, mustFind: boolean): StringMethod {
  return (text, call, budget) => {
    const [part, start, end] = bind("find", call, ["sub", "start?", "end?"]) as [Value, Value?, Value?];
    budget.text(text.length);
    const offset = (start ?? null) === null ? 0 : Math.max(0, integerOf(start as Value, "start"));
    const place = find(cut(text, start, end), textOf(part, "the text to find"), fromRight);
    if (place < 0 && mustFind) throw new TemplateError("substring not found");
    return place < 0 ? -1 : place + offset;
  };
}

function padding(place: (missing: number, width: number) => [number, number]): StringMethod {
  return (text, call, budget) => {
    const [widthValue, fillValue] = bind("padding", call, ["width", "fillchar?"]) as [Value, Value?];
    const width = integerOf(widthValue, "width");
    budget.text(Math.max(0, width));
    const fill = fillValue === undefined ? " " : textOf(fillValue, "the fill character");
    if (lengthOf(fill) !== 1) throw new TemplateError("The fill character must be exactly one character long");
    const missing = width - (lengthOf(text) as number);
    if (missing <= 0) return text;
    const [before, behind] = place(missing, width);
    return fill.repeat(before) + text + fill.repeat(behind);
  };
}

function replace(text: string, call: Arguments, budget: Budget): Value {
  const [from, to, most] = bind("replace", call, ["old", "new", "count?"]) as [Value, Value, Value?];
  const limit = most === undefined ? -1 : integerOf(most, "count");
  return replaceText(text, textOf(from, "replace() argument 1"), textOf(to, "replace() argument 2"), limit, budget);
}

/** str.replace; a limit below 0 is none. */
export function replaceText(text: string, from: string, to: string, limit: number, budget: Budget): string {
  budget.text(text.length);
  const parts = split(text, from, limit, false);
  if (from !== "") {
    budget.text(text.length + (parts.length - 1) * Math.max(0, to.length - from.length));
    return parts.join(to);
  }
  const units = Array.from(text);
  budget.text(text.length + (units.length + 1) * to.length);
  // Before each character and at the end.
  let made = "";
  for (const [i, unit] of units.entries()) made += (limit < 0 || i < limit ? to : "") + unit;
  return limit < 0 || units.length < limit ? made + to : made;
}

function join(text: string, call: Arguments, budget: Budget): Value {
  const [items] = bind("join", call, ["iterable"]) as [Value];
  let joined = "";
  let first = true;
  for (const item of iterate(items)) {
    if (typeof item !== "string")
      throw new TemplateError(`sequence item: expected str instance, ${typeName(item)} found`);
    joined += first ? item : text + item;
    first = false;
    budget.step();
    budget.text(item.length + text.length);
    if (joined.length > budget.limits.textLength) budget.text(joined.length);
  }
  return joined;
}

const cased = /[\p{Lu}\p{Ll}\p{Lt}]/u;

const stringMethods = new Map<string, StringMethod>(
  Object.entries({
    capitalize: plain(capitalize),
    casefold: plain((text) => text.toLowerCase().replaceAll("ß", "ss")),
    center: padding((missing, width) => {
      const before = (missing >> 1) + (missing & width & 1);
      return [before, missing - before];
    }),
    count: (text, call, budget) => {
      const [part, start, end] = bind("count", call, ["sub", "start?", "end?"]) as [Value, Value?, Value?];
      budget.text(text.length);
      return count(cut(text, start, end), textOf(part, "the text to count"));
    },
    endswith: atEnd((text, part) => text.endsWith(part)),
    expandtabs: plain((text) => {
      let column = 0;
      return Array.from(text, (character) => {
        if (character === "\n" || character === "\r") column = 0;
        else if (character !== "\t") column++;
        if (character !== "\t") return character;
        const width = 8 - (column % 8);
        column += width;
        return " ".repeat(width);
      }).join("");
    }),
    find: finding(false, false),
    index: finding(false, true),
    isalnum: all(/^[\p{L}\p{N}]+$/u),
    isalpha: all(/^\p{L}+$/u),
    isascii: all(/^\p{ASCII}*$/u),
    isdecimal: all(/^\p{Nd}+$/u),
    isdigit: all(/^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]+$/u),
    isidentifier: all(/^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$/u),
    islower: plain((text) => cased.test(text) && !/[\p{Lu}\p{Lt}]/u.test(text)),
    isnumeric: all(/^\p{N}+$/u),
    isprintable: all(/^(?: |[^\p{C}\p{Z}])*$/u),
    isspace: plain((text) => text !== "" && Array.from(text).every(isSpace)),
    istitle: plain((text) => cased.test(text) && title(text) === text),
    isupper: plain((text) => cased.test(text) && !/[\p{Ll}\p{Lt}]/u.test(text)),
    join,
    ljust: padding((missing) => [0, missing]),
    lower: plain((text) => text.toLowerCase()),
    lstrip: stripping("left"),
    partition: partition(false),
    removeprefix: (text, call) => {
      const prefix = textOf(bind("removeprefix", call, ["prefix"])[0] as Value, "the prefix");
      return text.startsWith(prefix) ? text.slice(prefix.length) : text;
    },
    removesuffix: (text, call) => {
      const suffix = textOf(bind("removesuffix", call, ["suffix"])[0] as Value, "the suffix");
      return suffix !== "" && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text;
    },
    replace,
    rfind: finding(true, false),
    rindex: finding(true, true),
    rjust: padding((missing) => [missing, 0]),
    rpartition: partition(true),
    rsplit: splitting(true),
    rstrip: stripping("right"),
    split: splitting(false),
    splitlines: (text, call, budget) => {
      const [keepEnds] = bind("splitlines", call, ["keepends?"]);
      budget.text(text.length);
      return splitLines(text, keepEnds === true || keepEnds === 1);
    },
    startswith: atEnd((text, part) => text.startsWith(part)),
    strip: stripping("both"),
    swapcase: plain((text) =>
      Array.from(text, (one) => (one === one.toLowerCase() ? one.toUpperCase() : one.toLowerCase())).join(""),
    ),
    title: plain(title),
    upper: plain((text) => text.toUpperCase()),
    zfill: (text, call, budget) => {
      const width = integerOf(bind("zfill", call, ["width"])[0] as Value, "width");
      budget.text(Math.max(0, width));
      const [sign = ""] = /^[-+]/.exec(text) ?? [];
      return sign + "0".repeat(Math.max(0, width - (lengthOf(text) as number))) + text.slice(sign.length);
    },
  }),
);
