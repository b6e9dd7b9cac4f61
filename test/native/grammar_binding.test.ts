import assert from "node:assert/strict";
import { test } from "node:test";
import { compileFormat } from "../../dist/format/compile.js";
import { type Format, readFormat } from "../../dist/format/form.js";
import { loadNative } from "../../dist/native/load.js";

const nodesOf = (format: Format) => compileFormat(readFormat(format));

test("a grammar is compiled for a vocabulary and says which tokens may come", async () => {
  const binding = loadNative();
  const tokens = ["", "ye", "s", "no", "n", "o", "yes", "x", "y", "e"];
  const ends = Int32Array.from(tokens, (_, index) => tokens.slice(0, index + 1).join("").length);
  const vocabulary = binding.openVocabulary(Buffer.from(tokens.join("")), ends, Int32Array.of(0));
  const grammar = await vocabulary.compileGrammar(nodesOf({ type: "choice", choices: ["yes", "no"] }));
  assert.ok(grammar.number > 0 && grammar.states > 5);
  const text = grammar.begin();
  const allowed = () => tokens.flatMap((_, id) => (((text.fill()?.[0] ?? 0) >> id) & 1 ? [id] : []));
  assert.deepEqual(allowed(), [1, 3, 4, 6, 8]);
  text.accept(4);
  assert.deepEqual(allowed(), [5]);
  text.accept(5);
  assert.deepEqual(allowed(), [0]);
  const other = await vocabulary.compileGrammar(nodesOf({ type: "regex", pattern: "x+" }));
  assert.notEqual(other.number, grammar.number);

  const native = { code: "ERR_NATIVE" };
  assert.throws(() => text.accept(99), native);
  assert.throws(() => binding.openVocabulary(Buffer.from("ab"), Int32Array.of(1, 3), Int32Array.of(0)), native);
  assert.throws(() => binding.openVocabulary(Buffer.from("ab"), Int32Array.of(2, 1), Int32Array.of(0)), native);
  assert.throws(() => binding.openVocabulary(Buffer.from("ab"), Int32Array.of(1, 2), Int32Array.of(2)), native);
  assert.throws(() => vocabulary.compileGrammar([1] as never), native);
  await assert.rejects(vocabulary.compileGrammar(Int32Array.of(77)), native);
  const nothing = nodesOf({ type: "choice", choices: ["z"] });
  await assert.rejects(vocabulary.compileGrammar(nothing), { code: "ERR_INVALID_ARGUMENT" });
});
