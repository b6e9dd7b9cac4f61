import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { encodeGrammar } from "../../dist/format/nodes.js";
import { compileSchema } from "../../dist/format/schema.js";
import { isText, randomText } from "./grammar_texts.js";
import { anySchema } from "./random_schemas.js";

const invalid = (part: RegExp) => ({ code: "ERR_INVALID_ARGUMENT", message: part });
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);

/** Random texts of a schema's grammar are JSON that the schema allows. */
function checkTexts(schema: object, choices: (count: number) => number, rounds = 20): void {
  const grammar = compileSchema(schema);
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
    assert.throws(
      () => compileSchema({ allOf: [part("a"), part("a"), { properties: { a: {} } }] }),
      invalid(/allOf.*described twice/),
    );
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

  test("name the keyword that is not supported, and its path", () => {
    for (const [schema, message] of [
      [{ type: "object", properties: { a: { not: {} } } }, /\/properties\/a\/not .*not supported/],
      [{ items: { multipleOf: 2 } }, /\/items\/multipleOf /],
      [{ type: "array", uniqueItems: true }, /\/uniqueItems/],
      [{ patternProperties: {} }, /\/patternProperties/],
      [{ type: "string", format: "iri" }, /\/format.*"iri"/],
      [{ type: "string", pattern: "(?=a)" }, /\/pattern.*lookahead/],
      [{ type: "string", pattern: "a", maxLength: 3 }, /\/pattern.*maxLength/],
      [{ type: "number", minimum: 0.5 }, /\/minimum.*integer bound/],
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
