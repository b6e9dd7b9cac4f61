import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OptionReader } from "../../dist/base/option_reader.js";
import { describeRange, inRange, oneOf, orNull, textRule } from "../../dist/base/rules.js";
import { hasCode } from "../support/fixtures.js";

describe("rules", () => {
  test("of ranges say their bounds, and keep them", () => {
    const cases: [Parameters<typeof inRange>, string, number[], unknown[]][] = [
      [["integer", { minimum: 0, maximum: 5 }], "an integer from 0 to 5", [0, 5], [-1, 6, 0.5, "1", null, Number.NaN]],
      [["number", { minimum: 0 }], "a number of at least 0", [0, 0.5, 1e300], [-0.1, Number.POSITIVE_INFINITY, "1"]],
      [["number", { above: 0, maximum: 1 }], "a number above 0, at most 1", [0.001, 1], [0, 1.001]],
      [["number", { above: 0, remark: "or none" }], "a number above 0 (or none)", [1], [0]],
      [["integer", {}], "an integer", [-5], [0.5, 5n]],
    ];
    for (const [[kind, range], words, good, bad] of cases) {
      assert.equal(describeRange(kind, range), words);
      for (const value of good) assert.deepEqual(inRange(kind, range)(value), { value });
      for (const value of bad) assert.deepEqual(inRange(kind, range)(value), { expected: words });
    }
  });

  test("of words and null", () => {
    assert.deepEqual(oneOf(["a", "b"])("b"), { value: "b" });
    assert.deepEqual(oneOf(["a", "b"])("c"), { expected: "one of a, b" });
    assert.deepEqual(orNull(textRule)(null), { value: null });
    for (const value of ["", "a\0b", 5]) assert.ok("expected" in orNull(textRule)(value));
  });

  test("become errors that name the option, and leave what is unset", () => {
    const reader = new OptionReader("These options", { mode: "x", path: "p" }, ["mode", "path", "other"]);
    assert.equal(reader.text("path", undefined), "p");
    assert.equal(reader.text("other", "unset"), "unset");
    assert.throws(
      () => reader.choice("mode", ["a", "b"], "a"),
      hasCode("ERR_INVALID_ARGUMENT", /Expected mode to be one of a, b, found "x" \(string\)/),
    );
  });
});
