import { randomUUID } from "node:crypto";

/**
 * The quotes of strings, escaped characters, and the three words where they are not part of a longer one. Not whole strings: of a long one a
 * pattern needs more memory than it may have, and of one without an end as many attempts as it has quotes.
 */
const quoteOrWord = /"|\\.|-Infinity\b|\b(?:NaN|Infinity)\b/gs;

const numbers: ReadonlyMap<unknown, number> = new Map([
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
]);

/**
 * As JSON.parse, and NaN, Infinity and -Infinity are numbers: Python's json module writes them for floats that JSON has no form for, and reads
 * them. config.json files and requests have them.
 *
 * @throws SyntaxError, that of JSON.parse.
 */
export function parseLenientJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
    return parseWithWords(text, error);
  }
}

/** The words become arrays that nobody else can have written, and those become numbers: JSON.parse has no form for NaN. */
function parseWithWords(text: string, error: unknown): unknown {
  const mark = randomUUID();
  let isInString = false;
  const marked = text.replace(quoteOrWord, (found) => {
    if (found === '"') isInString = !isInString;
    return isInString || !numbers.has(found) ? found : `["${mark}","${found}"]`;
  });
  const root: { value?: unknown } = {};
  try {
    root.value = JSON.parse(marked);
  } catch {
    throw error;
  }
  // A list and no recursion: a stranger's text may be nested deeper than the call stack is.
  const open: object[] = [root];
  for (let one = open.pop(); one !== undefined; one = open.pop()) {
    for (const [key, value] of Object.entries(one) as [string, unknown][]) {
      if (Array.isArray(value) && value[0] === mark) replace(one, key, numbers.get(value[1]));
      else if (typeof value === "object" && value !== null) open.push(value);
    }
  }
  return root.value;
}

/** Sets a property that is there: assigning to one with the name __proto__ would do something else. */
function replace(object: object, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}
