import assert from "node:assert/strict";
import { test } from "node:test";
import { compileAside } from "../../dist/format/aside.js";
import { compileFormat } from "../../dist/format/compile.js";
import { readFormat } from "../../dist/format/form.js";

const formatOf = (schema: object) => readFormat({ type: "json_schema", schema });

test("a short format that needs much work is compiled in a thread, and ended there after two seconds", async () => {
  let turns = 0;
  const turning = setInterval(() => turns++, 10);
  try {
    // Each of 3,000 states of the length stands beside up to 9,000 of the pattern.
    const slow = compileAside(formatOf({ type: "string", pattern: "^(a?){3000}$", maxLength: 3000 }));
    await assert.rejects(slow, { code: "ERR_INVALID_ARGUMENT", message: /too much to compile: more than 2 seconds/ });
    assert.ok(turns > 5, `the event loop went round ${turns} times meanwhile`);
  } finally {
    clearInterval(turning);
  }
});

test("references that double what is merged at each level go to the thread too", async () => {
  const ref = (name: string) => ({ $ref: `#/$defs/${name}` });
  const $defs = { a: { allOf: [ref("a"), ref("b")] }, b: { allOf: [ref("b"), ref("a")] } };
  await assert.rejects(compileAside(formatOf({ $defs, ...ref("a") })), {
    code: "ERR_INVALID_ARGUMENT",
    message: /too much to compile/,
  });
});

test("a format is the same from a thread", async () => {
  for (const schema of [
    { type: "string", pattern: "^[a-z]{1,40}-\\d+$", maxLength: 60 },
    { type: "object", patternProperties: { "^[a-z]+$": { multipleOf: 97 } }, propertyNames: { maxLength: 30 } },
    { description: "long ".repeat(2000), type: "integer", multipleOf: 7 },
  ]) {
    const format = formatOf(schema);
    assert.deepEqual(await compileAside(format), compileFormat(format), JSON.stringify(schema).slice(0, 80));
  }
});
