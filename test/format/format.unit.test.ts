import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { compileFormat } from "../../dist/format/index.js";
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
    [{ type: "jsonSchema" }, /schema/],
    [{ type: "jsonSchema", schema: {}, strict: 1 }, /format\.strict/],
  ] as const) {
    assert.throws(() => compileFormat(format), invalid(message));
  }
  assert.deepEqual([...compileFormat({ type: "choice", choices: ["é", "b"] })], [3, 2, 0, 2, 0xc3, 0xa9, 0, 1, 98]);
  assert.ok(compileFormat({ type: "json" }).length > 100);
});
