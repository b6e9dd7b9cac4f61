import { ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";

export type Schema = Record<string, unknown>;

const byType = {
  object: [
    ...["properties", "required", "additionalProperties", "unevaluatedProperties"],
    ...["patternProperties", "propertyNames", "minProperties", "maxProperties"],
  ],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
} as const;
const general = ["type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"];
/** They say nothing about a value. */
const annotations = [
  ...["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"],
  ...["$id", "$anchor", "$defs", "definitions", "strict", "contentMediaType", "contentEncoding", "contentSchema"],
  // Of OpenAPI, as libraries write them.
  ...["discriminator", "example", "externalDocs"],
];
const assertions: readonly string[] = [...general, ...Object.values(byType).flat()];

/** What stands for a type of its own in a grammar. */
export const types = ["object", "array", "string", "number", "integer", "boolean", "null"] as const;
export type Type = (typeof types)[number];

export function refuse(path: string, keyword: string, why: string): ShardspeedError {
  return new ShardspeedError("ERR_INVALID_ARGUMENT", `The schema's ${path}/${keyword} cannot be used: ${why}`);
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for a keyword that is not supported. */
export function checkKeywords(schema: Schema, path: string): void {
  for (const keyword of Object.keys(schema)) {
    if (isAssertion(keyword) || annotations.includes(keyword) || keyword.startsWith("x-")) continue;
    throw refuse(path, keyword, "this keyword is not supported");
  }
  if (schema.uniqueItems === true) throw refuse(path, "uniqueItems", "true is not supported");
}

/** The keywords of a schema that say something about a value. */
export function assertionsOf(schema: Schema): string[] {
  return Object.keys(schema).filter(isAssertion);
}

/** Whether a keyword says something about a value. */
export function isAssertion(keyword: string): boolean {
  return assertions.includes(keyword);
}

/** The types that a schema allows: those it names, else those that its keywords are for, else all. */
export function typesOf(schema: Schema, path: string): readonly Type[] {
  const { type } = schema;
  if (type !== undefined) {
    const named: unknown[] = Array.isArray(type) ? type : [type];
    const unknown = named.find((one) => !(types as readonly unknown[]).includes(one));
    if (unknown !== undefined || named.length === 0) throw refuse(path, "type", `expected one of ${types.join(", ")}`);
    return named as Type[];
  }
  const meant = (Object.keys(byType) as (keyof typeof byType)[]).filter((one) =>
    byType[one].some((keyword) => schema[keyword] !== undefined),
  );
  return meant.length > 0 ? meant : types.filter((one) => one !== "integer");
}

export function readCount(schema: Schema, keyword: string, path: string, unset: number): number {
  const value = schema[keyword];
  if (value === undefined) return unset;
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 1e9) {
    throw refuse(path, keyword, "expected a whole number of at least 0");
  }
  return value as number;
}

export function readNumber(schema: Schema, keyword: string, path: string): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isFinite(value)) throw refuse(path, keyword, "expected a number");
  return value;
}

export function readSchema(value: unknown, path: string): Schema | boolean {
  if (typeof value === "boolean" || isObject(value)) return value;
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `The schema's ${path || "/"} is no schema: expected an object or a boolean`,
  );
}

export function readSchemas(schema: Schema, keyword: string, path: string): unknown[] {
  const value = schema[keyword];
  if (!Array.isArray(value) || value.length === 0) throw refuse(path, keyword, "expected an array of schemas");
  return value;
}
