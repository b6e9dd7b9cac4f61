import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { AddedTokens } from "../../dist/tokenizer/encoding/added_tokens.js";
import { Bpe } from "../../dist/tokenizer/encoding/bpe.js";

// Parts of encoding by themselves: what the tokenizers' cases with their short words do not reach.

describe("byte pair encoding", () => {
  const letters = ["a", "b", "c"];
  /** Merges that contend for the same letters, in the order of their ranks. */
  const merges = ["a b", "b c", "ab c", "a a", "c c", "aa aa", "bc bc", "b a", "abc abc", "cc a", "ba ba", "aaaa aaaa"];
  const vocab = new Map<string, number>();
  for (const text of [...letters, ...merges.map((merge) => merge.replace(" ", ""))])
    if (!vocab.has(text)) vocab.set(text, vocab.size);
  const texts = [...vocab.keys()];

  /** The definition: of all pairs the one of the lowest rank, of equal ones the first, until there is none. */
  function expected(word: string): string[] {
    const parts = Array.from(word);
    for (;;) {
      const ranks = parts.slice(1).map((part, i) => merges.indexOf(`${parts[i]} ${part}`));
      const found = ranks.filter((rank) => rank >= 0);
      if (found.length === 0) return parts;
      const place = ranks.indexOf(Math.min(...found));
      parts.splice(place, 2, `${parts[place]}${parts[place + 1]}`);
    }
  }

  function encode(bpe: Bpe, word: string): string[] {
    const ids: number[] = [];
    for (const _ of bpe.tokenize(word, ids));
    return ids.map((id) => texts[id] as string);
  }

  const bpe = new Bpe({ merges }, vocab, vocab.size);
  const word = (minLength: number, maxLength: number) =>
    fc.string({ unit: fc.constantFrom(...letters), minLength, maxLength });

  test("short words, and long ones, which are merged in another way", () => {
    for (const [least, most] of [
      [0, 24],
      [25, 70],
      [200, 300],
    ] as const) {
      fc.assert(
        fc.property(word(least, most), (text) => assert.deepEqual(encode(bpe, text), expected(text))),
        { numRuns: 200 },
      );
    }
  });

  test("a pair that another merge has taken is not merged again", () => {
    for (const text of ["aaa".repeat(20), "abcab".repeat(12), `${"aab".repeat(9)}cc`, "a".repeat(63)])
      assert.deepEqual(encode(bpe, text), expected(text), text);
  });

  test("a word comes out the same when it comes again, and is not mixed up with another", () => {
    const other = new Bpe({ merges }, new Map([...vocab, ["A", 90], ["B", 91]]), 100);
    for (let round = 0; round < 2; round++)
      for (const text of ["abc", "aba", "abcabc"]) assert.deepEqual(encode(other, text), expected(text));
  });
});

describe("added tokens in a text", () => {
  const none = { special: false, normalized: false, singleWord: false, lstrip: false, rstrip: false };
  const split = (text: string, flags: object, content = "<x>") =>
    [...new AddedTokens([{ id: 1, content, ...none, ...flags }], (value) => value).split(text)].map((part) =>
      "token" in part ? 1 : part.text,
    );

  test("a single word stands between what belongs to no word", () => {
    const single = { singleWord: true };
    assert.deepEqual(split("the cat", single, "cat"), ["the ", 1]);
    assert.deepEqual(split("cat!", single, "cat"), [1, "!"]);
    for (const text of ["cats", "concat", "concats", "cat_", "1cat", "écat", "caté"])
      assert.deepEqual(split(text, single, "cat"), [text]);
    assert.deepEqual(split("cats", {}, "cat"), [1, "s"]);
    assert.deepEqual(split("cats cat", single, "cat"), ["cats ", 1]);
  });

  test("white space is taken on the side that is named", () => {
    assert.deepEqual(split("a  <x>  b", {}), ["a  ", 1, "  b"]);
    assert.deepEqual(split("a  <x>  b", { lstrip: true }), ["a", 1, "  b"]);
    assert.deepEqual(split("a  <x>  b", { rstrip: true }), ["a  ", 1, "b"]);
    assert.deepEqual(split("<x>  <x>", { lstrip: true, rstrip: true }), [1, 1]);
  });
});
