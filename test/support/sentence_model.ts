import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { encoderFolder } from "./encoders.js";

/** A WordPiece tokenizer with BERT's form: 256 tokens, [CLS] and [SEP] around texts, pairs with types 0 and 1. */
const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ..."abcdefghijklmnopqrstuvwxyz.,:?!0123456789"];
const vocabulary = [
  ...words,
  ...Array.from({ length: 256 - words.length }, (_, i) =>
    i < 100 ? `##${words[5 + (i % 41)]}${i < 41 ? "" : i}` : `w${i}`,
  ),
];

const special = (name: string) => ({ SpecialToken: { id: name, type_id: 0 } });
/** As tokenizer.json has it. */
export const sentenceTokenizer = {
  version: "1.0",
  added_tokens: words.slice(0, 5).map((content, id) => ({
    ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  })),
  normalizer: {
    type: "BertNormalizer",
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "TemplateProcessing",
    single: [special("[CLS]"), { Sequence: { id: "A", type_id: 0 } }, special("[SEP]")],
    pair: [
      special("[CLS]"),
      { Sequence: { id: "A", type_id: 0 } },
      special("[SEP]"),
      { Sequence: { id: "B", type_id: 1 } },
      { SpecialToken: { id: "[SEP]", type_id: 1 } },
    ],
    special_tokens: {
      "[CLS]": { id: "[CLS]", ids: [2], tokens: ["[CLS]"] },
      "[SEP]": { id: "[SEP]", ids: [3], tokens: ["[SEP]"] },
    },
  },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    ...{ type: "WordPiece", unk_token: "[UNK]", continuing_subword_prefix: "##", max_input_chars_per_word: 100 },
    vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
  },
};

/** A golden encoder with a tokenizer, other files as given (by name, as JSON), and changes of its config.json. */
export function makeSentenceModel(
  t: TestContext,
  name: string,
  files: Record<string, unknown> = {},
  config: Record<string, unknown> = {},
): string {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-sentences-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(encoderFolder(name), folder, { recursive: true });
  const path = join(folder, "config.json");
  const all = {
    "tokenizer.json": sentenceTokenizer,
    "config.json": { ...JSON.parse(readFileSync(path, "utf8")), ...config },
    ...files,
  };
  for (const [file, content] of Object.entries(all)) writeJson(join(folder, file), content);
  return folder;
}

function writeJson(path: string, content: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(content));
}
