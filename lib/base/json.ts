import { type ErrorCode, ShardspeedError } from "./errors.js";
import { parseLenientJson } from "./lenient_json.js";
import { isObject, type JsonObject } from "./objects.js";
import { decodeText, type FileRules, readRegularFile } from "./regular_file.js";

/** As deep as Python's reader goes. What follows here may then be recursive: copies, comparisons, messages. */
const mostLevels = 1000;

/** @throws ShardspeedError `code`: "<where> is not JSON: line 3, column 5: ...". */
export function parseJson(text: string, where: string, code: ErrorCode): unknown {
  let value: unknown;
  try {
    value = parseLenientJson(text);
  } catch (error) {
    throw new ShardspeedError(code, `${where} is not JSON: ${describeJsonError(text, error)}`, { cause: error });
  }
  if (isDeeperThan(text, mostLevels)) {
    throw new ShardspeedError(code, `${where} is nested deeper than ${mostLevels} levels`);
  }
  return value;
}

/** Whether the brackets of a text that is JSON go deeper. */
function isDeeperThan(text: string, levels: number): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x22) i = endOfString(text, i);
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > levels) return true;
    } else if (code === 0x5d || code === 0x7d) depth -= 1;
  }
  return false;
}

/** The closing quote of the string that begins at `start`: one behind an even number of backslashes. */
function endOfString(text: string, start: number): number {
  for (let end = start; ; ) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes += 1;
    if (slashes % 2 === 0) return end;
  }
}

/**
 * A file's text, without the byte order mark that some editors write; undefined where there is no such file.
 *
 * @throws ShardspeedError `code` for what is there and is no regular file, is too long or cannot be read; ERR_ABORTED.
 */
export async function readTextIfThere(path: string, rules: FileRules): Promise<string | undefined> {
  const bytes = await readRegularFile(path, rules);
  return bytes === undefined ? undefined : decodeText(bytes);
}

/**
 * The JSON object in a file; undefined where there is no such file.
 *
 * @throws ShardspeedError `code` for a file that cannot be read, is not JSON or holds something else than an object.
 */
export async function readJsonObject(path: string, rules: FileRules): Promise<JsonObject | undefined> {
  const text = await readTextIfThere(path, rules);
  if (text === undefined) return undefined;
  const value = parseJson(text, path, rules.code);
  if (!isObject(value)) throw new ShardspeedError(rules.code, `${path} holds no JSON object`);
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
