import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { plainScalar } from "../../dist/torchserve_config/scalars.js";
import { limits } from "../../dist/torchserve_config/yaml_reader.js";
import { parse, problems } from "./support.js";

describe("scalars without quotes", () => {
  // What PyYAML 6.0.3 makes of them.
  const asPyYaml: [string, unknown][] = [
    ...["yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"].map((word) => [word, true] as [string, unknown]),
    ...["no", "No", "NO", "false", "False", "FALSE", "off", "OFF"].map((word) => [word, false] as [string, unknown]),
    ...["y", "Y", "n", "N", "tRue", "nULL", "none"].map((word) => [word, word] as [string, unknown]),
    ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as [string, unknown]),
    ["0", 0],
    ["-0", 0],
    ["010", 8],
    ["0777", 511],
    ["-010", -8],
    ["08", "08"],
    ["089", "089"],
    ["+1", 1],
    ["1_000", 1000],
    ["0b101", 5],
    ["0x1F", 31],
    ["0b", "0b"],
    ["0x", "0x"],
    ["1:30", 90],
    ["-1:30", -90],
    ["1:30:15", 5415],
    ["1:99", "1:99"],
    ["0:30", "0:30"],
    ["10:20.5", 620.5],
    ["1.5", 1.5],
    ["1.", 1],
    [".5", 0.5],
    ["1.0e+5", 100000],
    ["1.5E-3", 0.0015],
    [".inf", Number.POSITIVE_INFINITY],
    ["-.INF", Number.NEGATIVE_INFINITY],
    [".NaN", Number.NaN],
    ...[".", "..", "+", "-.", "1e", ".e5", "1.2.3", "v1.0", "127.0.0.1", "../model", "./x"].map(
      (word) => [word, word] as [string, unknown],
    ),
  ];
  for (const [source, value] of asPyYaml) {
    test(JSON.stringify(source), () => assert.deepEqual(plainScalar(source), value));
  }

  test("three things otherwise than PyYAML", () => {
    assert.equal(plainScalar("1e-5"), 1e-5);
    assert.equal(plainScalar("1.0e5"), 1e5);
    assert.equal(plainScalar("0o10"), 8);
    assert.equal(plainScalar("2024-01-01"), "2024-01-01");
  });
});

test("a section for a handler, as Python sees it", () => {
  const { raw } = parse(`handler:
  model_path: .
  quoted: "yes"
  single: 'it''s'
  flow: {a: [1, two, ~], "b": on}
  literal: |
    one
      two
  folded: >-
    one
    two
  many words: of text # and a comment
  1: one
  on: two
  ! tagged: ! 12
  text: !!str 12
  number: !!int "12"
  float: !!float 3
  empty:
`);
  assert.deepEqual(raw.handler, {
    model_path: ".",
    quoted: "yes",
    single: "it's",
    flow: { a: [1, "two", null], b: true },
    literal: "one\n  two\n",
    folded: "one two",
    "many words": "of text",
    "1": "one",
    on: "two",
    tagged: "12",
    text: "12",
    number: 12,
    float: 3,
    empty: null,
  });
});

test("anchors, aliases and merge keys share nothing in the result", () => {
  const { raw, values } = parse(`base: &base {batchSize: 4, list: &list [1]}
<<: *base
handler:
  <<: [{a: 1}, {a: 2, b: 2}]
  b: 3
  list: *list
  again: *list
`);
  assert.equal(values.batchSize, 4);
  const handler = raw.handler as Record<string, unknown>;
  assert.deepEqual(handler, { a: 1, b: 3, list: [1], again: [1] });
  assert.notEqual(handler.list, handler.again);
  assert.notEqual((raw.base as Record<string, unknown>).list, handler.list);
});

test("a wrong value that was merged is named where it stands", () => {
  assert.deepEqual(problems("base: &base {batchSize: two}\n<<: *base\n"), [
    'model-config.yaml:1:25: batchSize: expected an integer of at least 1, found "two"',
  ]);
});

test("an integer that a number cannot hold gets a warning", () => {
  const { warnings } = parse("handler: {seed: 18446744073709551615, large: 1.0e+300}");
  assert.deepEqual(warnings, [
    'model-config.yaml:1:17: "18446744073709551615" has more digits than a number can hold: put it in quotes where every digit counts',
  ]);
});

test("an empty file, or one of comments only, has nothing but defaults", () => {
  for (const text of ["", "\n", "# nothing\n", "---\n", "--- ~\n...\n", "%YAML 1.1\n---\n"]) {
    const { raw, warnings, values } = parse(text);
    assert.deepEqual(raw, {}, JSON.stringify(text));
    assert.deepEqual(warnings, []);
    assert.equal(values.batchSize, 1);
  }
});

test("what a file says does not depend on the YAML version that it names", () => {
  for (const version of ["1.1", "1.2"]) {
    assert.deepEqual(parse(`%YAML ${version}\n---\nhandler: {a: yes, b: 010, c: y}\n`).raw.handler, {
      a: true,
      b: 8,
      c: "y",
    });
  }
});

describe("refused", () => {
  const cases: [string, RegExp][] = [
    ["batchSize: 1\nbatchSize: 2", /:2:1: the key batchSize was there before, in line 1: remove one$/],
    ["handler:\n  a: 1\n  b: {c: 1, c: 2}", /:3:13: the key c was there before, in line 3/],
    ["a: 1\n---\nb: 2", /:2:1: expected one document, found a second$/],
    ["[1, 2]", /:1:1: expected a map of settings, found a list$/],
    ["text", /:1:1: expected a map of settings, found "text"$/],
    ["a: [1\nb: 2", /:2:1: /],
    ["a: b: c", /:1:4: /],
    ["a:\n\tb: 1", /:2:1: .*[Tt]ab/],
    ["a: 'open", /:1:\d+: /],
    ["a: !!python/object/apply:os.system [ls]", /:1:36: the tag "!!python\/object\/apply:os\.system" is not supported/],
    ["a: !mine 1", /: the tag "!mine" is not supported/],
    ["a: !!binary aGk=", /: the tag "!!binary" is not supported/],
    ["a: !!set {x}", /: the tag "!!set" is not supported/],
    ["a: !!str {x: 1}", /: the tag "!!str" is not supported/],
    ["a: !!int many", /: expected a value of !!int, found "many"$/],
    ["a: *none", /:1:4: \*none: expected an alias of what ends before it with the anchor &none$/],
    ["a: &a [1, *a]", /:1:11: \*a: expected an alias of what ends before it/],
    ["<<: 1", /:1:1: <<: expected a map or a list of maps, found 1$/],
    ["__proto__: {x: 1}", /:1:1: __proto__ cannot be a key$/],
    ["handler: {a: {__proto__: {x: 1}}}", /:1:15: __proto__ cannot be a key$/],
    ["? [a]\n: 1", /:1:3: expected a key that is one word or text$/],
    [": 1", /:1:1: expected a key before the colon$/],
  ];
  for (const [text, line] of cases) {
    test(JSON.stringify(text), () => {
      const lines = problems(text);
      assert.match(lines[0] ?? "", line);
      assert.ok(lines.every((other) => other.startsWith("model-config.yaml:")));
    });
  }

  test("constructor and prototype are ordinary keys", () => {
    const { raw } = parse("constructor: 1\nhandler: {prototype: 2, toString: 3}");
    assert.deepEqual(Object.keys(raw), ["constructor", "handler"]);
    assert.deepEqual(raw.handler, { prototype: 2, toString: 3 });
  });

  test("only the first twenty of many are said", () => {
    const lines = problems("a: 1\n".repeat(100));
    assert.equal(lines.length, 21);
    assert.equal(lines[20], "model-config.yaml: 79 more");
  });
});

describe("files made to use up time, memory or the stack", () => {
  const tenfold = (i: number) =>
    `a${i}: &a${i} [${Array(10)
      .fill(`*a${i - 1}`)
      .join(", ")}]\n`;
  const laughs = `a0: &a0 [x]\n${Array.from({ length: 30 }, (_, i) => tenfold(i + 1)).join("")}`;
  const thousand = Array.from({ length: 1000 }, (_, i) => `k${i}: 1`).join(", ");
  const merges = `a: &a {${thousand}}\nb:\n${"  - {<<: *a}\n".repeat(10_000)}`;
  const tooMany = new RegExp(`expected at most ${limits.values} values`);
  const tooDeep = new RegExp(`expected at most ${limits.depth} levels`);

  test("aliases of aliases", () => assert.match(problems(laughs)[0] ?? "", tooMany));
  test("merges of merges", () => assert.match(problems(merges)[0] ?? "", tooMany));
  test("aliases that make it deep", () => {
    const deep = Array.from({ length: 100 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}]\n`).join("");
    assert.match(problems(`a0: &a0 [x]\n${deep}`)[0] ?? "", tooDeep);
  });

  for (const unit of ["[", "{a: ", "- ", "? ", ": ", "a:\n "]) {
    test(`many of ${JSON.stringify(unit)}`, () => {
      const text = unit.endsWith("\n ")
        ? Array.from({ length: 1000 }, (_, i) => `${" ".repeat(i)}a:\n`).join("")
        : unit.repeat(2 ** 20 / unit.length);
      assert.match(problems(text)[0] ?? "", tooDeep);
    });
  }

  test("the deepest there can be", () => {
    const nested = `${"[".repeat(limits.depth - 1)}${"]".repeat(limits.depth - 1)}`;
    parse(`a: ${nested}`);
    assert.match(problems(`a: [${nested}]`)[0] ?? "", tooDeep);
  });

  test("many values", () => {
    parse(`a: [${"1, ".repeat(limits.values - 10)}]`);
    assert.match(problems(`a: [${"1, ".repeat(limits.values)}]`)[0] ?? "", tooMany);
  });

  test("many signs", () => {
    for (const text of ["[]".repeat(2 ** 19), "&a ".repeat(300_000), "a:\n".repeat(300_000)]) {
      assert.ok(problems(text).length > 0);
    }
  });
});
