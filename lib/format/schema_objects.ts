import { isObject } from "../base/objects.js";
import { matches } from "./intersect.js";
import type { Node } from "./nodes.js";
import { parsePattern } from "./pattern.js";
import { checkKeywords, isAssertion, readCount, readSchema, refuse, type Schema } from "./schema_keywords.js";
import { textNodes } from "./schema_strings.js";
import type { Spend } from "./work.js";

/** A schema somewhere in the given one. */
export interface Place {
  schema: unknown;
  path: string;
}

/** The properties that the keywords of an object leave. */
export interface ObjectForm {
  /** Those with a name, in the schema's order. */
  members: { name: string; isRequired: boolean; value: Place }[];
  /** The others; absent where there are none. All of `keys` match their names, and no member has them. */
  others?: { keys: Node[]; value: Place };
  least: 0 | 1;
  /** Of the others; -1: any number. */
  most: number;
}

/**
 * Reads the keywords of objects. undefined where no object satisfies them.
 *
 * @param strict Objects that describe properties and do not mention others have no others.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT with the keyword and its path for what is not supported.
 */
export function readObjectForm(schema: Schema, path: string, strict: boolean, spend: Spend): ObjectForm | undefined {
  const { properties = {}, required = [] } = schema;
  if (!isObject(properties)) throw refuse(path, "properties", "expected an object");
  if (!Array.isArray(required) || required.some((name) => typeof name !== "string")) {
    throw refuse(path, "required", "expected an array of names");
  }
  const pattern = readPatternProperties(schema, path);
  const extra = readExtra(schema, path, strict);
  const { keys, only } = readPropertyNames(schema, path);
  const described = new Set([...Object.keys(properties), ...(required as string[]), ...(only ?? [])]);
  const isAllowed = (name: string) =>
    (only === undefined || only.includes(name)) && keys.every((key) => matches(key, name, spend));
  const findValue = (name: string): Place => {
    const isByPattern = pattern !== undefined && matches(pattern.key, name, spend);
    if (!Object.hasOwn(properties, name)) return isByPattern ? pattern.value : extra;
    const own = { schema: properties[name], path: `${path}/properties/${escapePointer(name)}` };
    return isByPattern ? { schema: { allOf: [pattern.value.schema, own.schema] }, path: own.path } : own;
  };
  const names = [...described];
  if (names.some((name) => required.includes(name) && !isAllowed(name))) return undefined;
  const members = names
    .filter(isAllowed)
    .map((name) => ({ name, isRequired: required.includes(name), value: findValue(name) }));
  const form: ObjectForm = { members, least: 0, most: -1 };
  // Names that the pattern does not match are left out where one is given: they would have to be told apart from it.
  const others =
    pattern === undefined ? { keys, value: extra } : { keys: [...keys, pattern.key], value: pattern.value };
  if (only === undefined && others.value.schema !== false) form.others = others;
  return limit(form, schema, path);
}

function readExtra(schema: Schema, path: string, strict: boolean): Place {
  for (const keyword of ["additionalProperties", "unevaluatedProperties"]) {
    if (schema[keyword] !== undefined) return { schema: schema[keyword], path: `${path}/${keyword}` };
  }
  const isClosed = strict && schema.properties !== undefined;
  return { schema: !isClosed, path: `${path}/additionalProperties` };
}

function readPatternProperties(schema: Schema, path: string): { key: Node; value: Place } | undefined {
  const { patternProperties = {} } = schema;
  if (!isObject(patternProperties)) throw refuse(path, "patternProperties", "expected an object");
  const patterns = Object.keys(patternProperties);
  const [pattern] = patterns;
  if (pattern === undefined) return undefined;
  if (patterns.length > 1) throw refuse(path, "patternProperties", "only one pattern is supported");
  const place = `${path}/patternProperties/${escapePointer(pattern)}`;
  return {
    key: parsePattern(pattern, `The schema's ${place}`, true),
    value: { schema: patternProperties[pattern], path: place },
  };
}

/** What names match, and the only ones that there can be where they are listed. */
function readPropertyNames(schema: Schema, path: string): { keys: Node[]; only?: string[] } {
  const place = `${path}/propertyNames`;
  const names = readSchema(schema.propertyNames ?? true, place);
  if (typeof names === "boolean") return names ? { keys: [] } : { keys: [], only: [] };
  checkKeywords(names, place);
  const { type = "string", const: constant, enum: listed, ...rest } = names;
  const usable = ["minLength", "maxLength", "pattern", "format", "enum", "const", "type"];
  const wrong = Object.keys(names).find((keyword) => !usable.includes(keyword) && isAssertion(keyword));
  if (wrong !== undefined) throw refuse(place, wrong, "for names it is not supported");
  if (type !== "string") throw refuse(place, "type", "for names only string is supported");
  const keys = textNodes(rest, place);
  if (constant === undefined && listed === undefined) return { keys };
  if (listed !== undefined && !Array.isArray(listed)) throw refuse(place, "enum", "expected an array");
  const values = constant === undefined ? (listed as unknown[]) : [constant];
  const isListed = (value: unknown) => listed === undefined || (listed as unknown[]).includes(value);
  return { keys, only: values.filter((value): value is string => typeof value === "string" && isListed(value)) };
}

/** With the counts of properties, as far as each can be told from the names: a text may have a name twice. */
function limit(form: ObjectForm, schema: Schema, path: string): ObjectForm | undefined {
  const least = readCount(schema, "minProperties", path, 0);
  const most = readCount(schema, "maxProperties", path, -1);
  const needed = form.members.filter(({ isRequired }) => isRequired).length;
  if (most >= 0 && (needed > most || least > most)) return undefined;
  if (least > Math.max(1, needed)) {
    throw refuse(path, "minProperties", "more than 1 is supported only if as many properties are required");
  }
  const isOpen = form.others !== undefined;
  if (most >= 0 && (isOpen ? form.members.length > 0 : form.members.length > most)) {
    throw refuse(path, "maxProperties", "beside properties that may be absent it is not supported");
  }
  return { ...form, least: least > needed ? 1 : 0, most: isOpen ? most : -1 };
}

export function escapePointer(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}
