import { type Checked, describeRange, inRange, type NumberRange } from "../../base/rules.js";
import { readByteCount } from "../../base/text.js";
import { type Address, type DefaultPorts, readAddress, showAddress } from "./address.js";
import { whyNotExpression } from "./whole_match.js";

/** A kind of values: every source gives text, and a kind makes the value of it. */
export interface SettingKind<T> {
  /** What --help calls the value; empty for a flag without one. */
  placeholder: string;
  /** Type and range, for the documents. */
  words: string;
  read(text: string): Checked<T>;
  /** A list: as a flag it takes several values. */
  isList?: true;
  /** The value as people read it. Default: as JSON. */
  show?(value: T): string;
}

/** Longer waits than timers of Node take are none. */
const mostSeconds = 2_000_000;

const truths = new Map([
  ...["true", "1", "yes", "on"].map((word) => [word, true] as const),
  ...["false", "0", "no", "off"].map((word) => [word, false] as const),
]);

export const yesOrNo: SettingKind<boolean> = {
  placeholder: "",
  words: "true or false",
  read(text) {
    const value = truths.get(text.trim().toLowerCase());
    return value === undefined ? { expected: "true or false" } : { value };
  },
};

/** @param zeroIs The value to use for 0, which TorchServe's users write for "not set". */
export function integer(range: NumberRange, zeroIs?: number): SettingKind<number> {
  const check = inRange("integer", range);
  return {
    placeholder: " <n>",
    words: describeRange("integer", range),
    read(text) {
      const trimmed = text.trim();
      const value = /^[+-]?\d{1,15}$/.test(trimmed) ? Number(trimmed) : Number.NaN;
      return check(value === 0 && zeroIs !== undefined ? zeroIs : value);
    },
  };
}

export function seconds(range: NumberRange): SettingKind<number> {
  const bounded = { maximum: mostSeconds, ...range };
  const check = inRange("number", bounded);
  return {
    placeholder: " <s>",
    words: `seconds: ${describeRange("number", bounded)}`,
    read: (text) => check(/^[+-]?(\d+\.?\d*|\.\d+)$/.test(text.trim()) ? Number(text) : Number.NaN),
  };
}

/** A number of bytes, with a unit or without: 1000000, 512MB, 2GiB. */
export function bytes(range: NumberRange): SettingKind<number> {
  const check = inRange("integer", range);
  return {
    placeholder: " <bytes>",
    words: "bytes, such as `512MB` or `2GiB`",
    read(value) {
      const checked = check(readByteCount(value));
      return "expected" in checked ? { expected: `a number of bytes, such as 512MB: ${checked.expected}` } : checked;
    },
  };
}

export function text(placeholder: string, words: string): SettingKind<string> {
  return {
    placeholder: ` <${placeholder}>`,
    words,
    read: (value) => (value === "" || value.includes("\0") ? { expected: `${words}, not empty` } : { value }),
    show: (value) => value,
  };
}

/** Text that a pattern describes. */
export function pattern(placeholder: string, words: string, expression: RegExp): SettingKind<string> {
  return {
    placeholder: ` <${placeholder}>`,
    words,
    read: (value) =>
      expression.test(value.trim()) ? { value: value.trim() } : { expected: words.replaceAll("`", "") },
    show: (value) => value,
  };
}

/** Words, each with its value. */
export function words<T>(known: Readonly<Record<string, T>>, shown = Object.keys(known)): SettingKind<T> {
  return {
    placeholder: ` <${shown.join("|")}>`,
    words: shown.map((word) => `\`${word}\``).join(", "),
    read(value) {
      const word = value.trim().toLowerCase();
      return Object.hasOwn(known, word) ? { value: known[word] as T } : { expected: `one of ${shown.join(", ")}` };
    },
    show: String,
  };
}

export function choice<const T extends string>(choices: readonly T[]): SettingKind<T> {
  return words(Object.fromEntries(choices.map((one) => [one, one])) as Record<T, T>);
}

/** A list with commas, or of several values behind a flag. */
export function list(placeholder: string, words: string): SettingKind<readonly string[]> {
  return {
    placeholder: ` <${placeholder}...>`,
    words,
    isList: true,
    read: (value) => ({ value: splitList(value) }),
    show: (value) => value.join(", "),
  };
}

export function splitList(value: string): string[] {
  return value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

export function address(defaultPorts: DefaultPorts): SettingKind<Address> {
  return {
    placeholder: " <url>",
    words: "`http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`",
    read: (value) => readAddress(value.trim(), defaultPorts),
    show: showAddress,
  };
}

/** Regular expressions of which a whole URL must match one, without regard to case. */
export function expressions(placeholder: string): SettingKind<readonly string[]> {
  const words = "regular expressions with commas between";
  return {
    ...list(placeholder, words),
    read(value) {
      const sources = splitList(value);
      for (const [at, source] of sources.entries()) {
        const reason = whyNotExpression(source, { ignoresCase: true });
        if (reason !== undefined) return { expected: `${words}: ${reason}`, at };
      }
      return { value: sources };
    },
  };
}

/** A regular expression that a whole text must match. */
export function expression(placeholder: string): SettingKind<string> {
  const words = "a regular expression";
  return {
    ...text(placeholder, words),
    read(value) {
      const reason = value === "" ? "it is empty" : whyNotExpression(value, { ignoresCase: false });
      return reason === undefined ? { value } : { expected: `${words}: ${reason}` };
    },
  };
}

/** A JSON object. */
export function json(placeholder: string): SettingKind<Readonly<Record<string, unknown>>> {
  return {
    placeholder: ` <${placeholder}>`,
    words: "a JSON object",
    read(value) {
      try {
        const parsed: unknown = JSON.parse(value);
        if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed))
          return { value: parsed as Record<string, unknown> };
      } catch {
        // Said below.
      }
      return { expected: "a JSON object" };
    },
  };
}
