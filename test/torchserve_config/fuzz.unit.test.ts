import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { ShardspeedError } from "../../dist/base/errors.js";
import { effectiveSettings, parseModelConfigYaml } from "../../dist/torchserve_config/index.js";
import { keysOf, modelYamlKeys } from "../../dist/torchserve_config/keys.js";

const valid = readFileSync(new URL("../../test/fixtures/model_config/opt-30b.yaml", import.meta.url), "utf8");

/** Read, or refused with places in lines. Whether it was read. */
function readOrRefuse(text: string): boolean {
  try {
    const yaml = parseModelConfigYaml(text);
    assert.equal(Object.getPrototypeOf(yaml.raw), Object.prototype);
    assert.ok(yaml.values.maxWorkers >= yaml.values.minWorkers && yaml.values.minWorkers >= 1);
    assert.deepEqual(effectiveSettings({ yaml }), yaml.values);
    for (const warning of yaml.warnings) assert.match(warning, /^model-config\.yaml:\d+:\d+: /);
    return true;
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
    assert.equal(error.code, "ERR_CONFIG");
    for (const line of error.message.split("\n")) assert.match(line, /^model-config\.yaml:(\d+:\d+:)? ./);
    return false;
  }
}

test("8,000 random texts", () => {
  const signs = fc.constantFrom(
    ...[
      "\n",
      " ",
      "  ",
      ":",
      ": ",
      "- ",
      "[",
      "]",
      "{",
      "}",
      ",",
      "&a ",
      "*a",
      "!!int ",
      "!x ",
      "|\n",
      ">-\n",
      "'",
      '"',
    ],
    ...[
      "#",
      "---\n",
      "...\n",
      "%YAML 1.1\n",
      "? ",
      "<<: ",
      "\t",
      "\r\n",
      "\\",
      "@",
      "`",
      "~",
      "1",
      "x",
      "yes",
      "\0",
      "\uFEFF",
      "\u2028",
    ],
    ...Object.keys(modelYamlKeys),
    "handler",
    "torchrun",
  );
  const texts = fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.array(signs, { maxLength: 40 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(texts, (text) => void readOrRefuse(text)),
    { numRuns: 8000 },
  );
});

test("8,000 mutations of a good file", () => {
  const edit = fc.record({
    at: fc.nat(valid.length),
    remove: fc.nat(12),
    insert: fc.oneof(
      fc.constant(""),
      fc.string({ unit: "grapheme", maxLength: 4 }),
      fc.constantFrom("\n", "  ", "[", ": ", "&a ", "*a", "-1", "!!set "),
    ),
  });
  let read = 0;
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      let text = valid;
      for (const { at, remove, insert } of edits) text = text.slice(0, at) + insert + text.slice(at + remove);
      if (readOrRefuse(text)) read++;
    }),
    { numRuns: 8000 },
  );
  assert.ok(read > 0 && read < 8000, `${read} were read`);
});

test("8,000 random objects, written as YAML", () => {
  const keys = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...keysOf()) },
    { weight: 1, arbitrary: fc.string({ maxLength: 8 }) },
  );
  const inner = fc.oneof(fc.constantFrom(...keysOf("torchrun"), ...keysOf("deepspeed")), fc.string({ maxLength: 8 }));
  const scalars = fc.oneof(
    fc.integer({ min: -2, max: 9 }),
    fc.boolean(),
    fc.constantFrom(null, "tp", "cpu", "x", 2 ** 31),
    fc.double(),
    fc.string(),
  );
  const values = fc.oneof(
    { weight: 3, arbitrary: scalars },
    { weight: 1, arbitrary: fc.array(scalars, { maxLength: 4 }) },
    { weight: 1, arbitrary: fc.dictionary(inner, scalars, { maxKeys: 4 }) },
    { weight: 1, arbitrary: fc.anything({ withNullPrototype: false }).filter((value) => typeof value !== "function") },
  );
  let read = 0;
  fc.assert(
    fc.property(fc.dictionary(keys, values, { maxKeys: 4, noNullPrototype: true }), (object) => {
      if (readOrRefuse(stringify(object))) read++;
    }),
    { numRuns: 8000 },
  );
  assert.ok(read > 0 && read < 8000, `${read} were read`);
});

test("1,000 handler sections of plain data come back as they were written", () => {
  // PyYAML reads other things into plain text than the library writes plainly: so text is in quotes.
  const options = { defaultStringType: "QUOTE_DOUBLE", defaultKeyType: "QUOTE_DOUBLE", lineWidth: 0 } as const;
  const leaf = fc.oneof(fc.string({ unit: "grapheme" }), fc.maxSafeInteger(), fc.boolean(), fc.constant(null));
  const key = fc.string().filter((name) => name !== "__proto__");
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie("tree"), { maxLength: 3 }),
      fc.dictionary(key, tie("tree"), { maxKeys: 3, noNullPrototype: true }),
    ),
  }));
  fc.assert(
    fc.property(fc.dictionary(key, tree, { maxKeys: 4, noNullPrototype: true }), (handler) => {
      const { raw, values } = parseModelConfigYaml(stringify({ handler }, options));
      assert.deepEqual(raw, { handler });
      assert.deepEqual(values.handler, handler);
    }),
    { numRuns: 1000 },
  );
});
