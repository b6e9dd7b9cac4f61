import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parseJson } from "../../dist/base/json.js";
import { parseLenientJson } from "../../dist/base/lenient_json.js";
import { AutoConfig } from "../../dist/index.js";
import { fixture } from "../support/fixtures.js";

/** As Python's json.dumps writes it, floats that JSON has no form for too. */
function dump(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(dump).join(", ")}]`;
  if (typeof value === "number") return Object.is(value, -0) ? "-0.0" : String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, one]) => `${JSON.stringify(key)}: ${dump(one)}`)
    .join(", ")}}`;
}

describe("JSON as Python writes it", () => {
  test("NaN and the infinities are numbers wherever they stand, and strings stay as they are", () => {
    const words = fc.constantFrom("NaN", "Infinity", "-Infinity", "float", 'a "NaN" \\', "\\");
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { depthSize: "small" },
        fc.oneof(fc.double(), words, fc.constant(null)),
        fc.array(tie("tree")),
        fc.dictionary(fc.oneof(words, fc.string(), fc.constant("__proto__")), tie("tree"), { noNullPrototype: true }),
      ),
    }));
    fc.assert(fc.property(tree, (value) => assert.deepEqual(parseLenientJson(dump(value)), value)));
    assert.deepEqual(parseLenientJson("NaN"), Number.NaN);
  });

  test("other words are no JSON, nor are these in other places", () => {
    for (const text of [
      "nan",
      "+Infinity",
      "-NaN",
      "{NaN: 1}",
      "1NaN",
      "Infinity1",
      '"NaN',
      "[NaN,]",
      "[Infinity x]",
    ]) {
      assert.throws(() => parseLenientJson(text), SyntaxError, text);
    }
    assert.throws(() => parseJson('{"a":\n NaN,}', "x", "ERR_CONFIG"), { message: /^x is not JSON: line 2/ });
  });

  test("deep nesting around them is refused, and does not end the process", () => {
    const text = `${"[".repeat(100_000)}NaN${"]".repeat(100_000)}`;
    assert.throws(() => parseJson(text, "x", "ERR_CONFIG"), { message: /nested deeper than 1000/ });
  });

  test("long and hostile texts take time in proportion to their length", () => {
    const times = 200_000;
    const startedAt = performance.now();
    assert.throws(() => parseLenientJson(`[NaN, "${'\\"'.repeat(times)}`), SyntaxError);
    for (const one of ["_", "\n"]) {
      const text = `float${one.repeat(times * 20)}`;
      assert.deepEqual(parseLenientJson(dump([Number.NaN, text])), [Number.NaN, text]);
    }
    const takenMs = performance.now() - startedAt;
    assert.ok(takenMs < 10_000, `took ${takenMs} ms`);
  });

  test("arrays of such words in a text stay arrays", () => {
    const text = '[NaN, ["float", "NaN"], ["\\u0066loat", "NaN"], ["", "Infinity"]]';
    const expected = [Number.NaN, ["float", "NaN"], ["float", "NaN"], ["", "Infinity"]];
    assert.deepEqual(parseLenientJson(text), expected);
  });

  test("a config.json with an infinite float is read", async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-json-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const text = readFileSync(fixture("forms/llama_fp32/config.json"), "utf8");
    writeFileSync(path.join(folder, "config.json"), text.replace("{", '{"time_step_limit": [0.0, Infinity],'));
    assert.deepEqual((await AutoConfig.fromPretrained(folder)).time_step_limit, [0, Number.POSITIVE_INFINITY]);
  });
});
