import {
  type AddRule,
  characters,
  choice,
  digit,
  type Node,
  nothing,
  oneOf,
  optional,
  repeat,
  sequence,
  text,
} from "./nodes.js";
import type { Spend } from "./work.js";

/** Most digits before the point, so that no model writes digits for ever and a number stays finite. */
const mostDigits = 18;
const nonZero = characters([[0x31, 0x39]]);
/** Without a sign. */
const natural = choice(text("0"), sequence(nonZero, repeat(0, mostDigits - 1, digit)));
const sign = optional(text("-"));
export const integer = sequence(sign, natural);
export const number = sequence(
  sign,
  natural,
  optional(sequence(text("."), repeat(1, 16, digit))),
  optional(
    sequence(
      characters([
        [0x45, 0x45],
        [0x65, 0x65],
      ]),
      optional(
        characters([
          [0x2b, 0x2b],
          [0x2d, 0x2d],
        ]),
      ),
      repeat(1, 2, digit),
    ),
  ),
);

/** A decimal number as `units` times 10 to the power of minus `places`. Infinite units have no places. */
export interface Decimal {
  units: number;
  places: number;
}

/** The decimal number that stands for a number in JSON; undefined where its digits are too many for exact arithmetic. */
export function toDecimal(value: number): Decimal | undefined {
  const [, whole = "", fraction = ""] = /^(-?\d+)(?:\.(\d+))?$/.exec(String(value)) ?? [];
  const units = Number(whole + fraction);
  return whole !== "" && Number.isSafeInteger(units) ? { units, places: fraction.length } : undefined;
}

/** Numbers from `least` to `most`, each of which may be infinite or excluded. */
export interface Interval {
  least: Decimal;
  most: Decimal;
  /** Whether the ends themselves are out. */
  isAbove: boolean;
  isBelow: boolean;
}

/** The first and the last whole number of units of 10 to the power of minus `places` in the interval. */
export function unitsWithin(interval: Interval, places: number): [first: number, last: number] {
  const [least, most] = [rescale(interval.least, places), rescale(interval.most, places)];
  const first = interval.isAbove ? Math.floor(least) + 1 : Math.ceil(least);
  const last = interval.isBelow ? Math.ceil(most) - 1 : Math.floor(most);
  return [first, last];
}

function rescale({ units, places }: Decimal, wanted: number): number {
  // Exact: who reads bounds takes only those that stay safe integers here, and a quotient of such never rounds to a whole
  // number.
  return wanted >= places ? units * 10 ** (wanted - places) : units / 10 ** (places - wanted);
}

/** Integers of an interval. */
export function integersWithin(interval: Interval): Node {
  return signed(...unitsWithin(interval, 0), (from, to) => digits(from, to, 0));
}

/**
 * Numbers of an interval without exponents: with as many places as its bounds have, or up to 6 more, as far as adding
 * them to a bound is exact.
 */
export function numbersWithin(interval: Interval): Node {
  const { least, most } = interval;
  const places = Math.max(least.places, most.places);
  const parts = withPlaces(interval, places);
  const [low, high] = [rescale(least, places), rescale(most, places)];
  const longest = Math.max(...[low, high].filter(Number.isFinite).map((bound) => String(Math.abs(bound)).length));
  const more = Math.min(6, 15 - longest);
  if (more > 0) {
    const fraction = sequence(...(places === 0 ? [text(".")] : []), repeat(0, more - 1, digit), nonZero);
    // A fraction behind units that are below a bound stays below it.
    if (high > 0) parts.push(sequence(digits(Math.max(low, 0), high - 1, places), fraction));
    if (low < 0) parts.push(sequence(text("-"), digits(Math.max(-high, 0), -low - 1, places), fraction));
  }
  return choice(...parts);
}

/** Numbers of an interval that have at most so many places. */
function withPlaces(interval: Interval, places: number): Node[] {
  return Array.from({ length: places + 1 }, (_, own) =>
    signed(...unitsWithin(interval, own), (from, to) => digits(from, to, own)),
  );
}

function signed(first: number, last: number, make: (from: number, to: number) => Node): Node {
  const parts: Node[] = [];
  if (last >= 0) parts.push(make(Math.max(first, 0), last));
  if (first < 0) parts.push(sequence(text("-"), make(Math.max(-last, 1), -first)));
  return choice(...parts);
}

/** Most multiples that are listed one by one, and the largest divisor of an automaton by remainders. */
const mostListed = 2000;
const largestDivisor = 100;
/** Most digits of a multiple: with more it is no multiple any more once it is read as a double. */
const exactDigits = 15;

/**
 * Multiples of a positive number in an interval, of up to 15 digits; undefined where they are too many to be listed and no
 * plainer rule tells them.
 *
 * @param addRule Adds a rule, whose body may call it.
 */
export function multiples(step: Decimal, interval: Interval, addRule: AddRule, spend: Spend): Node | undefined {
  const { units, places } = step;
  const zeros = /0*$/.exec(String(units))?.[0].length ?? 0;
  const exact = withinDigits(interval, Math.max(places, interval.least.places, interval.most.places));
  if (units === 10 ** zeros && places > 0) return choice(...withPlaces(exact, places));
  const [first, last] = factorsWithin(step, exact);
  if (units === 10 ** zeros) {
    return signed(first, last, (from, to) => {
      const some = sequence(digits(Math.max(from, 1), to, 0), text("0".repeat(zeros)));
      return from === 0 ? choice(text("0"), some) : some;
    });
  }
  if (last - first < mostListed) {
    spend(Math.max(0, last - first + 1) * 10);
    const all = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * units);
    return oneOf(all.map((value) => spell(value, places)));
  }
  const [lowest, highest] = factorsWithin(step, interval);
  if (highest !== Infinity || ![-Infinity, 0, 1].includes(lowest)) return undefined;
  const minus = lowest === -Infinity ? sign : nothing;
  if (places === 0) {
    return units > largestDivisor ? undefined : sequence(minus, byRemainder(units, lowest === 1, addRule, spend));
  }
  const one = 10 ** places;
  if (one % units !== 0 || one / units > mostListed || lowest === 1) return undefined;
  spend((one / units) * 10);
  const fractions = Array.from({ length: one / units - 1 }, (_, i) => spell((i + 1) * units, places).slice(1));
  return sequence(minus, digits(0, 10 ** (exactDigits - places) - 1, 0), optional(oneOf(fractions)));
}

/** The part of an interval whose numbers have at most 15 digits, so many of them behind the point. */
function withinDigits(interval: Interval, places: number): Interval {
  const units = 10 ** exactDigits - 1;
  const [least, most] = [rescale(interval.least, places), rescale(interval.most, places)];
  return {
    ...interval,
    ...(least < -units && { least: { units: -units, places }, isAbove: false }),
    ...(most > units && { most: { units, places }, isBelow: false }),
  };
}

/** The first and the last factor of a step in an interval. */
function factorsWithin(step: Decimal, { least, most, isAbove, isBelow }: Interval): [first: number, last: number] {
  const places = Math.max(step.places, least.places, most.places);
  const [low, high] = [least, most].map((one) => rescale(one, places) / rescale(step, places)) as [number, number];
  return [isAbove ? Math.floor(low) + 1 : Math.ceil(low), isBelow ? Math.ceil(high) - 1 : Math.floor(high)];
}

function spell(units: number, places: number): string {
  if (places === 0) return String(units);
  const all = String(Math.abs(units)).padStart(places + 1, "0");
  const fraction = all.slice(-places).replace(/0+$/, "");
  return `${units < 0 ? "-" : ""}${all.slice(0, -places)}${fraction === "" ? "" : `.${fraction}`}`;
}

/** Natural numbers that a divisor divides, by the remainder of the digits so far. */
function byRemainder(divisor: number, isPositive: boolean, addRule: AddRule, spend: Spend): Node {
  const rules = new Map<number, Node>();
  const next = (remainder: number, from: number, left: number): Node[] =>
    Array.from({ length: 10 - from }, (_, i) =>
      sequence(text(String(from + i)), behind((10 * remainder + from + i) % divisor, left - 1)),
    );
  const behind = (remainder: number, left: number): Node => {
    const key = remainder * exactDigits + left;
    const known = rules.get(key);
    if (known !== undefined) return known;
    spend(30);
    return addRule((self) => {
      rules.set(key, self);
      const more = left > 0 ? next(remainder, 0, left) : [];
      return choice(...(remainder === 0 ? [nothing] : []), ...more);
    });
  };
  return choice(...(isPositive ? [] : [text("0")]), ...next(0, 1, exactDigits));
}

/** Digits of the whole numbers from `least` to `most`, with the point so many places before their end. */
function digits(least: number, most: number, places: number): Node {
  if (least > most) return choice();
  const pad = (value: number) => String(value).padStart(places + 1, "0");
  const [shortest, longest] = [pad(least).length, Number.isFinite(most) ? pad(most).length : mostDigits + places];
  const parts: Node[] = [];
  for (let length = shortest; length <= longest; length++) {
    const low = length === shortest ? pad(least) : `1${"0".repeat(length - 1)}`;
    const high = Number.isFinite(most) && length === longest ? pad(most) : "9".repeat(length);
    parts.push(sameLength(low, high, places));
  }
  return choice(...parts);
}

/** Digits from `low` to `high`, which have equally many. */
function sameLength(low: string, high: string, places: number): Node {
  const [first, last] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const point = places > 0 && lowRest.length === places ? [text(".")] : [];
  const one = (from: number, to: number) => sequence(characters([[0x30 + from, 0x30 + to]]), ...point);
  if (lowRest === "") return one(first, last);
  const [zeros, nines] = ["0".repeat(lowRest.length), "9".repeat(lowRest.length)];
  if (first === last) return sequence(one(first, first), sameLength(lowRest, highRest, places));
  const parts: Node[] = [];
  const from = lowRest === zeros ? first : first + 1;
  const to = highRest === nines ? last : last - 1;
  if (from !== first) parts.push(sequence(one(first, first), sameLength(lowRest, nines, places)));
  if (from <= to) parts.push(sequence(one(from, to), anyDigits(lowRest.length, places)));
  if (to !== last) parts.push(sequence(one(last, last), sameLength(zeros, highRest, places)));
  return choice(...parts);
}

function anyDigits(count: number, places: number): Node {
  const some = (length: number) => repeat(length, length, digit);
  return count > places && places > 0 ? sequence(some(count - places), text("."), some(places)) : some(count);
}
