import { bind, integerOf, textOf } from "./arguments.js";
import { type Budget, TemplateError } from "./budget.js";
import { Cycler, createJoiner } from "./loop.js";
import { strftime } from "./strftime.js";
import { type Arguments, Callable, Dict, iterate, Namespace, orElse, Range, toText, type Value } from "./values.js";

/** What the sandbox of Jinja2 allows. */
const longestRange = 100_000;

/** The functions that every template has, transformers' own among them. */
export function createGlobals(budget: Budget): Map<string, Value> {
  const functions: Record<string, (call: Arguments) => Value> = {
    range: createRange,
    dict: (call) => new Dict(readEntries(call)),
    namespace: (call) =>
      new Namespace(new Map(Array.from(readEntries(call), ([name, value]) => [toText(name), value]))),
    cycler: ({ positional }) => new Cycler(positional),
    joiner: (call) => createJoiner(orElse(bind("joiner", call, ["sep?"])[0], () => ", ")),
    raise_exception: (call) => {
      throw new TemplateError(toText(bind("raise_exception", call, ["message"])[0] as Value));
    },
    strftime_now: (call) => {
      const format = textOf(bind("strftime_now", call, ["format"])[0] as Value, "the format");
      budget.text(format.length * 16);
      return strftime(new Date(), format);
    },
  };
  return new Map(Object.entries(functions).map(([name, call]) => [name, new Callable(name, call)]));
}

function createRange(call: Arguments): Range {
  const given = bind("range", call, ["start", "stop?", "step?"]).map((value) =>
    value === undefined ? undefined : integerOf(value, "range"),
  );
  const [first = 0, second, step = 1] = given;
  if (step === 0) throw new TemplateError("range() arg 3 must not be zero");
  const range = second === undefined ? new Range(0, first, 1) : new Range(first, second, step);
  if (range.length > longestRange) {
    throw new TemplateError(`Range too big. The sandbox blocks ranges larger than MAX_RANGE=${longestRange}.`);
  }
  return range;
}

/** The arguments of dict(): a dict or pairs, then names. */
function* readEntries({ positional: [first], named }: Arguments): Iterable<readonly [Value, Value]> {
  if (first instanceof Dict) {
    yield* first.entries();
  } else if (first !== undefined) {
    for (const pair of iterate(first)) {
      const [key, value, ...rest] = iterate(pair);
      if (key === undefined || value === undefined || rest.length > 0) throw new TemplateError("dict() needs pairs");
      yield [key, value];
    }
  }
  yield* named;
}
