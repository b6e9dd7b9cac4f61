import { ShardspeedError } from "../base/errors.js";

/**
 * The elements of a JSON array, each as its bytes. The published file of ShareGPT is longer than a string of JavaScript can be, and of its
 * conversations few are used.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no array, or does not end.
 */
export function splitJsonArray(bytes: Buffer, where: string): Buffer[] {
  const fail = () => new ShardspeedError("ERR_INVALID_ARGUMENT", `${where} is no JSON array`);
  const elements: Buffer[] = [];
  let depth = 0;
  let start = -1;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number;
    if (byte === quote) {
      i = endOfString(bytes, i);
    } else if (byte === openBracket || byte === openBrace) {
      depth += 1;
      if (depth === 1) {
        if (byte !== openBracket || start >= 0) throw fail();
        start = i + 1;
      }
    } else if (byte === closeBracket || byte === closeBrace) {
      depth -= 1;
      if (depth > 0) continue;
      const last = bytes.subarray(start, i);
      if (depth < 0 || start < 0) throw fail();
      if (elements.length > 0 || last.toString("latin1").trim() !== "") elements.push(last);
      return elements;
    } else if (byte === comma && depth === 1) {
      elements.push(bytes.subarray(start, i));
      start = i + 1;
    }
  }
  throw fail();
}

const [quote, backslash, comma, openBracket, closeBracket, openBrace, closeBrace] = [...'"\\,[]{}'].map((character) =>
  character.charCodeAt(0),
) as [number, number, number, number, number, number, number];

function endOfString(bytes: Buffer, start: number): number {
  for (let end = start + 1; end < bytes.length; end++) {
    if (bytes[end] === backslash) end += 1;
    else if (bytes[end] === quote) return end;
  }
  return bytes.length;
}
