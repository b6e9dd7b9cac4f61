/** What JSON has no form for: a function, a bigint, a cycle, an object that shows nothing of what it holds. */
export class NotJson extends Error {
  constructor(what: string) {
    super(`${what} has no form in JSON`);
    this.name = "NotJson";
  }
}

/**
 * JSON in the form of Python's `json.dumps`: a space after `:` (and after `,` where all is on one line), characters beyond ASCII escaped.
 * What JavaScript has and Python has not: undefined is written as null, a typed array of numbers as an array, `toJSON()` is heeded, and
 * numbers that are not finite are null, as in JSON.stringify: Python's `NaN` is no JSON.
 *
 * @param indent Spaces for each level; undefined: all on one line.
 * @throws NotJson
 */
export function pythonJson(value: unknown, indent?: number): string {
  return write(value, { indent, level: 0, around: new Set() });
}

interface Place {
  indent: number | undefined;
  level: number;
  /** The objects that the value is in. */
  around: Set<object>;
}

function write(value: unknown, place: Place): string {
  if (value === undefined || value === null) return "null";
  if (typeof value === "number" || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "string") return writeString(value);
  if (typeof value !== "object") throw new NotJson(`A ${typeof value}`);
  if (place.around.has(value)) throw new NotJson("An object that holds itself");
  place.around.add(value);
  const text = writeObject(value, { ...place, level: place.level + 1 });
  place.around.delete(value);
  return text;
}

function writeObject(value: object, place: Place): string {
  if (Buffer.isBuffer(value)) throw new NotJson("A Buffer inside of another value");
  if (Array.isArray(value))
    return enclose(
      "[",
      Array.from(value, (item) => write(item, place)),
      "]",
      place,
    );
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    const numbers = Array.from(value as unknown as ArrayLike<number | bigint>, (item) => write(item, place));
    return enclose("[", numbers, "]", place);
  }
  if ("toJSON" in value && typeof value.toJSON === "function") return write(value.toJSON(), place);
  const entries = Object.entries(value);
  const prototype: unknown = Object.getPrototypeOf(value);
  const isPlain = prototype === null || prototype === Object.prototype || isObjectOfAnotherRealm(prototype);
  if (entries.length === 0 && !isPlain) {
    throw new NotJson(`An object of ${(value.constructor?.name ?? "") || "a nameless class"} without fields`);
  }
  return enclose(
    "{",
    entries.map(([key, item]) => `${writeString(key)}: ${write(item, place)}`),
    "}",
    place,
  );
}

function isObjectOfAnotherRealm(prototype: unknown): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, "hasOwnProperty");
}

function enclose(open: string, items: readonly string[], close: string, { indent, level }: Place): string {
  if (items.length === 0) return open + close;
  if (indent === undefined) return open + items.join(", ") + close;
  const line = `\n${" ".repeat(indent * level)}`;
  return `${open}${line}${items.join(`,${line}`)}\n${" ".repeat(indent * (level - 1))}${close}`;
}

function writeString(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
