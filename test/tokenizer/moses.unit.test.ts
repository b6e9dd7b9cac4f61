import assert from "node:assert/strict";
import { test } from "node:test";
import { splitByMoses } from "../../dist/tokenizer/encoding/moses.js";
import { mosesWords } from "../../dist/tokenizer/moses_decoder.js";
import { readJson } from "../support/fixtures.js";
import { tokenizersFolder } from "./fixtures.js";

/** Made by test/fixtures/tokenizers/make_moses.py with sacremoses. */
const { texts, words } = readJson<{ texts: [string, string[]][]; words: [string[], string][] }>(
  `${tokenizersFolder}moses.json`,
);

test("texts are split as sacremoses splits them", () => {
  assert.ok(texts.length > 250);
  for (const [text, expected] of texts) assert.deepEqual(splitByMoses(text), expected, JSON.stringify(text));
});

test("words come to the text that sacremoses makes of them, whatever the tokens", () => {
  for (const [row, expected] of words) {
    for (const size of [1, 3, 99]) {
      const stage = mosesWords();
      const pieces = row.flatMap((word) => {
        const characters = Array.from(word);
        const tokens: string[] = [];
        while (characters.length > 0) tokens.push(characters.splice(0, size).join(""));
        return [...tokens.slice(0, -1), `${tokens.at(-1)}</w>`].flatMap((token) => stage.push(token));
      });
      assert.equal([...pieces, ...stage.flush()].join(""), expected, JSON.stringify(row));
    }
  }
});

test("a word whose end is missing is one, and a text is written as its words end", () => {
  const stage = mosesWords();
  const pieces = ["The</w>", "c", "at</w>", "@-@</w>", "li", "ke</w>", ",</w>", "it", "s"].map((token) =>
    stage.push(token).join(""),
  );
  assert.deepEqual(pieces, ["", "", "The", "", "", "", " cat-like", "", ""]);
  assert.deepEqual(stage.flush().join(""), ", its");
});
