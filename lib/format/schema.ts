import { ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import type { SchemaOptions } from "./form.js";
import { character, colon, comma, otherKey, otherText } from "./json.js";
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
  shiftRules,
  text,
} from "./nodes.js";
import {
  assertionsOf,
  checkKeywords,
  readCount,
  readSchema,
  readSchemas,
  refuse,
  type Schema,
  type Type,
  typesOf,
} from "./schema_keywords.js";
import { areDisjoint, mergeSchemas } from "./schema_merge.js";
import { numberNode } from "./schema_numbers.js";
import { type Place, readObjectForm } from "./schema_objects.js";
import { readLengths, stringBody, textNodes } from "./schema_strings.js";
import { type Spend, unlimited } from "./work.js";

const deepest = 100;
const mostNodes = 200_000;
/** As Spend counts it. */
const workOfMerge = 50;

/**
 * The JSON values that a schema describes: compact, with at most one space behind a colon or comma, properties in the schema's order.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT with the keyword and its path for what is not supported.
 */
export function compileSchema(schema: unknown, { strict = false }: SchemaOptions = {}, spend = unlimited): Grammar {
  return new SchemaCompiler(readSchema(schema, ""), strict, spend).compile();
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
    readonly spend: Spend,
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
    const { $ref, ...rest } = schema;
    if ($ref !== undefined) {
      if (assertionsOf(rest).length === 0) return this.#reference($ref, path);
      return this.#schema(this.#merge(rest, { $ref }, path, "$ref"), path);
    }
    if (schema.allOf !== undefined) return this.#allOf(schema, path);
    for (const keyword of ["anyOf", "oneOf"] as const) {
      if (schema[keyword] === undefined) continue;
      const parts = readSchemas(schema, keyword, path);
      if (keyword === "oneOf" && parts.length > 1 && !this.#areDisjoint(parts, path)) {
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
    this.spend(workOfMerge);
    return mergeSchemas(this.#resolve(first, path), this.#resolve(second, path), path, keyword);
  }

  /** A schema without a reference at its top: with what it refers to instead. */
  #resolve(schema: Schema, path: string, depth = 0): Schema {
    const { $ref, ...rest } = schema;
    if ($ref === undefined) return schema;
    if (depth > deepest) throw refuse(path, "$ref", "it leads to itself");
    const place = typeof $ref === "string" ? $ref.slice(1) : path;
    const found = readSchema(this.#find($ref, path), place);
    if (typeof found === "boolean") throw refuse(path, "$ref", "a boolean beside other keywords is not supported");
    checkKeywords(found, place);
    const target = this.#resolve(found, place, depth + 1);
    return assertionsOf(rest).length === 0 ? target : mergeSchemas(rest, target, path, "$ref");
  }

  #areDisjoint(parts: readonly unknown[], path: string): boolean {
    const resolved = parts.map((part) => {
      const one = readSchema(part, path);
      return typeof one === "boolean" ? one : this.#resolve(one, path);
    });
    return areDisjoint(resolved, path);
  }

  #allOf(schema: Schema, path: string): Node {
    const { allOf: _, ...rest } = schema;
    const parts = readSchemas(schema, "allOf", path).map((part, i) => readSchema(part, `${path}/allOf/${i}`));
    if (parts.includes(false)) return impossible;
    const schemas = parts.filter((one): one is Schema => typeof one === "object");
    for (const [i, one] of schemas.entries()) checkKeywords(one, `${path}/allOf/${i}`);
    const [only] = schemas;
    if (schemas.length === 1 && only !== undefined && assertionsOf(rest).length === 0) return this.#schema(only, path);
    // References may double the parts at each level, and each merge compares with all before it.
    this.spend(schemas.length ** 2);
    const resolved = schemas.map((one) => this.#resolve(one, path));
    if (resolved.some((one) => (one.unevaluatedProperties ?? true) !== true)) {
      throw refuse(path, "allOf", "unevaluatedProperties within it is not supported");
    }
    const merged = resolved.reduce((all, one) => this.#merge(all, one, path, "allOf"), rest);
    return this.#schema(merged, path);
  }

  #reference(target: unknown, path: string): Node {
    const known = this.#byPath.get(String(target));
    if (known !== undefined) return known;
    const found = this.#find(target, path);
    const depth = this.#depth;
    return this.#rule((self) => {
      this.#byPath.set(target as string, self);
      const node = this.#schema(found, (target as string).slice(1));
      this.#depth = depth;
      return node;
    });
  }

  /** What a reference leads to. */
  #find(target: unknown, path: string): unknown {
    if (typeof target !== "string" || !/^#(\/|$)/.test(target)) {
      throw refuse(path, "$ref", 'only references within the schema are supported, such as "#/$defs/name"');
    }
    let found: unknown = this.root;
    for (const step of target.split("/").slice(1)) {
      const name = decodePointer(step);
      const holder = Array.isArray(found) || isObject(found) ? found : {};
      found = Object.hasOwn(holder, name) ? (holder as Record<string, unknown>)[name] : undefined;
    }
    if (found === undefined) throw refuse(path, "$ref", `${JSON.stringify(target)} leads to nothing`);
    return found;
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
        return numberNode(type, schema, path, (make) => this.#rule(make), this.spend);
    }
  }

  #string(schema: Schema, path: string): Node {
    const quoted = (body: Node) => this.#rule(() => sequence(text('"'), body, text('"')));
    if (schema.pattern === undefined && schema.format === undefined) {
      const [least, most] = readLengths(schema, path);
      if (least > 0 || most >= 0)
        return most >= 0 && most < least ? impossible : quoted(repeat(least, most, character));
    }
    const nodes = textNodes(schema, path);
    if (nodes.length > 0) {
      return quoted(this.#stringBody(nodes, path, schema.pattern !== undefined ? "pattern" : "format"));
    }
    this.#stringRule ??= quoted(repeat(0, -1, character));
    return this.#stringRule;
  }

  #stringBody(nodes: readonly Node[], path: string, keyword: string): Node {
    const add = (grammar: Grammar): Node => {
      const first = this.#rules.length;
      for (const rule of grammar) this.#rules.push(shiftRules(rule, first));
      return { kind: "rule", index: first };
    };
    return stringBody(nodes, path, keyword, add, this.spend);
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
    const form = readObjectForm(schema, path, this.strict, this.spend);
    if (form === undefined) return impossible;
    const { members, others, least, most } = form;
    const other =
      others === undefined
        ? impossible
        : this.#otherMember(
            others,
            members.map(({ name }) => name),
            path,
          );
    // What may follow: where nothing stands before, and where something does. Rules, since each is used twice.
    let behind: Node = repeat(0, Math.max(-1, most - 1), sequence(comma, other));
    const first = sequence(other, behind);
    let atStart: Node = most === 0 ? nothing : least > 0 ? first : optional(first);
    for (const { name, isRequired, value } of members.toReversed()) {
      const node = sequence(text(JSON.stringify(name)), colon, this.#schema(value.schema, value.path));
      const [nextBehind, nextAtStart] = [behind, atStart];
      behind = this.#rule(() => orSkip(sequence(comma, node, nextBehind), isRequired, nextBehind));
      atStart = this.#rule(() => orSkip(sequence(node, nextBehind), isRequired, nextAtStart));
    }
    return atStart;
  }

  #otherMember({ keys, value }: { keys: Node[]; value: Place }, names: string[], path: string): Node {
    const any = keys.length === 0;
    const nodes = names.length > 0 ? [...keys, otherText(names)] : keys;
    const key = any ? otherKey(names) : sequence(text('"'), this.#stringBody(nodes, path, "propertyNames"), text('"'));
    return sequence(key, colon, this.#schema(value.schema, value.path));
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
