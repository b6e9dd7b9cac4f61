import { isObject } from "../base/objects.js";
import { assertionsOf, readSchema, refuse, type Schema, typesOf } from "./schema_keywords.js";

/**
 * One schema that says what both say, where that is plain: keywords that only one of them has, and the properties of objects.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT where it is not.
 */
export function mergeSchemas(first: Schema, second: Schema, path: string, keyword: string): Schema {
  const merged: Schema = { ...second, ...first };
  for (const both of assertionsOf(first).filter((one) => second[one] !== undefined)) {
    const [mine, other] = [first[both], second[both]];
    if (JSON.stringify(mine) === JSON.stringify(other)) continue;
    if (both === "required" && Array.isArray(mine) && Array.isArray(other)) {
      merged[both] = [...new Set([...mine, ...other])];
    } else if (both === "properties" && isObject(mine) && isObject(other)) {
      const twice = Object.keys(mine).find((name) => Object.hasOwn(other, name));
      if (twice !== undefined) throw refuse(path, keyword, `the property ${JSON.stringify(twice)} is described twice`);
      merged[both] = { ...mine, ...other };
    } else {
      throw refuse(path, keyword, `the keyword ${both} stands in two schemas that apply at once`);
    }
  }
  for (const one of [first, second]) {
    const { additionalProperties: extra = true } = one;
    if (extra !== true && merged.properties !== one.properties && merged.properties !== undefined) {
      const mine = isObject(one.properties) ? Object.keys(one.properties).length : 0;
      if (mine !== Object.keys(merged.properties as object).length) {
        throw refuse(path, keyword, "additionalProperties would apply to properties that another schema describes");
      }
    }
  }
  return merged;
}

/** Whether no value satisfies two of the schemas, as far as that can be seen: other types, other constants, or another constant of a property. */
export function areDisjoint(schemas: readonly unknown[], path: string): boolean {
  const all = schemas.map((one) => readSchema(one, path));
  return all.every((one, i) => all.slice(i + 1).every((other) => isPairDisjoint(one, other, path)));
}

function isPairDisjoint(one: Schema | boolean, other: Schema | boolean, path: string): boolean {
  if (typeof one === "boolean" || typeof other === "boolean") return one === false || other === false;
  const [mine, theirs] = [constants(one), constants(other)];
  if (mine !== undefined && theirs !== undefined) return !mine.some((value) => theirs.includes(value));
  // Types that only follow from keywords do not count: such a schema allows other types.
  if (one.type === undefined || other.type === undefined) return false;
  const kinds = [one, other].map((schema) =>
    typesOf(schema, path).map((type) => (type === "integer" ? "number" : type)),
  );
  if (!kinds[0]?.some((type) => kinds[1]?.includes(type))) return true;
  if (one.type !== "object" || other.type !== "object") return false;
  const [own, foreign] = [requiredConstants(one), requiredConstants(other)];
  return [...own].some(([name, values]) => {
    const others = foreign.get(name);
    return others !== undefined && !values.some((value) => others.includes(value));
  });
}

function constants(schema: unknown): string[] | undefined {
  if (!isObject(schema)) return undefined;
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : undefined;
}

function requiredConstants(schema: Schema): Map<string, string[]> {
  const found = new Map<string, string[]>();
  if (!isObject(schema.properties) || !Array.isArray(schema.required)) return found;
  for (const [name, property] of Object.entries(schema.properties)) {
    const values = constants(property);
    if (values !== undefined && schema.required.includes(name)) found.set(name, values);
  }
  return found;
}
