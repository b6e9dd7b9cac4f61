import { isObject } from "../base/objects.js";
import { assertionsOf, readSchema, refuse, type Schema, typesOf } from "./schema_keywords.js";

/** Of keywords whose values stand in two schemas: the value that says what both say; undefined where that is not plain. */
const both: Readonly<Record<string, (mine: unknown, other: unknown) => unknown>> = {
  ...Object.fromEntries(
    ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"].map((key) => [key, larger]),
  ),
  ...Object.fromEntries(
    ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"].map((key) => [key, smaller]),
  ),
  required: (mine, other) =>
    Array.isArray(mine) && Array.isArray(other) ? [...new Set([...mine, ...other])] : undefined,
  allOf: (mine, other) => (Array.isArray(mine) && Array.isArray(other) ? [...mine, ...other] : undefined),
  properties: (mine, other) => {
    if (!isObject(mine) || !isObject(other)) return undefined;
    const isSame = (name: string) => JSON.stringify(mine[name]) === JSON.stringify(other[name]);
    // What is the same stays as it is: a reference to the schema that is merged would be merged for ever.
    const twice = Object.keys(mine).filter((name) => Object.hasOwn(other, name) && !isSame(name));
    return {
      ...mine,
      ...other,
      ...Object.fromEntries(twice.map((name) => [name, { allOf: [mine[name], other[name]] }])),
    };
  },
  items: (mine, other) => ({ allOf: [mine, other] }),
  type: (mine, other) => {
    const [some, others] = [mine, other].map((one) => (Array.isArray(one) ? one : [one])) as [unknown[], unknown[]];
    const allows = (list: unknown[], type: unknown) =>
      list.includes(type) || (type === "integer" && list.includes("number"));
    const common = [...some.filter((type) => allows(others, type)), ...others.filter((type) => allows(some, type))];
    return common.length > 0 ? [...new Set(common)] : undefined;
  },
};

function larger(mine: unknown, other: unknown): unknown {
  return typeof mine === "number" && typeof other === "number" ? Math.max(mine, other) : undefined;
}

function smaller(mine: unknown, other: unknown): unknown {
  return typeof mine === "number" && typeof other === "number" ? Math.min(mine, other) : undefined;
}

/**
 * One schema that says what both say, where that is plain.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT where it is not.
 */
export function mergeSchemas(first: Schema, second: Schema, path: string, keyword: string): Schema {
  const merged: Schema = { ...second, ...first };
  for (const name of assertionsOf(first).filter((one) => second[one] !== undefined)) {
    if (JSON.stringify(first[name]) === JSON.stringify(second[name])) continue;
    const value = Object.hasOwn(both, name) ? both[name]?.(first[name], second[name]) : undefined;
    if (value === undefined) {
      throw refuse(path, keyword, `the keyword ${name} stands in two schemas that apply at once`);
    }
    merged[name] = value;
  }
  checkOthers(first, second, merged, path, keyword);
  return merged;
}

/** Keywords that speak of what the own schema does not describe. They would see the properties of the other one too. */
function checkOthers(first: Schema, second: Schema, merged: Schema, path: string, keyword: string): void {
  const namesOf = ({ properties }: Schema) => (isObject(properties) ? Object.keys(properties) : []);
  for (const one of [first, second]) {
    const other = one === first ? second : first;
    const sees =
      namesOf(one).length !== namesOf(merged).length ||
      JSON.stringify(one.patternProperties) !== JSON.stringify(merged.patternProperties);
    if ((one.additionalProperties ?? true) !== true && sees) {
      throw refuse(path, keyword, "additionalProperties would apply to properties that another schema describes");
    }
    // Of the outer schema it speaks of what no schema within describes, as it does once they are merged.
    if ((one.unevaluatedProperties ?? true) !== true && one === second && assertionsOf(other).length > 0) {
      throw refuse(
        path,
        keyword,
        "unevaluatedProperties of one of several schemas that apply at once is not supported",
      );
    }
    if (one.prefixItems !== undefined && one.items === undefined && other.items !== undefined) {
      throw refuse(path, keyword, "items would not apply to the items that another schema describes one by one");
    }
    if (JSON.stringify(one.prefixItems) !== JSON.stringify(merged.prefixItems) && one.items !== undefined) {
      throw refuse(path, keyword, "items would not apply to the items that another schema describes one by one");
    }
  }
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
