import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import type { JsonObject } from "./encoding/json.js";
import { readBytes, readJson, readTextFile, type TokenizerFiles } from "./files.js";
import { readSentencePiece, type SentencePieceModel } from "./sentencepiece.js";
import { chooseClass, rebuildForClass, type TokenizerClass } from "./tokenizer_class.js";

/** A tokenizer.json, the folder's or one made of its other files. */
export interface TokenizerSource {
  /** The file that it comes from. */
  path: string;
  tokenizer: JsonObject;
  tokenizerClass: TokenizerClass;
  /** Named tokens that the class or the file has where the settings name none. */
  defaults: JsonObject;
  /** The post-processor follows add_bos_token and add_eos_token. */
  addsByFlags: boolean;
  /** Tokens of the vocabulary file that are no plain text. */
  extraTokens: JsonObject[];
}

/** undefined where no file has a vocabulary. */
export async function readSource(files: TokenizerFiles): Promise<TokenizerSource | undefined> {
  const { folder, tokenizer, names } = files;
  const tokenizerClass = chooseClass(files);
  const at = (name: string) => join(folder, name);
  if (tokenizer !== undefined) return fromTokenizerJson(at("tokenizer.json"), tokenizer, tokenizerClass, files);
  const model = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"].find((name) => names.includes(name));
  if (model !== undefined) return named(at(model), async () => fromSentencePiece(files, at(model), tokenizerClass));
  if (names.includes("vocab.json") && names.includes("merges.txt")) {
    return named(at("vocab.json"), () => fromMerges(files, at("vocab.json"), at("merges.txt"), tokenizerClass));
  }
  if (names.includes("vocab.txt"))
    return named(at("vocab.txt"), () => fromWordPieces(files, at("vocab.txt"), tokenizerClass));
  return undefined;
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
    tokenizer: rebuilt.tokenizer,
    tokenizerClass,
    defaults: rebuilt.defaults,
    // transformers drops add_bos_token and add_eos_token where there is a tokenizer.json.
    addsByFlags: (tokenizer.post_processor ?? null) === null,
    extraTokens: [],
  };
}

async function fromMerges(
  files: TokenizerFiles,
  vocabPath: string,
  mergesPath: string,
  tokenizerClass: TokenizerClass,
): Promise<TokenizerSource> {
  if (tokenizerClass === "generic" || tokenizerClass === "LlamaTokenizer") {
    // Nothing says how text is split; byte-level is what such files mostly are.
    tokenizerClass = "GPT2Tokenizer";
  }
  const vocab = (await readJson(vocabPath, 2 ** 28)) ?? {};
  const lines = ((await readTextFile(mergesPath)) ?? "").split("\n");
  const merges = lines
    .map((line) => line.replace(/\r$/, ""))
    .filter((line, i) => line.trim() !== "" && !(i === 0 && line.startsWith("#version")));
  const model = { type: "BPE", vocab, merges, fuse_unk: false };
  const { tokenizer, defaults } = rebuildForClass(tokenizerClass, { model }, files.config ?? {});
  return {
    path: vocabPath,
    tokenizer,
    tokenizerClass,
    defaults,
    addsByFlags: (tokenizer.post_processor ?? null) === null,
    extraTokens: [],
  };
}

async function fromWordPieces(
  files: TokenizerFiles,
  path: string,
  tokenizerClass: TokenizerClass,
): Promise<TokenizerSource> {
  const lines = ((await readTextFile(path)) ?? "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  const vocab = Object.fromEntries(lines.map((line, id) => [line.replace(/\r$/, ""), id]));
  const config = files.config ?? {};
  const text = (name: string, unset: string) => contentOf(config[name]) ?? unset;
  const defaults = {
    unk_token: "[UNK]",
    sep_token: "[SEP]",
    pad_token: "[PAD]",
    cls_token: "[CLS]",
    mask_token: "[MASK]",
  };
  const [cls, sep] = [text("cls_token", "[CLS]"), text("sep_token", "[SEP]")];
  const special = (token: string, unset: number) => ({ id: token, ids: [vocab[token] ?? unset], tokens: [token] });
  const tokenizer = {
    model: {
      type: "WordPiece",
      vocab,
      unk_token: text("unk_token", "[UNK]"),
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
    },
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars !== false,
      strip_accents: config.strip_accents ?? null,
      lowercase: config.do_lower_case !== false,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: cls } }, { Sequence: { id: "A" } }, { SpecialToken: { id: sep } }],
      special_tokens: { [cls]: special(cls, 2), [sep]: special(sep, 3) },
    },
  };
  return { path, tokenizer, tokenizerClass, defaults, addsByFlags: false, extraTokens: [] };
}

/** A token in tokenizer_config.json is a string, or an object with its text as `content`. */
export function contentOf(token: unknown): string | undefined {
  const content = typeof token === "object" && token !== null ? (token as JsonObject).content : token;
  return typeof content === "string" ? content : undefined;
}

/** Classes of transformers that put the pieces of a SentencePiece model into another order. */
const reordering =
  /^(XLMRoberta|Camembert|MBart|MBart50|Nllb|Barthez|XGLM|M2M100|BigBird|Pegasus|Reformer|RemBert|FNet|Albert|XLNet|DebertaV2|Bart|Marian|SeamlessM4T|GPTSw3|CodeLlama)/;

async function fromSentencePiece(
  files: TokenizerFiles,
  path: string,
  tokenizerClass: TokenizerClass,
): Promise<TokenizerSource> {
  const data = await readBytes(path);
  if (data === undefined) throw new Error("it is gone");
  const declared = files.config?.tokenizer_class;
  if (typeof declared === "string" && reordering.test(declared)) {
    throw new Error(
      `${declared} gives the pieces other ids than the file. Save it with a tokenizer.json: AutoTokenizer.from_pretrained(...).save_pretrained(...)`,
    );
  }
  const model = readSentencePiece(data);
  const controls = model.pieces
    .map(({ text, kind }, id) => ({ id, content: text, kind }))
    .filter(({ kind }) => kind === 3 || kind === 4)
    .map(({ content, kind }) => ({ content, special: kind === 3, normalized: false, kind }));
  const source = { path, tokenizerClass, addsByFlags: true };
  if (tokenizerClass === "LlamaTokenizer" && !model.isUnigram) {
    const vocab = Object.fromEntries(model.pieces.map(({ text }, id) => [text, id]));
    const bare = { model: { type: "BPE", vocab, merges: mergesByOrder(model) } };
    const { tokenizer, defaults } = rebuildForClass("LlamaTokenizer", bare, files.config ?? {});
    return { ...source, tokenizer, defaults, extraTokens: controls };
  }
  if (declared === "T5Tokenizer" || declared === "T5TokenizerFast")
    return { ...source, ...buildT5(model), addsByFlags: false };
  const legacy = files.config?.legacy !== false;
  const defaults: JsonObject = {};
  if (model.bosId >= 0) defaults.bos_token = model.bosPiece || "<s>";
  if (model.eosId >= 0) defaults.eos_token = model.eosPiece || "</s>";
  if (model.unknownId >= 0) defaults.unk_token = model.unknownPiece || "<unk>";
  const tokenizer = buildFromSettings(model, renamePieces(model, files.config ?? {}), legacy);
  return { ...source, tokenizer, defaults, extraTokens: controls.filter(({ kind }) => kind === 3) };
}

/** T5: words at white space, ids as in the file, 100 sentinels behind it. */
function buildT5(model: SentencePieceModel): Pick<TokenizerSource, "tokenizer" | "defaults" | "extraTokens"> {
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
  const sentinels = Array.from({ length: 100 }, (_, i) => ({
    content: `<extra_id_${i}>`,
    special: true,
    normalized: false,
  }));
  const eos = Math.max(
    0,
    model.pieces.findIndex(({ text }) => text === "</s>"),
  );
  const tokenizer = {
    model: { type: "Unigram", vocab: model.pieces.map(({ text, score }) => [text, score]), unk_id: 2 },
    normalizer: model.charsMap.length === 0 ? null : { type: "Precompiled", precompiled_charsmap: model.charsMap },
    pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] },
    decoder: metaspace,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A" } }, { SpecialToken: { id: "</s>" } }],
      special_tokens: { "</s>": { id: "</s>", ids: [eos], tokens: ["</s>"] } },
    },
  };
  return { tokenizer, defaults: { eos_token: "</s>", unk_token: "<unk>", pad_token: "<pad>" }, extraTokens: sentinels };
}

/** added_tokens_decoder may name pieces otherwise than the file: placeholders get their names there. */
function renamePieces({ pieces, isUnigram }: SentencePieceModel, config: JsonObject): string[] {
  const texts = pieces.map(({ text }) => text);
  const names = isUnigram ? {} : ((config.added_tokens_decoder ?? {}) as JsonObject);
  const kept = new Set(texts.filter((_, id) => !Object.hasOwn(names, id)));
  return texts.map((text, id) => {
    const name = Object.hasOwn(names, id) ? contentOf(names[id]) : undefined;
    return name !== undefined && !kept.has(name) ? name : text;
  });
}

/** By the model's own settings, so that it encodes as SentencePiece does. */
function buildFromSettings(model: SentencePieceModel, texts: string[], legacy: boolean): JsonObject {
  const { pieces, byteFallback, addDummyPrefix } = model;
  const userDefined = texts.filter((_, id) => pieces[id]?.kind === 4);
  const replace = (pattern: JsonObject, content: string) => ({ type: "Replace", pattern, content });
  const normalizers: JsonObject[] = [];
  if (model.charsMap.length > 0) normalizers.push({ type: "Precompiled", precompiled_charsmap: model.charsMap });
  if (model.removeExtraSpaces)
    normalizers.push(replace({ Regex: "\\A +| +\\z" }, ""), replace({ Regex: " {2,}" }, " "));
  if (model.escapeSpaces) normalizers.push(replace({ String: " " }, "▁"));
  if (addDummyPrefix && legacy) normalizers.push(replace({ Regex: "\\A▁" }, "▁▁"));
  const pretokenizers: JsonObject[] = [];
  if (addDummyPrefix) {
    pretokenizers.push({
      type: "Metaspace",
      replacement: "▁",
      prepend_scheme: legacy ? "always" : "first",
      split: false,
    });
  }
  if (userDefined.length > 0) {
    const pattern = userDefined
      .sort((a, b) => b.length - a.length)
      .map(escapePattern)
      .join("|");
    pretokenizers.push({ type: "Split", pattern: { Regex: pattern }, behavior: "Isolated" });
  }
  const decoders: JsonObject[] = [replace({ String: "▁" }, " ")];
  if (byteFallback) decoders.push({ type: "ByteFallback" });
  if (addDummyPrefix || byteFallback) decoders.push({ type: "Fuse" });
  if (addDummyPrefix) decoders.push({ type: "Strip", content: " ", start: 1, stop: 0 });
  return {
    model: model.isUnigram
      ? {
          type: "Unigram",
          vocab: pieces.map(({ text, score }) => [text, score]),
          unk_id: model.unknownId,
          byte_fallback: byteFallback,
        }
      : {
          type: "BPE",
          vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
          merges: mergesByScore(model, texts),
          unk_token: model.unknownPiece,
          fuse_unk: true,
          byte_fallback: byteFallback,
          ignore_merges: userDefined.length > 0,
        },
    normalizer: { type: "Sequence", normalizers },
    pre_tokenizer: pretokenizers.length === 0 ? null : { type: "Sequence", pretokenizers },
    decoder: { type: "Sequence", decoders },
  };
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|#-]/g, "\\$&");
}

interface Merge {
  left: string;
  right: string;
  keys: number[];
}

/** All ways to split pieces into two pieces, sorted by keys. */
function splitPieces(
  ids: ReadonlyMap<string, number>,
  keysOf: (id: number, left: string, right: string) => number[],
): string[][] {
  const merges: Merge[] = [];
  for (const [text, id] of ids) {
    const characters = Array.from(text);
    // The longest pieces of published models have some tens of characters.
    if (characters.length > 512) continue;
    for (let i = 1; i < characters.length; i++) {
      const left = characters.slice(0, i).join("");
      const right = characters.slice(i).join("");
      if (ids.has(left) && ids.has(right)) merges.push({ left, right, keys: keysOf(id, left, right) });
    }
  }
  merges.sort((a, b) => {
    for (const [i, key] of a.keys.entries()) {
      const difference = key - (b.keys[i] as number);
      if (difference !== 0) return difference;
    }
    return a.left < b.left ? -1 : a.left > b.left ? 1 : 0;
  });
  return merges.map(({ left, right }) => [left, right]);
}

/** Of normal pieces only, by score and then by id. */
function mergesByScore({ pieces }: SentencePieceModel, texts: string[]): string[][] {
  const ids = new Map<string, number>();
  for (const [id, text] of texts.entries()) if (pieces[id]?.kind === 1) ids.set(text, id);
  return splitPieces(ids, (id) => [-(pieces[id]?.score ?? 0), id]);
}

/** As transformers does for LlamaTokenizer: by id, then by the lengths and ids of the parts. */
function mergesByOrder({ pieces }: SentencePieceModel): string[][] {
  const ids = new Map(pieces.map(({ text }, id) => [text, id] as const));
  const length = (text: string) => Array.from(text).length;
  return splitPieces(ids, (id, left, right) => [
    id,
    length(left),
    length(right),
    ids.get(left) as number,
    ids.get(right) as number,
  ]);
}
