import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { ShardspeedError } from "../../dist/base/errors.js";
import { compileFormat } from "../../dist/format/compile.js";
import { readFormat } from "../../dist/format/form.js";
import type { Node } from "../../dist/format/nodes.js";
import { parsePattern } from "../../dist/format/pattern.js";
import { compileSchema } from "../../dist/format/schema.js";
import { findHeights, randomText } from "./grammar_texts.js";

// Whatever a schema or a pattern is, it is compiled to what satisfies it, or refused with a typed error.

const ajv = new Ajv2020({ strict: false, allErrors: false, logger: false });
addFormats.default(ajv);

/** Undefined where it is refused. */
function compiled<T>(compile: () => T): T | undefined {
  try {
    return compile();
  } catch (error) {
    assert.ok(ShardspeedError.isInstance(error) && error.code === "ERR_INVALID_ARGUMENT", String(error));
    return undefined;
  }
}

function choices(seed: number): (count: number) => number {
  let state = seed + 1;
  return (count) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * count);
  };
}

const names = fc.constantFrom("a", "b", 'q"', "__proto__", "constructor", "é");
const { schema: anything } = fc.letrec((tie) => ({
  schema: fc.oneof({ depthSize: "small" }, fc.boolean(), tie("object"), fc.constantFrom(null, 1, "a", [])),
  list: fc.array(tie("schema"), { maxLength: 3 }),
  object: fc.record(
    {
      type: fc.constantFrom(
        "object",
        "array",
        "string",
        "integer",
        "number",
        "null",
        "boolean",
        ["string", "null"],
        "text",
        5,
      ),
      properties: fc.dictionary(names, tie("schema"), { maxKeys: 3 }),
      required: fc.array(names, { maxLength: 3 }),
      additionalProperties: tie("schema"),
      items: tie("schema"),
      prefixItems: tie("list"),
      minItems: fc.constantFrom(0, 1, 3, -1, "2"),
      maxItems: fc.constantFrom(0, 2, 4, 1.5),
      minLength: fc.constantFrom(0, 2, 5),
      maxLength: fc.constantFrom(0, 3, 1e9),
      pattern: fc.constantFrom("a+", "^x$", "(?=a)", "[", "\\d{2}"),
      format: fc.constantFrom("date", "uri", "uuid"),
      minimum: fc.constantFrom(-3, 0, 7, 0.5),
      maximum: fc.constantFrom(-5, 5, 1e12, null),
      exclusiveMinimum: fc.constantFrom(-1, 4),
      enum: fc.array(fc.jsonValue({ maxDepth: 1 }), { maxLength: 3 }),
      const: fc.jsonValue({ maxDepth: 1 }),
      anyOf: tie("list"),
      oneOf: tie("list"),
      allOf: tie("list"),
      $ref: fc.constantFrom("#", "#/properties/a", "#/$defs/x", "#/%", "x", 5),
      not: tie("schema"),
      title: fc.constant("t"),
    },
    { requiredKeys: [] },
  ),
}));

test("random schemas are refused, or have only texts that they allow", () => {
  let count = 0;
  fc.assert(
    fc.property(anything, fc.boolean(), fc.nat(), (schema, strict, seed) => {
      const grammar = compiled(() => compileSchema(schema, { strict }));
      if (grammar === undefined || findHeights(grammar)[0] === Infinity) return;
      count++;
      let validate: ReturnType<typeof ajv.compile>;
      try {
        validate = ajv.compile(schema as object);
      } catch {
        return; // what ajv does not take, such as a reference to a schema that is none
      }
      for (let i = 0; i < 3; i++) {
        const text = randomText(grammar, choices(seed + i));
        assert.ok(validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`);
      }
    }),
    { numRuns: 3000, seed: 21 },
  );
  assert.ok(count > 300, `${count} were compiled`);
});

test("random patterns are refused, or have only texts that they match", () => {
  const piece = fc.constantFrom(
    ...[
      "a",
      "b",
      "(",
      ")",
      "(?:",
      "(?=",
      "[",
      "]",
      "[^",
      "|",
      "*",
      "+",
      "?",
      "{2}",
      "{1,",
      "3}",
      "^",
      "$",
      ".",
      "-",
      "\\d",
      "\\",
      "\\u{1f600}",
      "é",
      "\\x4",
      "\\b",
    ],
  );
  let count = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), fc.nat(), (pieces, search, seed) => {
      const pattern = pieces.join("");
      const node = compiled(() => parsePattern(pattern, "p", search));
      if (node === undefined || findHeights([node])[0] === Infinity) return;
      count++;
      const text = randomText([node] as Node[], choices(seed));
      // Other escapes stand for themselves, as without the flag u.
      const strict = pattern.replace(/\\([-é])/g, "$1");
      const expression = new RegExp(search ? strict : `^(?:${strict})$`, "u");
      assert.ok(expression.test(text), `${JSON.stringify(text)} for ${pattern}`);
    }),
    { numRuns: 5000, seed: 22 },
  );
  assert.ok(count > 500, `${count} were compiled`);
});

test("random values are formats or refused", () => {
  const format = fc.record(
    {
      type: fc.constantFrom("json_object", "json_schema", "regex", "choice", "tagged_json"),
      schema: fc.anything(),
      pattern: fc.anything(),
      choices: fc.anything(),
      values: fc.anything(),
    },
    { requiredKeys: ["type"] },
  );
  fc.assert(
    fc.property(fc.oneof(fc.anything(), format), (value) => {
      const text = compiled(() => readFormat(value));
      if (text !== undefined) compiled(() => compileFormat(text));
    }),
    { numRuns: 2000, seed: 23 },
  );
});
