import type { JsonObject } from "../../base/objects.js";

export type { JsonObject } from "../../base/objects.js";

/** A part of a tokenizer.json by its name, for messages. */
export function objectOf(value: unknown, what: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new Error(`${what} is no object`);
}

export function arrayOf(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new Error(`${what} is no array`);
}

export function stringOf(value: unknown, what: string): string {
  if (typeof value === "string") return value;
  throw new Error(`${what} is no string`);
}

/** The members of a Sequence, one inside of another opened up. */
export function flattenSequence(value: unknown, key: string, what: string, depth = 0): JsonObject[] {
  if (value === null || value === undefined) return [];
  if (depth > 20) throw new Error(`${what} is nested too deep`);
  const part = objectOf(value, what);
  if (part.type !== "Sequence") return [part];
  return arrayOf(part[key], `${what}.${key}`).flatMap((inner) => flattenSequence(inner, key, what, depth + 1));
}
