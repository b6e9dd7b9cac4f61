import type { AddRule, Node } from "./nodes.js";
import {
  type Decimal,
  type Interval,
  integer,
  integersWithin,
  multiples,
  number,
  numbersWithin,
  toDecimal,
} from "./numbers.js";
import { readNumber, refuse, type Schema } from "./schema_keywords.js";
import type { Spend } from "./work.js";

/** Most places of a bound and of `multipleOf`: sums and products with them are exact. */
const mostPlaces = 9;

/**
 * The numbers that the keywords of a schema leave.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT with the keyword and its path for what is not supported.
 */
export function numberNode(
  type: "number" | "integer",
  schema: Schema,
  path: string,
  addRule: AddRule,
  spend: Spend,
): Node {
  checkDigits(schema, path);
  const interval = readInterval(schema, path);
  const step = readDecimal(schema, "multipleOf", path);
  if (step === undefined) {
    if (interval === undefined) return type === "integer" ? integer : number;
    return type === "integer" ? integersWithin(interval) : numbersWithin(interval);
  }
  if (step.units <= 0) throw refuse(path, "multipleOf", "expected a number above 0");
  const divides = 10 ** step.places % step.units === 0;
  if (type === "integer" && step.places > 0 && !divides) {
    throw refuse(path, "multipleOf", "for integers only a whole number, or one that divides 1, is supported");
  }
  const own = type === "integer" && step.places > 0 ? { units: 1, places: 0 } : step;
  const node = multiples(own, interval ?? everything, addRule, spend);
  if (node === undefined) {
    const possible = "powers of ten, bounds that leave at most 2000 values, or no bounds and a whole number up to 100";
    throw refuse(path, "multipleOf", `only ${possible} are supported`);
  }
  return node;
}

const everything: Interval = {
  least: { units: -Infinity, places: 0 },
  most: { units: Infinity, places: 0 },
  isAbove: false,
  isBelow: false,
};

function readInterval(schema: Schema, path: string): Interval | undefined {
  const keywords = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"] as const;
  const bounds = keywords.map((keyword) => readDecimal(schema, keyword, path));
  const [minimum, above, maximum, below] = bounds;
  if (bounds.every((one) => one === undefined)) return undefined;
  const isAbove = isFirst(above, minimum, (one, other) => one >= other);
  const isBelow = isFirst(below, maximum, (one, other) => one <= other);
  return {
    least: (isAbove ? above : minimum) ?? everything.least,
    most: (isBelow ? below : maximum) ?? everything.most,
    isAbove,
    isBelow,
  };
}

/** Whether all bounds and steps are whole numbers of the smallest unit among them, exactly. */
function checkDigits(schema: Schema, path: string): void {
  const given = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"].filter(
    (keyword) => schema[keyword] !== undefined,
  );
  const decimals = given.map((keyword) => readDecimal(schema, keyword, path) as Decimal);
  const places = Math.max(...decimals.map((one) => one.places));
  const wrong = decimals.findIndex((one) => !Number.isSafeInteger(one.units * 10 ** (places - one.places)));
  if (wrong >= 0) throw refuse(path, given[wrong] as string, `with ${places} places it has too many digits`);
}

/** Whether the first of two bounds is the one that counts. */
function isFirst(
  one: Decimal | undefined,
  other: Decimal | undefined,
  compare: (one: number, other: number) => boolean,
): boolean {
  if (one === undefined || other === undefined) return one !== undefined;
  return compare(toNumber(one), toNumber(other));
}

function toNumber({ units, places }: Decimal): number {
  return units / 10 ** places;
}

function readDecimal(schema: Schema, keyword: string, path: string): Decimal | undefined {
  const value = readNumber(schema, keyword, path);
  if (value === undefined) return undefined;
  const decimal = toDecimal(value);
  if (decimal === undefined || decimal.places > mostPlaces) {
    throw refuse(
      path,
      keyword,
      `only a number of at most 16 digits, ${mostPlaces} of them behind the point, is supported`,
    );
  }
  return decimal;
}
