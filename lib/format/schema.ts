import { ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import type { SchemaOptions } from "./form.js";
import { character, colon, comma, inString, integer, integers, number, numbers, otherKey } from "./json.js";
import {
  choice,
  type Grammar,
  impossible,
  type Node,
  nothing,
  oneOf,
  optional,
  repeat,
  sequence,
  text,
} from "./nodes.js";
import { parsePattern } from "./pattern.js";
import {
  assertionsOf,
  checkKeywords,
  readCount,
  readNumber,
  readSchema,
  readSchemas,
  refuse,
  type Schema,
  type Type,
  typesOf,
} from "./schema_keywords.js";
import { areDisjoint, mergeSchemas } from "./schema_merge.js";
import { formatNode, knownFormats } from "./string_formats.js";

const deepest = 100;
const mostNodes = 200_000;
/** The largest bound of numbers with a fraction: beyond it, sums with a fraction round. */
const largestBound = 1e9;

/**
 * The JSON values that a schema describes: compact, with at most one space behind a colon or comma, properties in the schema's order.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT with the keyword and its path for what is not supported.
 */
export function compileSchema(schema: unknown, { strict = false }: SchemaOptions = {}): Grammar {
  return new SchemaCompiler(readSchema(schema, ""), strict).compile();
}

class SchemaCompiler {
  readonly #rules: Node[] = [];
  readonly #byPath = new Map<string, Node>();
  #stringRule: Node | undefined;
  #depth = 0;
  #nodes = 0;

  constructor(
    readonly root: Schema | boolean,
    readonly strict: boolean,
  ) {}

  compile(): Grammar {
    this.#rules.push(nothing);
    this.#rules[0] = this.#reference("#", "");
    return this.#rules;
  }

  /** Adds a rule whose body may call it. */
  #rule(make: (self: Node) => Node): Node {
    const index = this.#rules.push(nothing) - 1;
    const self: Node = { kind: "rule", index };
    this.#rules[index] = make(self);
    return self;
  }

  #schema(value: unknown, path: string): Node {
    const schema = readSchema(value, path);
    if (schema === false) return impossible;
    if (++this.#nodes > mostNodes) {
      throw new ShardspeedError("ERR_INVALID_ARGUMENT", "The schema is too large when its references are followed");
    }
    if (++this.#depth > deepest) {
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `The schema is nested deeper than ${deepest} levels at ${path}`,
      );
    }
    const node = schema === true ? this.#any() : this.#object(schema, path);
    this.#depth--;
    return node;
  }

  #object(schema: Schema, path: string): Node {
    checkKeywords(schema, path);
    const { $ref, allOf, anyOf, oneOf, ...rest } = schema;
    const hasRest = assertionsOf(rest).length > 0;
    if ($ref !== undefined) {
      if (hasRest || [allOf, anyOf, oneOf].some((one) => one !== undefined)) {
        throw refuse(path, "$ref", "other keywords beside it are not supported");
      }
      return this.#reference($ref, path);
    }
    if (allOf !== undefined) return this.#allOf(schema, path);
    for (const keyword of ["anyOf", "oneOf"] as const) {
      if (schema[keyword] === undefined) continue;
      const parts = readSchemas(schema, keyword, path);
      if (keyword === "oneOf" && parts.length > 1 && !areDisjoint(parts, path)) {
        throw refuse(path, "oneOf", "a value might satisfy several of its schemas; use anyOf");
      }
      const others = Object.fromEntries(Object.entries(schema).filter(([key]) => key !== keyword));
      const hasOthers = assertionsOf(others).length > 0;
      return choice(
        ...parts.map((part, i) => {
          const place = `${path}/${keyword}/${i}`;
          const one = readSchema(part, place);
          if (typeof one === "boolean") return one ? this.#schema(others, path) : impossible;
          checkKeywords(one, place);
          return this.#schema(hasOthers ? this.#merge(others, one, path, keyword) : one, place);
        }),
      );
    }
    if (schema.const !== undefined || schema.enum !== undefined) return this.#constants(schema, path);
    return choice(...typesOf(schema, path).map((type) => this.#typed(type, schema, path)));
  }

  #merge(first: Schema, second: Schema, path: string, keyword: string): Schema {
    if (first.$ref !== undefined || second.$ref !== undefined) {
      throw refuse(path, keyword, "a $ref beside other keywords is not supported");
    }
    return mergeSchemas(first, second, path, keyword);
  }

  #allOf(schema: Schema, path: string): Node {
    const { allOf: _, ...rest } = schema;
    const parts = readSchemas(schema, "allOf", path).map((part, i) => readSchema(part, `${path}/allOf/${i}`));
    if (parts.includes(false)) return impossible;
    const schemas = parts.filter((one): one is Schema => typeof one === "object");
    for (const [i, one] of schemas.entries()) checkKeywords(one, `${path}/allOf/${i}`);
    const [only] = schemas;
    if (schemas.length === 1 && only !== undefined && assertionsOf(rest).length === 0) return this.#schema(only, path);
    return this.#schema(
      schemas.reduce((merged, one) => this.#merge(merged, one, path, "allOf"), rest),
      path,
    );
  }

  #reference(target: unknown, path: string): Node {
    if (typeof target !== "string" || !/^#(\/|$)/.test(target)) {
      throw refuse(path, "$ref", 'only references within the schema are supported, such as "#/$defs/name"');
    }
    const known = this.#byPath.get(target);
    if (known !== undefined) return known;
    const steps = target.split("/").slice(1);
    let found: unknown = this.root;
    for (const step of steps) {
      const name = decodePointer(step);
      const holder = Array.isArray(found) || isObject(found) ? found : {};
      found = Object.hasOwn(holder, name) ? (holder as Record<string, unknown>)[name] : undefined;
    }
    if (found === undefined) throw refuse(path, "$ref", `${JSON.stringify(target)} leads to nothing`);
    const depth = this.#depth;
    return this.#rule((self) => {
      this.#byPath.set(target, self);
      const node = this.#schema(found, target.slice(1));
      this.#depth = depth;
      return node;
    });
  }

  #constants(schema: Schema, path: string): Node {
    const wrong = assertionsOf(schema).find((keyword) => !["const", "enum", "type"].includes(keyword));
    const keyword = schema.const !== undefined ? "const" : "enum";
    if (wrong !== undefined) throw refuse(path, wrong, `beside ${keyword} it is not supported`);
    const given = keyword === "const" ? [schema.const] : schema.enum;
    if (!Array.isArray(given)) throw refuse(path, "enum", "expected an array");
    if (keyword === "const" && schema.enum !== undefined)
      throw refuse(path, "enum", "beside const it is not supported");
    const allowed = schema.type === undefined ? undefined : typesOf(schema, path);
    const values = given.filter((value) => allowed?.some((type) => isOfType(value, type)) ?? true);
    return oneOf(values.map((value: unknown) => JSON.stringify(value)));
  }

  #typed(type: Type, schema: Schema, path: string): Node {
    switch (type) {
      case "null":
        return text("null");
      case "boolean":
        return choice(text("true"), text("false"));
      case "string":
        return this.#string(schema, path);
      case "array":
        return this.#rule(() => sequence(text("["), this.#items(schema, path), text("]")));
      case "object":
        return this.#rule(() => sequence(text("{"), this.#properties(schema, path), text("}")));
      default:
        return numberNode(type, schema, path);
    }
  }

  #string(schema: Schema, path: string): Node {
    const quoted = (body: Node) => this.#rule(() => sequence(text('"'), body, text('"')));
    const { pattern, format } = schema;
    const least = readCount(schema, "minLength", path, 0);
    const most = readCount(schema, "maxLength", path, -1);
    if (pattern === undefined && format === undefined) {
      if (least === 0 && most < 0) {
        this.#stringRule ??= quoted(repeat(0, -1, character));
        return this.#stringRule;
      }
      return most >= 0 && most < least ? impossible : quoted(repeat(least, most, character));
    }
    const keyword = pattern !== undefined ? "pattern" : "format";
    if (least > 0 || most >= 0) throw refuse(path, keyword, "beside minLength and maxLength it is not supported");
    if (pattern !== undefined && format !== undefined)
      throw refuse(path, "format", "beside pattern it is not supported");
    const given = schema[keyword];
    if (typeof given !== "string") throw refuse(path, keyword, "expected a text");
    if (keyword === "pattern") return quoted(inString(parsePattern(given, `The schema's ${path}/pattern`, true)));
    const body = formatNode(given);
    if (body === undefined) {
      throw refuse(path, "format", `${JSON.stringify(given)} is none of ${knownFormats.join(", ")}`);
    }
    return quoted(body);
  }

  #items(schema: Schema, path: string): Node {
    const least = readCount(schema, "minItems", path, 0);
    const most = readCount(schema, "maxItems", path, -1);
    if (most >= 0 && most < least) return impossible;
    const { prefixItems } = schema;
    const first = prefixItems === undefined ? [] : readSchemas(schema, "prefixItems", path);
    const firstNodes = first.map((one, i) => this.#schema(one, `${path}/prefixItems/${i}`));
    const others = most >= 0 && most <= first.length ? impossible : this.#schema(schema.items ?? true, `${path}/items`);
    const rest = (from: number): Node => {
      if (most >= 0 && from >= most) return nothing;
      const before = from > 0 ? [comma] : [];
      const own = firstNodes[from];
      if (own !== undefined) {
        const node = sequence(...before, own, rest(from + 1));
        return from < least ? node : optional(node);
      }
      const left = Math.max(0, least - from);
      const limit = most < 0 ? -1 : most - from;
      if (from > 0) return repeat(left, limit, sequence(comma, others));
      const node = sequence(others, repeat(Math.max(0, left - 1), limit < 0 ? -1 : limit - 1, sequence(comma, others)));
      return left > 0 ? node : optional(node);
    };
    return rest(0);
  }

  #properties(schema: Schema, path: string): Node {
    const { properties = {}, required = [], additionalProperties } = schema;
    if (!isObject(properties)) throw refuse(path, "properties", "expected an object");
    if (!Array.isArray(required) || required.some((name) => typeof name !== "string")) {
      throw refuse(path, "required", "expected an array of names");
    }
    const extra = additionalProperties ?? !(this.strict && schema.properties !== undefined);
    const names = [...new Set([...Object.keys(properties), ...(required as string[])])];
    const members = names.map((name) => ({
      isRequired: required.includes(name),
      node: sequence(
        text(JSON.stringify(name)),
        colon,
        Object.hasOwn(properties, name)
          ? this.#schema(properties[name], `${path}/properties/${escapePointer(name)}`)
          : this.#schema(extra, `${path}/additionalProperties`),
      ),
    }));
    const member = sequence(otherKey(names), colon, this.#schema(extra, `${path}/additionalProperties`));
    // What may follow: where nothing stands before, and where something does. Rules, since each is used twice.
    let behind: Node = repeat(0, -1, sequence(comma, member));
    let atStart: Node = optional(sequence(member, behind));
    for (const { isRequired, node } of members.reverse()) {
      const [nextBehind, nextAtStart] = [behind, atStart];
      behind = this.#rule(() => orSkip(sequence(comma, node, nextBehind), isRequired, nextBehind));
      atStart = this.#rule(() => orSkip(sequence(node, nextBehind), isRequired, nextAtStart));
    }
    return atStart;
  }

  /** Any JSON value. */
  #any(): Node {
    const key = "any value";
    const known = this.#byPath.get(key);
    if (known !== undefined) return known;
    return this.#rule((self) => {
      this.#byPath.set(key, self);
      return choice(...typesOf({}, "").map((type) => this.#typed(type, {}, "")));
    });
  }
}

function orSkip(node: Node, isRequired: boolean, skipped: Node): Node {
  return isRequired ? node : choice(node, skipped);
}

function numberNode(type: "number" | "integer", schema: Schema, path: string): Node {
  const read = (keyword: string) => readNumber(schema, keyword, path);
  const [minimum = -Infinity, above = -Infinity] = [read("minimum"), read("exclusiveMinimum")];
  const [maximum = Infinity, below = Infinity] = [read("maximum"), read("exclusiveMaximum")];
  const [least, most] = [Math.max(minimum, above), Math.min(maximum, below)];
  if (least === -Infinity && most === Infinity) return type === "integer" ? integer : number;
  const bounds = [least, most].filter(Number.isFinite);
  const within = () => {
    const first = Math.max(Math.ceil(minimum), Math.floor(above) + 1);
    const last = Math.min(Math.floor(maximum), Math.ceil(below) - 1);
    return first > last ? impossible : integers(first, last);
  };
  const keyword = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].find((one) => {
    const value = schema[one];
    if (typeof value !== "number") return false;
    return type === "integer"
      ? Math.abs(value) > Number.MAX_SAFE_INTEGER
      : !Number.isInteger(value) || Math.abs(value) > largestBound;
  });
  if (keyword !== undefined || bounds.length === 0) {
    const expected = type === "integer" ? "a bound that is a safe integer" : "an integer bound of at most 1e9";
    throw refuse(path, keyword ?? "minimum", `only ${expected} is supported`);
  }
  return type === "integer" ? within() : numbers(least, most, within());
}

function isOfType(value: unknown, type: Type): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}

function decodePointer(step: string): string {
  let name = step;
  try {
    name = decodeURIComponent(step);
  } catch {
    // As it stands: it leads to nothing.
  }
  return name.replaceAll("~1", "/").replaceAll("~0", "~");
}

function escapePointer(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}
