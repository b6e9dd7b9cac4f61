import { bind } from "./arguments.js";
import type { Budget } from "./budget.js";
import { TemplateError } from "./budget.js";
import { isFilter } from "./filters.js";
import type { CompareOperator } from "./nodes.js";
import { binary, compare } from "./operators.js";
import {
  type Arguments,
  Callable,
  Dict,
  Float,
  isEqual,
  numberOf,
  PyObject,
  Range,
  Tuple,
  toText,
  Undefined,
  type Value,
} from "./values.js";

type Test = (value: Value, call: Arguments, budget: Budget) => boolean;

/** A test without parameters. */
function plain(test: (value: Value) => boolean): Test {
  return (value, call) => {
    bind("the test", call, []);
    return test(value);
  };
}

function comparing(operator: CompareOperator): Test {
  return (value, call, budget) => compare(operator, value, bind("the test", call, ["other"])[0] as Value, budget);
}

function isRest(rest: number): Test {
  return (value, call, budget) => {
    bind("the test", call, []);
    return isEqual(binary("%", value, 2, budget), rest);
  };
}

const isString = (value: Value) => typeof value === "string";
const isIterable = (value: Value) =>
  isString(value) || Array.isArray(value) || (value instanceof PyObject && value.iterate() !== undefined);

const tests = new Map<string, Test>(
  Object.entries({
    boolean: plain((value) => typeof value === "boolean"),
    callable: plain((value) => value instanceof Callable || value instanceof Undefined),
    defined: plain((value) => !(value instanceof Undefined)),
    undefined: plain((value) => value instanceof Undefined),
    divisibleby: (value: Value, call: Arguments, budget: Budget) =>
      isEqual(binary("%", value, bind("divisibleby", call, ["num"])[0] as Value, budget), 0),
    escaped: plain(() => false),
    even: isRest(0),
    odd: isRest(1),
    false: plain((value) => value === false),
    true: plain((value) => value === true),
    filter: plain((value) => typeof value === "string" && isFilter(value)),
    test: plain((value) => typeof value === "string" && isTest(value)),
    float: plain((value) => value instanceof Float),
    integer: plain((value) => typeof value === "number"),
    number: plain((value) => numberOf(value) !== undefined),
    iterable: plain(isIterable),
    lower: plain((value) => isCased(toText(value), (text) => text.toLowerCase())),
    upper: plain((value) => isCased(toText(value), (text) => text.toUpperCase())),
    mapping: plain((value) => value instanceof Dict),
    none: plain((value) => value === null),
    sameas: (value: Value, call: Arguments) => value === bind("sameas", call, ["other"])[0],
    sequence: plain(
      (value) =>
        isString(value) || Array.isArray(value) || [Tuple, Dict, Range, Undefined].some((one) => value instanceof one),
    ),
    string: plain(isString),
    in: comparing("in"),
    eq: comparing("=="),
    equalto: comparing("=="),
    "==": comparing("=="),
    ne: comparing("!="),
    "!=": comparing("!="),
    lt: comparing("<"),
    lessthan: comparing("<"),
    "<": comparing("<"),
    le: comparing("<="),
    "<=": comparing("<="),
    gt: comparing(">"),
    greaterthan: comparing(">"),
    ">": comparing(">"),
    ge: comparing(">="),
    ">=": comparing(">="),
  }),
);

/** str.islower() and isupper(): there are letters with case, and all are of it. */
function isCased(text: string, fold: (text: string) => string): boolean {
  return /[\p{Lu}\p{Ll}\p{Lt}]/u.test(text) && fold(text) === text;
}

function isTest(name: string): boolean {
  return tests.has(name);
}

export function applyTest(name: string, value: Value, call: Arguments, budget: Budget): boolean {
  const test = tests.get(name);
  if (test === undefined) throw new TemplateError(`No test named '${name}'.`);
  return test(value, call, budget);
}
