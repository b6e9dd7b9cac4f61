import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { fileLimits } from "../base/regular_file.js";
import type { SourceParts } from "./class_builder.js";
import { rebuildForClass } from "./class_parts.js";
import type { JsonObject } from "./encoding/json.js";
import { readBytes, readJson, readTextFile, type TokenizerFiles } from "./files.js";
import { buildFromSentencePiece } from "./from_sentencepiece.js";
import { buildTekken, buildTiktoken, isTiktoken } from "./tiktoken.js";
import { chooseClass, type TokenizerClass } from "./tokenizer_class.js";

/** A tokenizer.json, the folder's or one made of its other files. */
export interface TokenizerSource extends SourceParts {
  /** The file that it comes from. */
  path: string;
}

const sentencePieceNames = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"];

/** undefined where no file has a vocabulary. */
export async function readSource(files: TokenizerFiles): Promise<TokenizerSource | undefined> {
  const { folder, tokenizer, names } = files;
  const tokenizerClass = chooseClass(files);
  const at = (name: string) => join(folder, name);
  if (tokenizer !== undefined)
    return named(at("tokenizer.json"), async () =>
      fromTokenizerJson(at("tokenizer.json"), tokenizer, tokenizerClass, files),
    );
  const model = sentencePieceNames.find((name) => names.includes(name));
  if (model !== undefined) return named(at(model), async () => fromModelFile(files, at(model), tokenizerClass));
  if (names.includes("vocab.json") && names.includes("merges.txt")) {
    return named(at("vocab.json"), () => fromMerges(files, at("vocab.json"), at("merges.txt"), tokenizerClass));
  }
  if (names.includes("vocab.txt"))
    return named(at("vocab.txt"), () => fromWordPieces(files, at("vocab.txt"), tokenizerClass));
  if (names.includes("tekken.json"))
    return named(at("tekken.json"), async () => {
      const tekken = (await readJson(at("tekken.json"), fileLimits.vocabulary)) ?? {};
      return fromBytePairs(at("tekken.json"), buildTekken(tekken));
    });
  const ranks = ["tiktoken.model", "qwen.tiktoken"].find((name) => names.includes(name));
  if (ranks !== undefined) return named(at(ranks), async () => fromModelFile(files, at(ranks), tokenizerClass));
  return undefined;
}

/** Text that is split by a pattern into bytes, whatever the class. */
function fromBytePairs(path: string, tokenizer: JsonObject): TokenizerSource {
  return { path, tokenizer, defaults: {}, addsByFlags: true };
}

/** A SentencePiece model, or a tiktoken file that some folders have under such a name. */
async function fromModelFile(
  files: TokenizerFiles,
  path: string,
  tokenizerClass: TokenizerClass,
): Promise<TokenizerSource> {
  const data = await readBytes(path);
  if (data === undefined) throw new Error("it is gone");
  if (/(^|\W)(tiktoken\.model|qwen\.tiktoken)$/.test(path) || isTiktoken(data)) {
    const unset = path.endsWith("qwen.tiktoken") ? { tokenizer_class: "QWenTokenizer" } : {};
    return fromBytePairs(path, buildTiktoken(data, { ...unset, ...files.config }));
  }
  return { path, ...buildFromSentencePiece(data, tokenizerClass, files.config ?? {}) };
}

/** Names the file in the message of what it throws. */
async function named<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (ShardspeedError.isInstance(error)) throw error;
    throw new ShardspeedError("ERR_TOKENIZER", `${path} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function fromTokenizerJson(
  path: string,
  tokenizer: JsonObject,
  tokenizerClass: TokenizerClass,
  files: TokenizerFiles,
): TokenizerSource {
  const rebuilt = rebuildForClass(tokenizerClass, tokenizer, files.config ?? {});
  return {
    path,
    ...rebuilt,
    // transformers drops add_bos_token and add_eos_token where there is a tokenizer.json.
    addsByFlags: (tokenizer.post_processor ?? null) === null,
  };
}

async function fromMerges(
  files: TokenizerFiles,
  vocabPath: string,
  mergesPath: string,
  given: TokenizerClass,
): Promise<TokenizerSource> {
  // Where nothing says how text is split: byte-level is what such files mostly are.
  const tokenizerClass = given === "generic" || given === "LlamaTokenizer" ? "GPT2Tokenizer" : given;
  const vocab = (await readJson(vocabPath, 2 ** 28)) ?? {};
  const merges = ((await readTextFile(mergesPath)) ?? "")
    .split("\n")
    .map((line) => line.replace(/\r$/, ""))
    .filter((line, i) => line.trim() !== "" && !(i === 0 && line.startsWith("#version")))
    // Behind the pair fairseq's files have how often it was seen.
    .map((line) => (tokenizerClass === "BioGptTokenizer" ? line.trim().split(/\s+/).slice(0, 2).join(" ") : line));
  const rebuilt = rebuildForClass(tokenizerClass, { model: { type: "BPE", vocab, merges } }, files.config ?? {});
  return { path: vocabPath, ...rebuilt, addsByFlags: rebuilt.around === undefined };
}

async function fromWordPieces(files: TokenizerFiles, path: string, given: TokenizerClass): Promise<TokenizerSource> {
  const lines = ((await readTextFile(path)) ?? "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  const vocab = Object.fromEntries(lines.map((line, id) => [line.replace(/\r$/, ""), id]));
  const tokenizerClass = given === "MPNetTokenizer" ? given : "BertTokenizer";
  const rebuilt = rebuildForClass(tokenizerClass, { model: { type: "WordPiece", vocab } }, files.config ?? {});
  return { path, ...rebuilt, addsByFlags: false };
}
