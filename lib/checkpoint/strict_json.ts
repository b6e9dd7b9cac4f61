import { isObject } from "../base/objects.js";
import { listed, quote } from "./errors.js";

/** Deeper than any header or index is. */
const kMaxDepth = 64;

/** A tensor takes about six: this is far more than any checkpoint has, and bounds time and memory. */
const kMaxValues = 2_000_000;

/** Why a text is not the JSON object that was expected. */
export class StrictJsonError extends Error {}

/**
 * The JSON object in `bytes`. Stricter than JSON.parse, which keeps the last of several equal keys and says nothing:
 * here they are an error, as is text that is not UTF-8.
 *
 * @throws StrictJsonError
 */
export function parseStrictJson(bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new StrictJsonError("is not valid UTF-8");
  }
  const duplicates = findDuplicateKeys(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new StrictJsonError(`is not valid JSON: ${quote((error as Error).message)}`);
  }
  if (duplicates.length > 0) throw new StrictJsonError(`names more than once: ${listed(duplicates.map(quote))}`);
  if (!isObject(value)) throw new StrictJsonError(`is ${kindOf(value)}, expected an object`);
  return value;
}

/**
 * Keys that an object of `text` has twice. The text need not be valid: then the answer does not matter, JSON.parse
 * refuses it afterwards.
 */
function findDuplicateKeys(text: string): string[] {
  const duplicates: string[] = [];
  // One entry for each open bracket: the keys so far for an object, null for an array.
  const open: (Set<string> | null)[] = [];
  let keyExpected = false;
  let values = 0;
  const count = () => {
    if (++values > kMaxValues) throw new StrictJsonError(`has more than ${kMaxValues} values`);
  };
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: {
        const end = endOfString(text, i);
        const keys = open.at(-1);
        if (keyExpected && keys) {
          const key = decodeString(text.slice(i, end));
          if (keys.has(key)) duplicates.push(key);
          keys.add(key);
        }
        keyExpected = false;
        i = end - 1;
        break;
      }
      case 0x7b: // {
      case 0x5b: // [
        count();
        if (open.length === kMaxDepth) throw new StrictJsonError(`is nested deeper than ${kMaxDepth} levels`);
        keyExpected = text.charCodeAt(i) === 0x7b;
        open.push(keyExpected ? new Set() : null);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        keyExpected = false;
        break;
      case 0x2c: // ,
        count();
        keyExpected = open.at(-1) instanceof Set;
        break;
    }
  }
  return duplicates;
}

/** One past the closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x5c) i++;
    else if (code === 0x22) return i + 1;
  }
  return text.length;
}

/** Equal keys may be spelled with different escapes. */
function decodeString(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return String(JSON.parse(literal));
  } catch {
    return literal;
  }
}

export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
