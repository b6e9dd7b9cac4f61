import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { interpolate, mostCharacters, parseProperties } from "../../../dist/serving/settings/properties.js";

const read = (text: string) => parseProperties(text, "config.properties").map(({ key, value }) => [key, value]);
const isConfigError = (pattern: RegExp) => (error: unknown) =>
  ShardspeedError.isInstance(error) && error.code === "ERR_CONFIG" && pattern.test(error.message);

test("keys end at the first =, : or blank, as in Java", () => {
  assert.deepEqual(read("a=1\nb:2\nc 3\nd = 4\ne\t:\f5\nf==6\ng = = 7\nh\ni=\n j=8"), [
    ["a", "1"],
    ["b", "2"],
    ["c", "3"],
    ["d", "4"],
    ["e", "5"],
    ["f", "=6"],
    ["g", "= 7"],
    ["h", ""],
    ["i", ""],
    ["j", "8"],
  ]);
});

test("escapes stand for characters, in keys too, and an unknown one for itself", () => {
  assert.deepEqual(read("a\\ b\\=c=\\t\\n\\r\\f\\u00e9\\\\\\q\\:"), [["a b=c", "\t\n\r\fé\\q:"]]);
  assert.deepEqual(read("key=trailing blanks  \nlast=end\\"), [
    ["key", "trailing blanks  "],
    ["last", "end"],
  ]);
  assert.throws(() => read("a=1\nb=\\u12g4"), isConfigError(/^config\.properties:2: .*four hexadecimal digits/));
});

test("an odd number of backslashes continues a line, whose blanks at the beginning are dropped", () => {
  assert.deepEqual(read('models={\\\n   \\\n\t"a": 1,\\\r\n  b}\nnext=\\\\\nlast=1'), [
    ["models", '{"a": 1,b}'],
    ["next", "\\"],
    ["last", "1"],
  ]);
  // A comment is not continued, and a continuing line is none.
  assert.deepEqual(read("# a \\\nb=1\\\n#2\n  ! c\n\n \t\n"), [["b", "1#2"]]);
});

test("lines are counted from 1, each key at its first", () => {
  const properties = parseProperties("# one\r\n\r\na=1\rb=\\\n2\nc=3", "x");
  assert.deepEqual(
    properties.map(({ key, line }) => [key, line]),
    [
      ["a", 3],
      ["b", 4],
      ["c", 6],
    ],
  );
});

test("$$NAME$$ is a variable of the environment, taken as it is", () => {
  const put = (value: string) => interpolate([{ key: "k", value, line: 7 }], { AB: "$1\\x", C_D: "2" }, "f")[0]?.value;
  assert.equal(put("<$$AB$$/$$C_D$$>"), "<$1\\x/2>");
  assert.equal(put("$$A$$ $AB$ $$AB"), "$$A$$ $AB$ $$AB"); // names of one letter are none to TorchServe either
  assert.throws(() => put("$$NO_SUCH$$"), isConfigError(/^f:7: .*NO_SUCH is not set/));
});

test("is bounded: long files, and variables that make values long", () => {
  assert.throws(() => read("a".repeat(mostCharacters + 1)), isConfigError(/at most 1 MiB/));
  const many = Array.from({ length: 20 }, (_, i) => ({ key: `k${i}`, value: "$$LONG$$", line: 1 }));
  assert.throws(() => interpolate(many, { LONG: "x".repeat(100_000) }, "f"), isConfigError(/longer than 1 MiB/));
  // Runs in which a careless pattern would look at each place again.
  for (const run of ["\\", " ", "$", "=", "$$a", "\\u0041"]) {
    const value = run.repeat(Math.floor(1e6 / run.length));
    const [property] = parseProperties(`k=${value}`, "f");
    assert.equal(property?.key, "k");
    interpolate([{ key: "k", value, line: 1 }], { a: "" }, "f");
  }
});

/** Any text as Java's Properties.store() would write it. */
function store(key: string, value: string): string {
  const escaped = (text: string, pattern: RegExp) =>
    text.replace(pattern, (character) => {
      const known = { "\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f" }[character];
      return (
        known ??
        (/[ -~]/.test(character) ? `\\${character}` : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`)
      );
    });
  return `${escaped(key, /[\s\\=:#!]|[^ -~]/g)}=${escaped(value, /^ |[\t\n\r\f\\]|[^ -~]/g)}`;
}

test("what Java would write is read back, whatever it is", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }))), (entries) => {
      const text = entries.map(([key, value]) => store(`k${key}`, value)).join("\n");
      assert.deepEqual(
        read(text),
        entries.map(([key, value]) => [`k${key}`, value]),
      );
    }),
    { numRuns: 100 },
  );
});

test("any text is read, or is a typed error", () => {
  const piece = fc.constantFrom(
    "\\",
    "\n",
    "\r",
    "=",
    ":",
    " ",
    "#",
    "!",
    "$$",
    "a",
    "PATH",
    "\\u",
    "00e9",
    "\0",
    "\f",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string())), (pieces) => {
      try {
        interpolate(parseProperties(pieces.join(""), "f"), { PATH: "$$PATH$$" }, "f");
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error), String(error));
      }
    }),
    { numRuns: 500 },
  );
});
