import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Pattern } from "../../dist/tokenizer/encoding/pattern.js";

const found = (pattern: string, text: string) =>
  Array.from(new Pattern(pattern).matches(text), ({ start, end }) => text.slice(start, end));

describe("patterns of tokenizers", () => {
  const published: [string, string][] = [
    ["GPT-2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"],
    [
      "Llama 3",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
    [
      "GPT-4o",
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
    [
      "DeepSeek",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
  ];
  const text = "Hello WORLD's  it'S 12345 naïve日本語\n\n  x\t!!\r\n ok😀  ";
  for (const [name, pattern] of published) {
    test(`${name}: the pieces make the text, as JavaScript's engine has them`, () => {
      // Node 20 has no (?i:...): its content is written in both cases.
      const plain = pattern.replace(
        /\(\?i:([^)]*)\)/g,
        (_, inside: string) => `(?:${inside.replace(/[a-z]/g, (one) => `[${one}${one.toUpperCase()}]`)})`,
      );
      assert.deepEqual(found(pattern, text), text.match(new RegExp(plain, "gu")));
    });
  }

  test("white space and digits are Unicode's", () => {
    assert.deepEqual(found("\\s", "\ufeff\u0085\u3000"), ["\u0085", "\u3000"]);
    assert.deepEqual(found("\\d+", "١٢٣ 45²"), ["١٢٣", "45"]);
    assert.deepEqual(found("\\w+", "é_1 ²x"), ["é_1", "x"]);
  });

  test("possessive repeats and atomic groups give nothing back", () => {
    assert.deepEqual(found("a++a", "aaa"), []);
    assert.deepEqual(found("(?>a|ab)c", "abc ac"), ["ac"]);
    assert.deepEqual(found("a{1,3}+", "aaaa"), ["aaaa"]);
  });

  test("lookbehind, properties, unions of classes", () => {
    assert.deepEqual(found("(?<=[0-9]{1,3})x|(?<!a)b", "1x x ab cb"), ["x", "b"]);
    assert.deepEqual(found("[\\p{Han}&]+", "日本&語a"), ["日本&語"]);
    assert.deepEqual(found("[^\\S\\n]+", " \t\n "), [" \t", " "]);
    assert.deepEqual(found("[\\Da1]", "a1b2"), ["a", "1", "b"]);
    assert.deepEqual(found("[[:alpha:]-]+", "ab-c1"), ["ab-c"]);
  });

  test("any pattern and text: what JavaScript's engine finds", () => {
    const leaf = fc.constantFrom("a", "b", "[ab]", ".", "a*", "[ab]+", "b?", "[^a]*", "a{2,}", "^", "$", "\\b");
    const { node } = fc.letrec<{ node: string }>((tie) => ({
      node: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.tuple(tie("node"), tie("node")).map(([a, b]) => a + b),
        fc.tuple(tie("node"), tie("node")).map(([a, b]) => `(?:${a}|${b})`),
        fc.tuple(tie("node"), fc.constantFrom("*", "+", "*?", "+?")).map(([a, b]) => `(?:[^b]${a})${b}`),
        fc.tuple(fc.constantFrom("=", "!"), tie("node")).map(([kind, a]) => `(?${kind}${a})`),
      ),
    }));
    const texts = fc.array(fc.constantFrom("a", "b", "c", "\n", "-"), { maxLength: 14 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(node, texts, (pattern, given) => {
        const expected = Array.from(given.matchAll(new RegExp(pattern, "gum")), ([match]) => match);
        assert.deepEqual(found(pattern, given), expected, `${pattern} ${JSON.stringify(given)}`);
      }),
      { numRuns: 3000 },
    );
  });

  const slow = [
    "(a+)+b",
    "(a|aa)+$",
    "(?=.*y)a",
    "a*a*a*a*b",
    "(x+x+)+y",
    "(\\w+\\s?)*!",
    "(?:(?:a?)*)*b",
    "(a+){10}b",
    "(?>a*)*b",
  ];
  for (const pattern of slow) {
    test(`time that grows with the text only: ${pattern}`, () => {
      // An engine that tries all ways would need more than the age of the universe.
      assert.deepEqual(found(pattern, "a".repeat(5000) + "x".repeat(5000)), []);
    });
  }

  test("what is not understood is refused", () => {
    const wrong = [
      "(",
      ")",
      "[a",
      "*a",
      "a{2,1}",
      "\\1",
      "\\q",
      "(?<n",
      "\\p{Nothing}",
      "[a&&b]",
      "(?s:a)",
      "a{5000}",
      "(?<=a*)b",
      `${"(".repeat(99)}`,
      "[b-a]",
    ];
    for (const pattern of wrong) assert.throws(() => new Pattern(pattern), Error, pattern);
    assert.throws(() => new Pattern("(?:(?:a{900}){900}){900}"), /too large/);
  });
});
