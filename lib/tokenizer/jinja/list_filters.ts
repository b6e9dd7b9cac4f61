import { bind, type Filter, type FilterContext, integerOf, textOf } from "./arguments.js";
import { TemplateError } from "./budget.js";
import { binary, getItem, listOf, order } from "./operators.js";
import {
  type Arguments,
  Generator,
  hashKey,
  isTrue,
  iterate,
  orElse,
  PyObject,
  Range,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
  View,
} from "./values.js";

/** The getter that filters make of `attribute="a.b.0"`. */
function getter(attribute: Value | undefined, context: FilterContext, fallback?: Value): (item: Value) => Value {
  if (attribute === undefined || attribute === null) return (item) => item;
  const path: Value[] =
    typeof attribute === "number"
      ? [attribute]
      : textOf(attribute, "attribute")
          .split(".")
          .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  return (item) => {
    let value = item;
    for (const key of path) {
      value = getItem(value, key, context.budget);
      if (value instanceof Undefined && fallback !== undefined) return fallback;
    }
    return value;
  };
}

const fold = (value: Value): Value => (typeof value === "string" ? value.toLowerCase() : value);

function* counted(items: Iterable<Value>, { budget }: FilterContext): Generator_ {
  for (const item of items) {
    budget.step();
    yield item;
  }
}
type Generator_ = IterableIterator<Value>;

function lazily(make: () => Iterable<Value>): Generator {
  return new Generator(make());
}

/** select, reject, selectattr and rejectattr. */
function selecting(byAttribute: boolean, keep: boolean): Filter {
  return (value, { positional, named }, context) => {
    const rest = [...positional];
    let get = (item: Value): Value => item;
    if (byAttribute) {
      if (rest.length === 0) throw new TemplateError("Missing parameter for attribute name");
      get = getter(rest.shift(), context);
    }
    const name = rest.shift();
    const call = { positional: rest, named };
    const test = (item: Value): boolean =>
      name === undefined ? isTrue(item) : context.applyTest(textOf(name, "the test's name"), item, call);
    const select = function* () {
      for (const item of counted(iterate(value), context)) if (test(get(item)) === keep) yield item;
    };
    return lazily(select);
  };
}

const map: Filter = (value, call, context) => {
  const change = mapper(call, context);
  const apply = function* () {
    for (const item of counted(iterate(value), context)) yield change(item);
  };
  return lazily(apply);
};

function mapper({ positional, named }: Arguments, context: FilterContext): (item: Value) => Value {
  if (positional.length === 0 && named.has("attribute")) {
    const [unknown] = [...named.keys()].filter((name) => name !== "attribute" && name !== "default");
    if (unknown !== undefined) throw new TemplateError(`Unexpected keyword argument '${unknown}'`);
    return getter(named.get("attribute"), context, named.get("default"));
  }
  const [name, ...rest] = positional;
  if (name === undefined) throw new TemplateError("map requires a filter argument");
  return (item) => context.applyFilter(textOf(name, "the filter's name"), item, { positional: rest, named });
}

const sort: Filter = (value, call, context) => {
  const [reverse = false, caseSensitive = false, attribute] = bind("sort", call, [
    ...["reverse?", "case_sensitive?", "attribute?"],
  ]);
  const getters =
    typeof attribute === "string"
      ? attribute.split(",").map((one) => getter(one, context))
      : [getter(attribute, context)];
  const prepare = (item: Value) => (isTrue(caseSensitive) ? item : fold(item));
  const keyed = listOf(value, context.budget).map((item) => ({ item, keys: getters.map((get) => prepare(get(item))) }));
  context.budget.step(keyed.length * 8);
  const sign = isTrue(reverse) ? -1 : 1;
  keyed.sort((a, b) => {
    for (const [i, key] of a.keys.entries()) {
      const difference = order(key, b.keys[i] as Value);
      if (difference !== 0) return difference * sign;
    }
    return 0;
  });
  return keyed.map(({ item }) => item);
};

const groupby: Filter = (value, call, context) => {
  const [attribute, fallback, caseSensitive = false] = bind("groupby", call, [
    ...["attribute", "default?", "case_sensitive?"],
  ]);
  const get = getter(attribute, context, fallback);
  const keyOf = (item: Value) => (isTrue(caseSensitive) ? get(item) : fold(get(item)));
  const items = [...listOf(value, context.budget)].sort((a, b) => order(keyOf(a), keyOf(b)));
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of items) {
    const last = groups.at(-1);
    if (last !== undefined && order(keyOf(last.items[0] as Value), keyOf(item)) === 0) last.items.push(item);
    else groups.push({ key: get(item), items: [item] });
  }
  return groups.map(({ key, items: members }) => new Tuple([key, members], ["grouper", "list"]));
};

const unique: Filter = (value, call, context) => {
  const [caseSensitive = false, attribute] = bind("unique", call, ["case_sensitive?", "attribute?"]);
  const get = getter(attribute, context);
  const pick = function* () {
    const seen = new Set<unknown>();
    for (const item of counted(iterate(value), context)) {
      const key = hashKey(isTrue(caseSensitive) ? get(item) : fold(get(item)));
      if (!seen.has(key)) yield item;
      seen.add(key);
    }
  };
  return lazily(pick);
};

function extreme(sign: 1 | -1): Filter {
  return (value, call, context) => {
    const [caseSensitive = false, attribute] = bind("min", call, ["case_sensitive?", "attribute?"]);
    const get = getter(attribute, context);
    const keyOf = (item: Value) => (isTrue(caseSensitive) ? get(item) : fold(get(item)));
    let best: Value | undefined;
    for (const item of counted(iterate(value), context)) {
      if (best === undefined || order(keyOf(item), keyOf(best)) * sign < 0) best = item;
    }
    return orElse(best, () => new Undefined("No aggregated item, sequence was empty."));
  };
}

const join: Filter = (value, call, context) => {
  const [between = "", attribute] = bind("join", call, ["d?", "attribute?"]);
  const get = getter(attribute, context);
  const separator = toText(between);
  let joined = "";
  let first = true;
  for (const item of counted(iterate(value), context)) {
    const text = toText(get(item));
    joined += first ? text : separator + text;
    first = false;
    context.budget.text(text.length + separator.length);
    if (joined.length > context.budget.limits.textLength) context.budget.text(joined.length);
  }
  return joined;
};

const sum: Filter = (value, call, context) => {
  const [attribute, start = 0] = bind("sum", call, ["attribute?", "start?"]);
  const get = getter(attribute, context);
  let total: Value = start;
  for (const item of counted(iterate(value), context)) total = binary("+", total, get(item), context.budget);
  return total;
};

const first: Filter = (value, call) => {
  bind("first", call, []);
  for (const item of iterate(value)) return item;
  return new Undefined("No first item, sequence was empty.");
};

/** The items of what can be gone over backwards. */
function backwards(value: Value, context: FilterContext): Value[] {
  const isSequence =
    Array.isArray(value) || typeof value === "string" || value instanceof Tuple || value instanceof Range;
  const isMapping = value instanceof PyObject && (value.typeName === "dict" || value instanceof View);
  if (!isSequence && !isMapping && !(value instanceof Undefined)) {
    throw new TemplateError(`'${typeName(value)}' object is not reversible`);
  }
  return [...listOf(value, context.budget)].reverse();
}

const reverse: Filter = (value, call, context) => {
  bind("reverse", call, []);
  if (typeof value === "string") return Array.from(value).reverse().join("");
  if (value instanceof PyObject && value.typeName === "generator") return [...listOf(value, context.budget)].reverse();
  return new Generator(backwards(value, context), "list_reverseiterator");
};

const batch: Filter = (value, call, context) => {
  const [sizeValue, fill = null] = bind("batch", call, ["linecount", "fill_with?"]) as [Value, Value?];
  const size = integerOf(sizeValue, "linecount");
  const items = listOf(value, context.budget);
  const rows: Value[] = [];
  for (let i = 0; i < items.length; i += Math.max(1, size)) {
    const row = items.slice(i, i + Math.max(1, size));
    if (fill !== null) {
      context.budget.step(size - row.length);
      while (row.length < size) row.push(fill);
    }
    rows.push(row);
  }
  return new Generator(rows);
};

const slice: Filter = (value, call, context) => {
  const [countValue, fill = null] = bind("slice", call, ["slices", "fill_with?"]) as [Value, Value?];
  const count = integerOf(countValue, "slices");
  if (count <= 0) throw new TemplateError("slices must be at least 1");
  const items = listOf(value, context.budget);
  context.budget.step(count);
  const size = Math.floor(items.length / count);
  const larger = items.length % count;
  const rows: Value[] = [];
  let start = 0;
  for (let i = 0; i < count; i++) {
    const end = start + size + (i < larger ? 1 : 0);
    const row = items.slice(start, end);
    if (fill !== null && i >= larger) row.push(fill);
    rows.push(row);
    start = end;
  }
  return new Generator(rows);
};

export const listFilters: Record<string, Filter> = {
  batch,
  first,
  groupby,
  join,
  last: (value, call, context) => {
    bind("last", call, []);
    return orElse(backwards(value, context)[0], () => new Undefined("No last item, sequence was empty."));
  },
  list: (value, call, context) => {
    bind("list", call, []);
    return [...listOf(value, context.budget)];
  },
  map,
  max: extreme(-1),
  min: extreme(1),
  reject: selecting(false, false),
  rejectattr: selecting(true, false),
  reverse,
  select: selecting(false, true),
  selectattr: selecting(true, true),
  slice,
  sort,
  sum,
  unique,
};
