import { byteCharacters } from "./byte_level.js";
import type { JsonObject } from "./encoding/json.js";

/** What a file of ranks does not say: how text is split, and the special tokens behind the ranks. */
interface RanksForm {
  words: string;
  normalizer?: JsonObject;
  /** The first ones of these; what the settings declare by id counts more. */
  specials: number;
  special(place: number, id: number): string;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const marksAndSpaces = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const lettersAndDigits = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}|${marksAndSpaces}`;
const reserved = (_place: number, id: number) => `<|reserved_token_${id}|>`;

/** As transformers takes files that say nothing (Llama 3). */
const usualForm: RanksForm = { words: lettersAndDigits("\\p{N}{1,3}"), specials: 0, special: reserved };

const upper = "(?:(?!\\p{Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])";
const lower = "(?:(?!\\p{Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])";

/** Of classes whose code is in the model's folder. */
const formsOfClasses: Readonly<Record<string, RanksForm>> = {
  // Qwen of the first generation.
  QWenTokenizer: {
    words: lettersAndDigits("\\p{N}"),
    normalizer: { type: "NFC" },
    specials: 208,
    special: (place) => ["<|endoftext|>", "<|im_start|>", "<|im_end|>"][place] ?? `<|extra_${place - 3}|>`,
  },
  // Moonlight and Kimi.
  TikTokenTokenizer: {
    words:
      `[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${contractions}?|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${contractions}?|` +
      `\\p{N}{1,3}|${marksAndSpaces}`,
    specials: 256,
    special: reserved,
  },
};

/** @throws Error for a class whose code is in the model's folder, and that is not known here. */
function chooseForm({ tokenizer_class: name, auto_map: ownCode }: JsonObject): RanksForm {
  if (typeof name === "string" && Object.hasOwn(formsOfClasses, name)) return formsOfClasses[name] as RanksForm;
  const hasCode = typeof ownCode === "object" && ownCode !== null && Object.hasOwn(ownCode, "AutoTokenizer");
  if (!hasCode) return usualForm;
  throw new Error(
    `how ${JSON.stringify(name)} splits text is code of the model's folder, which is not run. Save it with a tokenizer.json`,
  );
}

const mostTokens = 2 ** 22;
/** Tokens of more bytes are not split, which takes time of the length squared. The longest ones of published files have 128. */
const longestSplit = 512;

/** A file of lines `base64 rank`, as the tiktoken package reads it. */
export function isTiktoken(data: Uint8Array): boolean {
  return /^[A-Za-z0-9+/]+={0,2} \d+\r?\n/.test(Buffer.from(data.subarray(0, 200)).toString("latin1"));
}

/**
 * A tokenizer.json of the ranks of a tiktoken file. Tokens that tokenizer_config.json declares behind the ranks are added, with placeholders
 * between them, then those of extra_special_tokens.
 *
 * @throws Error for a line that is no token and rank.
 */
export function buildTiktoken(data: Uint8Array, config: JsonObject): JsonObject {
  const tokens: string[] = [];
  for (const [number, line] of Buffer.from(data).toString("latin1").split("\n").entries()) {
    if (line.trim() === "") continue;
    const [, token, rank] = /^([A-Za-z0-9+/]+={0,2}) (\d+)\r?$/.exec(line) ?? [];
    if (token === undefined || Number(rank) >= mostTokens)
      throw new Error(`line ${number + 1} is no base64 token with its rank`);
    tokens[Number(rank)] = spell(Buffer.from(token, "base64"));
  }
  if (tokens.length === 0 || Object.keys(tokens).length !== tokens.length) throw new Error("its ranks have gaps");
  const declared = (config.added_tokens_decoder ?? {}) as JsonObject;
  const form = chooseForm(config);
  const first = tokens.length;
  const last = Object.keys(declared).reduce((most, id) => Math.max(most, Number(id)), first + form.specials - 1);
  if (last >= mostTokens) throw new Error(`added_tokens_decoder has the id ${last}`);
  const contents: string[] = [];
  for (let id = first; id <= last; id++) {
    const content = (declared[id] as JsonObject | undefined)?.content;
    contents.push(typeof content === "string" ? content : form.special(id - first, id));
  }
  const extra = config.extra_special_tokens ?? config.additional_special_tokens;
  const named = Array.isArray(extra) ? extra : Object.keys((extra ?? {}) as JsonObject);
  const known = new Set(contents);
  for (const one of new Set(named)) if (typeof one === "string" && !known.has(one)) contents.push(one);
  const added = contents.map((content, i) => ({ id: tokens.length + i, content, special: true, normalized: false }));
  return { ...assemble(tokens, 0, [], form.words, added), normalizer: form.normalizer ?? null };
}

/**
 * A tokenizer.json of Mistral's tekken.json: special tokens first, then as many of the ranks as the vocabulary has.
 *
 * @throws Error for what is none, or of the version that does not list its special tokens.
 */
export function buildTekken(file: JsonObject): JsonObject {
  const { config, vocab, special_tokens: listed } = file as { [key: string]: unknown };
  const { pattern, default_vocab_size: size, default_num_special_tokens: specials } = (config ?? {}) as JsonObject;
  if (typeof pattern !== "string" || !Array.isArray(vocab)) throw new Error("it has no config.pattern and vocab");
  if (!Array.isArray(listed))
    throw new Error("it does not list its special tokens: an older version. Save the model with a tokenizer.json");
  const names: string[] = [];
  for (const one of listed as unknown[]) {
    const { rank, token_str: text } = (one ?? {}) as JsonObject;
    if (
      typeof text !== "string" ||
      !Number.isInteger(rank) ||
      (rank as number) >= listed.length ||
      (rank as number) < 0
    )
      throw new Error("a special token has no text and rank");
    names[rank as number] = text;
  }
  if (Object.keys(names).length !== listed.length) throw new Error("the ranks of its special tokens have gaps");
  const count = Number.isSafeInteger(specials) ? (specials as number) : names.length;
  if (count < names.length || count > mostTokens) throw new Error(`config.default_num_special_tokens is ${count}`);
  for (let id = names.length; id < count; id++) names.push(`<SPECIAL_${id}>`);
  const kept = Number.isSafeInteger(size) ? vocab.slice(0, (size as number) - count) : vocab;
  const tokens = (kept as unknown[]).map((one) => {
    const { token_bytes: token } = (one ?? {}) as JsonObject;
    if (typeof token !== "string") throw new Error("a token of its vocabulary has no token_bytes");
    return spell(Buffer.from(token, "base64"));
  });
  // transformers leaves `normalized` at its default here.
  const added = names.map((content, id) => ({ id, content, special: true, normalized: true }));
  return assemble(tokens, count, names, pattern, added);
}

function spell(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byteCharacters[byte]).join("");
}

/** Byte-level BPE whose merges are all ways to split a token into two, by its rank and then by theirs. */
function assemble(tokens: string[], first: number, before: string[], words: string, added: JsonObject[]): JsonObject {
  const ranks = new Map(tokens.map((token, rank) => [token, rank]));
  const merges: [string, string][] = [];
  for (const token of ranks.keys()) {
    if (token.length > longestSplit) continue;
    const splits: [left: number, right: number][] = [];
    for (let i = 1; i < token.length; i++) {
      const [left, right] = [ranks.get(token.slice(0, i)), ranks.get(token.slice(i))];
      if (left !== undefined && right !== undefined) splits.push([left, right]);
    }
    splits.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
    for (const [left, right] of splits) merges.push([tokens[left] as string, tokens[right] as string]);
  }
  const ids = [
    ...[...ranks].map(([token, rank]) => [token, rank + first] as const),
    ...before.map((name, id) => [name, id] as const),
  ];
  const split = { type: "Split", pattern: { Regex: words }, behavior: "Isolated" };
  return {
    model: { type: "BPE", vocab: Object.fromEntries(ids), merges, fuse_unk: false, ignore_merges: true },
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, { type: "ByteLevel", use_regex: false }] },
    decoder: { type: "ByteLevel" },
    added_tokens: added,
  };
}
