import { readFile } from "node:fs/promises";
import { type ErrorCode, ShardspeedError } from "./errors.js";

/** An object as JSON has it. */
export type JsonObject = { [key: string]: unknown };

/** Whether a value is an object with keys: neither null nor an array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Of values that did not come from JSON: an object with keys, and no Map, Date, Promise or URL, which would read as one without any. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === "[object Object]";
}

/** @throws ShardspeedError `code`: "<where> is not JSON: line 3, column 5: ...". */
export function parseJson(text: string, where: string, code: ErrorCode): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ShardspeedError(code, `${where} is not JSON: ${describeJsonError(text, error)}`, { cause: error });
  }
}

/**
 * A file's text, without the byte order mark that some editors write; undefined where there is no such file.
 *
 * @throws ShardspeedError `code` for a file that is there and cannot be read.
 */
export async function readTextIfThere(path: string, code: ErrorCode): Promise<string | undefined> {
  try {
    const text = await readFile(path, "utf8");
    return text.startsWith("\uFEFF") ? text.slice(1) : text;
  } catch (error) {
    const { code: reason, message } = error as NodeJS.ErrnoException;
    if (reason === "ENOENT" || reason === "ENOTDIR") return undefined;
    throw new ShardspeedError(code, `Cannot read ${path}: ${message}`, { cause: error });
  }
}

/**
 * The JSON object in a file; undefined where there is no such file.
 *
 * @throws ShardspeedError `code` for a file that cannot be read, is not JSON or holds something else than an object.
 */
export async function readJsonObject(path: string, code: ErrorCode): Promise<JsonObject | undefined> {
  const text = await readTextIfThere(path, code);
  if (text === undefined) return undefined;
  const value = parseJson(text, path, code);
  if (!isObject(value)) throw new ShardspeedError(code, `${path} holds no JSON object`);
  return value;
}

/** What JSON.parse had against a text, with line and column: V8 gives a position with some of its messages only. */
export function describeJsonError(text: string, error: unknown): string {
  const message = (error as Error).message;
  const position = Math.min(positionIn(message) ?? findPosition(text), text.length);
  const before = text.slice(0, position).split("\n");
  const column = (before.at(-1) as string).length + 1;
  return `line ${before.length}, column ${column}: ${message.replace(/ in JSON at position \d+.*$/s, "").replace(/^(Unexpected token '.+?'), .*$/su, "$1")}`;
}

function positionIn(message: string): number | undefined {
  const match = /at position (\d+)/.exec(message);
  return match === null ? undefined : Number(match[1]);
}

/** The first character that no continuation could make valid: the shortest beginning that fails for more than its end. */
function findPosition(text: string): number {
  let good = 0;
  let bad = text.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (failsBeforeEnd(text.slice(0, middle))) bad = middle;
    else good = middle;
  }
  return bad - 1;
}

function failsBeforeEnd(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch (error) {
    const { message } = error as Error;
    const position = positionIn(message);
    return position === undefined
      ? message.startsWith("Unexpected token")
      : position < text.length && !message.startsWith("Unterminated");
  }
}
