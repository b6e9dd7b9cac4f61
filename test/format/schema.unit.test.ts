import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { encodeGrammar } from "../../dist/format/nodes.js";
import { compileSchema } from "../../dist/format/schema.js";
import { findHeights, isText, randomText } from "./grammar_texts.js";
import { anySchema } from "./random_schemas.js";
import { ajv } from "./schema_check.js";

const invalid = (part: RegExp) => ({ code: "ERR_INVALID_ARGUMENT", message: part });
/** Random texts of a schema's grammar are JSON that the schema allows. */
function checkTexts(schema: object, choices: (count: number) => number, rounds = 20): void {
  const grammar = compileSchema(schema);
  if (findHeights(grammar)[0] === Infinity) return; // No value satisfies it.
  const validate = ajv.compile(schema);
  for (let i = 0; i < rounds; i++) {
    const text = randomText(grammar, choices, 3);
    assert.ok(validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}: ${ajv.errorsText(validate.errors)}`);
  }
}

/** A seeded generator of choices. */
function seeded(seed: number): (count: number) => number {
  let state = seed >>> 0 || 1;
  return (count) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) % count;
  };
}

describe("grammars of JSON schemas", () => {
  test("have only texts that the schema allows", () => {
    fc.assert(
      fc.property(anySchema, fc.nat(), (schema, seed) => checkTexts(schema as object, seeded(seed), 5)),
      { numRuns: 400, seed: 7 },
    );
  });

  test("follow references, also of a schema to itself", () => {
    const tree = {
      $defs: {
        node: {
          type: "object",
          properties: { value: { type: "integer" }, next: { $ref: "#/$defs/node" } },
          required: ["value"],
          additionalProperties: false,
        },
      },
      $ref: "#/$defs/node",
    };
    checkTexts(tree, seeded(1));
    checkTexts({ anyOf: [{ type: "null" }, { type: "array", items: { $ref: "#" } }] }, seeded(2));
    assert.throws(() => compileSchema({ $ref: "#/$defs/none" }), invalid(/\$ref.*leads to nothing/));
    assert.throws(() => compileSchema({ $ref: "http://example.com/a" }), invalid(/only references within the schema/));
  });

  test("merge what applies at once where that is plain, and are refused where it is not", () => {
    const part = (name: string) => ({ type: "object", properties: { [name]: { type: "null" } }, required: [name] });
    checkTexts({ allOf: [part("a"), part("b")] }, seeded(3));
    checkTexts({ ...part("a"), anyOf: [part("b"), part("c")] }, seeded(4));
    checkTexts({ allOf: [part("a"), part("a"), { properties: { a: { enum: [1, null] } } }] }, seeded(8));
    assert.throws(
      () => compileSchema({ allOf: [{ ...part("a"), additionalProperties: false }, part("b")] }),
      invalid(/additionalProperties/),
    );
    const kind = (value: string) => ({ type: "object", properties: { kind: { const: value } }, required: ["kind"] });
    checkTexts({ oneOf: [kind("a"), kind("b"), { type: "string" }] }, seeded(5));
    assert.throws(
      () => compileSchema({ oneOf: [{ type: "integer" }, { type: "number" }] }),
      invalid(/\/oneOf.*several/),
    );
    assert.throws(() => compileSchema({ oneOf: [{ minimum: 1 }, { minLength: 1 }] }), invalid(/\/oneOf.*several/));
  });

  test("have each value of small schemas, in the schema's order", () => {
    const grammar = compileSchema({
      type: "object",
      properties: { a: { type: "boolean" }, b: { enum: ["x", 1] } },
      required: ["b"],
      additionalProperties: false,
    });
    for (const text of ['{"a":true,"b":1}', '{"a": false, "b": "x"}', '{"b":1}'])
      assert.ok(isText(grammar, text), text);
    for (const text of ["{}", '{"a":true}', '{"b":1,"a":true}', '{"b":1,}', '{"b":1,"c":1}', '{"b":  1}', '{"b":1} ']) {
      assert.ok(!isText(grammar, text), text);
    }
    const integers = compileSchema({ type: "integer", minimum: -105, maximum: 1203 });
    for (let i = -300; i < 1500; i++) assert.equal(isText(integers, String(i)), i >= -105 && i <= 1203, String(i));
    const numbers = compileSchema({ type: "number", exclusiveMinimum: -2, maximum: 10 });
    for (let i = -350; i < 1250; i++)
      assert.equal(isText(numbers, String(i / 100)), i > -200 && i <= 1000, String(i / 100));
  });

  test("have each number within decimal bounds, and each multiple", () => {
    const allowed = (schema: object, from: number, to: number, places: number) => {
      const grammar = compileSchema(schema);
      const validate = ajv.compile(schema);
      for (let i = from; i <= to; i++) {
        const isByBound = [0, 1, 49].includes(Math.abs(i) % 50);
        if (!isByBound && i % 7 !== 0) continue;
        const text = (i / 10 ** places).toFixed(places).replace(/\.?0+$/, places > 0 ? "" : "$&");
        assert.equal(isText(grammar, text), validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`);
      }
    };
    allowed({ type: "number", minimum: 0.25, exclusiveMaximum: 1.5 }, -300, 2000, 3);
    allowed({ type: "number", exclusiveMinimum: -1.05, maximum: -0.5 }, -2000, 300, 3);
    allowed(
      { type: "number", exclusiveMinimum: -0.5, minimum: -3, maximum: 12.345, exclusiveMaximum: 99 },
      -999,
      13000,
      3,
    );
    allowed({ type: "integer", minimum: -1.5, exclusiveMaximum: 3 }, -10, 10, 0);
    allowed({ type: "number", multipleOf: 0.25, minimum: -1, maximum: 3 }, -2000, 4000, 3);
    allowed({ type: "number", multipleOf: 0.01, minimum: -0.5 }, -2000, 4000, 3);
    allowed({ type: "number", multipleOf: 0.05 }, -2000, 4000, 3);
    allowed({ type: "integer", multipleOf: 0.5 }, -20, 20, 0);
    for (const multipleOf of [1, 7, 10, 30, 100]) allowed({ type: "integer", multipleOf }, -1500, 1500, 0);
    allowed({ type: "integer", multipleOf: 7, exclusiveMinimum: 0 }, -100, 1500, 0);
    allowed({ type: "integer", multipleOf: 100, minimum: -250, maximum: 1250 }, -1500, 1500, 0);
    allowed({ type: "integer", minimum: -9007199254740991, maximum: 9007199254740991 }, -1500, 1500, 0);
    for (const schema of [{ multipleOf: 7 }, { multipleOf: 0.25 }, { multipleOf: 1000 }, { multipleOf: 0.01 }])
      checkTexts({ type: "number", ...schema }, seeded(11), 200);
  });

  test("put what is said of a string together", () => {
    const grammar = compileSchema({ type: "string", pattern: '^[a-z"]+$', minLength: 2, maxLength: 3 });
    for (const text of ["ab", "abc", 'a"']) assert.ok(isText(grammar, JSON.stringify(text)), text);
    for (const text of ["a", "abcd", "aB", ""]) assert.ok(!isText(grammar, JSON.stringify(text)), text);
    checkTexts({ type: "string", format: "email", pattern: "@example\\.com$", maxLength: 20 }, seeded(12));
    checkTexts({ type: "string", format: "date-time", pattern: "^20..-02" }, seeded(13));
    assert.ok(!isText(compileSchema({ type: "string", format: "ipv4", maxLength: 6 }), '"1.1.1.1"'));
  });

  test("follow what is said of the names of properties", () => {
    const record = compileSchema({
      type: "object",
      propertyNames: { pattern: "^x-", maxLength: 4 },
      required: ["x-a"],
    });
    for (const text of ['{"x-a":1}', '{"x-a":1,"x-b":2}']) assert.ok(isText(record, text), text);
    for (const text of ["{}", '{"x-b":1}', '{"x-a":1,"y":2}', '{"x-a":1,"x-abc":2}'])
      assert.ok(!isText(record, text), text);
    assert.ok(!isText(compileSchema({ type: "object", propertyNames: { maxLength: 1 }, required: ["ab"] }), "{}"));
    const some = { a: { type: "integer" }, "x-1": { type: "integer" } };
    checkTexts({ type: "object", properties: some, patternProperties: { "^x-": { minimum: 5 } } }, seeded(14), 60);
    const keyed = compileSchema({
      type: "object",
      propertyNames: { enum: ["a", "b"] },
      additionalProperties: { type: "null" },
    });
    for (const text of ["{}", '{"a":null}', '{"a":null,"b":null}']) assert.ok(isText(keyed, text), text);
    for (const text of ['{"c":null}', '{"a":1}']) assert.ok(!isText(keyed, text), text);
    const counted = compileSchema({
      type: "object",
      minProperties: 1,
      maxProperties: 2,
      additionalProperties: { type: "null" },
    });
    for (const text of ['{"a":null}', '{"a":null,"b":null}']) assert.ok(isText(counted, text), text);
    for (const text of ["{}", '{"a":null,"b":null,"c":null}']) assert.ok(!isText(counted, text), text);
    const oneOfTwo = compileSchema({ properties: { a: {}, b: {} }, additionalProperties: false, minProperties: 1 });
    for (const text of ['{"a":null}', '{"b":null}']) assert.ok(isText(oneOfTwo, text), text);
    assert.ok(!isText(oneOfTwo, "{}"));
  });

  test("are made of what common libraries write", () => {
    const pet = (kind: string, more: object) => ({
      type: "object",
      properties: { kind: { const: kind, default: kind, title: "Kind", type: "string" }, ...more },
      required: ["kind"],
      title: kind,
    });
    checkTexts(
      {
        $defs: { Cat: pet("cat", { lives: { type: "integer", exclusiveMinimum: 0 } }), Dog: pet("dog", {}) },
        type: "object",
        properties: {
          pet: {
            discriminator: { mapping: { cat: "#/$defs/Cat", dog: "#/$defs/Dog" }, propertyName: "kind" },
            oneOf: [{ $ref: "#/$defs/Cat" }, { $ref: "#/$defs/Dog" }],
          },
          secret: { type: "string", format: "password", writeOnly: true },
          price: { anyOf: [{ type: "number", multipleOf: 0.01, minimum: 0 }, { type: "null" }] },
        },
        required: ["pet"],
      },
      seeded(15),
      60,
    );
    const base = { type: "object", properties: { id: { type: "integer" } }, required: ["id"] };
    const own = { type: "object", properties: { id: { minimum: 1 }, name: { type: "string" } }, required: ["name"] };
    checkTexts(
      { $defs: { base }, allOf: [{ $ref: "#/$defs/base" }, own], unevaluatedProperties: false },
      seeded(16),
      60,
    );
    // A base and its heir both say that a node refers to a node.
    const next = { $ref: "#/$defs/node" };
    const heir = {
      allOf: [{ type: "object", properties: { next } }, { properties: { next, v: { type: "integer" } } }],
    };
    checkTexts({ $defs: { node: heir }, ...next }, seeded(18), 60);
    checkTexts({ $defs: { base }, $ref: "#/$defs/base", properties: { id: { maximum: 3 } } }, seeded(17), 60);
  });

  test("name the keyword that is not supported, and its path", () => {
    for (const [schema, message] of [
      [{ type: "object", properties: { a: { not: {} } } }, /\/properties\/a\/not .*not supported/],
      [{ items: { multipleOf: 0 } }, /\/items\/multipleOf .*above 0/],
      [{ multipleOf: 101 }, /\/multipleOf .*only powers of ten/],
      [{ type: "integer", multipleOf: 1.5 }, /\/multipleOf .*for integers/],
      [{ minProperties: 2 }, /\/minProperties.*required/],
      [{ properties: { a: {} }, maxProperties: 1 }, /\/maxProperties/],
      [{ propertyNames: { not: {} } }, /\/propertyNames\/not /],
      [{ propertyNames: { type: "integer" } }, /\/propertyNames\/type /],
      [{ $defs: { a: { $ref: "#/$defs/a" } }, $ref: "#/$defs/a", minimum: 1 }, /\/\$ref.*leads to itself/],
      [{ type: "array", uniqueItems: true }, /\/uniqueItems/],
      [{ patternProperties: { a: {}, b: {} } }, /\/patternProperties.*one pattern/],
      [{ type: "string", format: "iri" }, /\/format.*"iri"/],
      [{ type: "string", pattern: "(?=a)" }, /\/pattern.*lookahead/],
      [{ type: "string", pattern: "a", maxLength: 30_000 }, /\/pattern.*too many states/],
      [{ type: "number", minimum: 1e-9 }, /\/minimum.*digits/],
      [{ type: "number", minimum: 0.5, maximum: 9007199254740991 }, /\/maximum.*too many digits/],
      [{ type: "text" }, /\/type/],
      [{ anyOf: [] }, /\/anyOf/],
      [{ enum: ["a"], minLength: 1 }, /\/minLength/],
      [{ properties: { a: 1 } }, /\/properties\/a is no schema/],
    ] as const) {
      assert.throws(() => compileSchema(schema), invalid(message));
    }
  });

  test("end within limits for hostile schemas", () => {
    let deep: object = {};
    for (let i = 0; i < 500; i++) deep = { items: deep };
    assert.throws(() => compileSchema(deep), invalid(/nested deeper/));
    // A reference to itself with nothing in between is a rule that calls itself: the native side refuses it.
    assert.equal(encodeGrammar(compileSchema({ $ref: "#" })).length > 0, true);
    const wide = {
      type: "object",
      properties: Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`name${i}`, {}])),
    };
    assert.ok(encodeGrammar(compileSchema(wide)).length > 5000);
  });
});
