import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { compileFormat, grammarOf } from "../../dist/format/compile.js";
import { type Format, readFormat } from "../../dist/format/form.js";
import { oneOf } from "../../dist/format/nodes.js";
import { parsePattern } from "../../dist/format/pattern.js";
import { isText } from "./grammar_texts.js";

const invalid = (part: RegExp) => ({ code: "ERR_INVALID_ARGUMENT", message: part });

describe("patterns", () => {
  test("match the texts that JavaScript's do", () => {
    const texts = [
      "",
      "a",
      "b",
      "ab",
      "aab",
      "abab",
      "a1",
      " a",
      "\n",
      "é",
      "😀",
      "A-Z",
      "]",
      "a\u2028",
      "0x1F",
      "ab\n",
      "bb",
      "$",
      "a.b",
    ];
    for (const pattern of [
      ...[
        "",
        "a",
        "a|b",
        "a*b?",
        "(ab)+",
        "(?:a|b){2}",
        "(?<name>a)b",
        "a{2,}b",
        "[^a]",
        "[a-c\\d]*",
        "\\w+",
        "\\W",
        "\\s",
      ],
      ...[
        "\\S+",
        ".",
        ".*",
        "\\u00e9",
        "\\u{1f600}",
        "[\\]]",
        "[A-]+Z",
        "\\$",
        "a\\.b",
        "\\x61",
        "a+?b",
        "^a$",
        "^a|b$",
        "$",
        "^",
        "[^]",
        "[^\\n]*",
      ],
    ]) {
      const whole = [parsePattern(pattern, "p", false)];
      const found = [parsePattern(pattern, "p", true)];
      for (const text of texts) {
        assert.equal(isText(whole, text), new RegExp(`^(?:${pattern})$`, "u").test(text), `${pattern} on ${text}`);
        assert.equal(isText(found, text), new RegExp(pattern, "u").test(text), `${pattern} within ${text}`);
      }
    }
  });

  test("are refused by the name of what is not supported", () => {
    for (const [pattern, message] of [
      ["(?=a)", /lookahead/],
      ["(?<!a)b", /lookbehind/],
      ["(a)\\1", /backreferences/],
      ["(?<n>a)\\k<n>", /backreferences/],
      ["\\bword", /word boundaries/],
      ["\\p{L}", /properties of Unicode/],
      ["(?i:a)", /groups with flags/],
      ["a(^b)", /the anchor \^/],
      ["a{100000}", /repeat count/],
      ["a**", /a repeat of a repeat/],
      ["(a", /missing \)/],
      ["a)", /unmatched \)/],
      ["[a", /ends too early/],
      ["[z-a]", /wrong range/],
      ["a\\", /ends too early/],
      ["(".repeat(200), /too many groups/],
    ] as const) {
      assert.throws(() => parsePattern(pattern, "format.pattern", false), invalid(message), pattern);
    }
  });
});

test("formats that are none are refused by what is wrong with them", () => {
  for (const [format, message] of [
    [null, /format to be an object/],
    [{ type: "xml" }, /format\.type/],
    [{ type: "regex" }, /format\.pattern/],
    [{ type: "regex", pattern: "a", flags: "i" }, /format\.flags/],
    [{ type: "choice", choices: [] }, /format\.choices/],
    [{ type: "choice", choices: ["a", 1] }, /format\.choices/],
    [{ type: "json_schema" }, /schema/],
    [{ type: "json_schema", schema: {}, strict: 1 }, /format\.strict/],
    [{ type: "json_schema", schema: { description: "x".repeat(300_000) } }, /300\d\d\d characters/],
    [{ type: "tagged_json", values: [] }, /format\.values/],
    [{ type: "tagged_json", values: [{ begin: "a", schema: {} }] }, /format\.values\[0\]\.end/],
    [{ type: "tagged_json", values: [{ begin: "a", schema: 1, end: "" }] }, /format\.values\[0\]\.schema/],
    [{ type: "tagged_json", values: [{ begin: "a", schema: {}, end: "" }], most: 0 }, /format\.most/],
    [{ type: "tagged_json", values: [{ begin: "a", schema: {}, end: "" }], end: 1 }, /format\.end/],
    [{ type: "regex", pattern: "\ud800" }, /whole Unicode characters/],
    [{ type: "choice", choices: ["\udc00"] }, /whole Unicode characters/],
  ] as const) {
    assert.throws(() => readFormat(format), invalid(message));
  }
  const nodes = (format: Format) => [...compileFormat(readFormat(format))];
  assert.deepEqual(nodes({ type: "choice", choices: ["é", "b"] }), [3, 2, 0, 1, 98, 0, 2, 0xc3, 0xa9]);
  assert.ok(nodes({ type: "json_object" }).length > 100);
});

test("alternatives that begin alike stand for the same texts", () => {
  const letters = fc.array(fc.constantFrom("a", "b", "\ud83d\ude00", "\ud83d\ude01", "é"), { maxLength: 4 });
  fc.assert(
    fc.property(fc.array(letters, { minLength: 1, maxLength: 12 }), letters, (lists, other) => {
      const texts = lists.map((list) => list.join(""));
      for (const one of [...texts, other.join("")])
        assert.equal(isText([oneOf(texts)], one), texts.includes(one), `${one} of ${texts}`);
    }),
    { numRuns: 500, seed: 3 },
  );
  const nested = Array.from({ length: 300 }, (_, i) => "a".repeat(i + 1));
  for (const one of nested) assert.ok(isText([oneOf(nested)], one));
  assert.ok(!isText([oneOf(nested)], "a".repeat(301)));
});

test("JSON between texts: one to the most values, each by its own schema", () => {
  const node = { type: "object", properties: { n: { $ref: "#" } }, additionalProperties: false };
  const values = [
    { begin: "<a>", schema: { type: "integer", minimum: 1, maximum: 3 }, end: "</a>" },
    { begin: "<b>", schema: { properties: { x: { const: 1 } }, type: "object" }, strict: true, end: "" },
    { begin: "<c>", schema: { enum: ["c"] }, end: "" },
  ];
  const format = { type: "tagged_json", values, begin: "[", separator: "; ", end: "]", most: 2 } as const;
  const grammar = grammarOf(format);
  for (const text of ["[<a>2</a>]", '[<b>{"x":1}; <a>3</a>]', '[<c>"c"; <c>"c"]', "[<b>{}]"])
    assert.ok(isText(grammar, text), text);
  for (const text of ["[]", "<a>2</a>", "[<a>4</a>]", '[<b>{"y":1}]', '[<c>"c"; <c>"c"; <c>"c"]', '[<c>"c"<c>"c"]'])
    assert.ok(!isText(grammar, text), text);
  // Rules of a schema that calls itself are those of its own.
  const recursive = grammarOf({
    type: "tagged_json",
    values: [
      { begin: "", schema: {}, end: "" },
      { begin: "!", schema: node, end: "" },
    ],
  });
  const called = recursive.flatMap((rule) =>
    [...JSON.stringify(rule).matchAll(/"index":(\d+)/g)].map(([, index]) => Number(index)),
  );
  assert.ok(Math.max(...called) < recursive.length);
});
