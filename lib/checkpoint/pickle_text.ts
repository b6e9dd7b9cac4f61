import { simpleEscapes } from "../base/python_escapes.js";
import { pickleLimits } from "./pickle_machine.js";
import { PickleError } from "./pickle_values.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new PickleError("has a string that is not valid UTF-8");
  }
}

/** A string as Python 2 wrote it: UTF-8 as torch.load takes it, bytes where it is not. */
export function decodeText(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return bytes.toString("latin1");
  }
}

/** A little-endian two's complement integer of any length: a number where that is exact. */
export function decodeInteger(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0;
  let value = BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
  if ((bytes.at(-1) as number) >= 0x80) value -= 1n << BigInt(8 * bytes.length);
  return exact(value);
}

/** A decimal integer, as protocol 0 writes it. */
export function parseInteger(text: string): number | bigint {
  if (text.length > pickleLimits.integerBytes || !/^\s*[+-]?\d+\s*$/.test(text)) {
    throw new PickleError("has an integer that is not a number");
  }
  const digits = text.trim();
  return exact(digits.startsWith("-") ? -BigInt(digits.slice(1)) : BigInt(digits.replace("+", "")));
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** The bytes of a quoted Python literal, as protocol 0 writes strings. */
export function decodeEscapes(literal: string): Buffer {
  const quoted = literal.trim();
  const mark = quoted[0];
  if (quoted.length < 2 || (mark !== "'" && mark !== '"') || !quoted.endsWith(mark)) {
    throw new PickleError("has a string without quotes");
  }
  const text = quoted
    .slice(1, -1)
    .replace(
      /\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))/gs,
      (whole: string, hex: string | undefined, octal: string | undefined, letter: string | undefined) => {
        if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
        if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
        return simpleEscapes[letter as string] ?? whole;
      },
    );
  return Buffer.from(text, "latin1");
}

/** Python's raw-unicode-escape, as protocol 0 writes unicode strings. */
export function decodeRawUnicode(text: string): string {
  return text.replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (whole: string, short?: string, long?: string) => {
    const point = Number.parseInt((short ?? long) as string, 16);
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}
