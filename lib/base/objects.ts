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
