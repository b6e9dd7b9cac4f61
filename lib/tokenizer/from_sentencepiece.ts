import type { SourceParts } from "./class_builder.js";
import { contentOf } from "./class_builder.js";
import { rebuildForClass, sentinels } from "./class_parts.js";
import type { JsonObject } from "./encoding/json.js";
import { fairseqVocabulary } from "./fairseq_classes.js";
import { readSentencePiece, type SentencePieceModel } from "./sentencepiece.js";
import type { TokenizerClass } from "./tokenizer_class.js";

/** Other classes of transformers that put the pieces of a SentencePiece model into another order. */
const reordering = /^(Barthez|M2M100|BigBird|Pegasus|Reformer|RemBert|FNet|XLNet|Marian|SeamlessM4T|GPTSw3|CodeLlama)/;

/**
 * A tokenizer.json of a SentencePiece model: as the class makes it, or by the model's own settings.
 *
 * @throws Error for what is none, and for classes that give the pieces other ids in ways that are not known here.
 */
export function buildFromSentencePiece(
  data: Uint8Array,
  tokenizerClass: TokenizerClass,
  config: JsonObject,
): SourceParts {
  const declared = config.tokenizer_class;
  if (typeof declared === "string" && reordering.test(declared)) {
    throw new Error(
      `${declared} gives the pieces other ids than the file. Save it with a tokenizer.json: AutoTokenizer.from_pretrained(...).save_pretrained(...)`,
    );
  }
  const model = readSentencePiece(data);
  const controls = model.pieces
    .filter(({ kind }) => kind === 3 || kind === 4)
    .map(({ text, kind }) => ({ content: text, special: kind === 3, normalized: false }));
  const ofClass = modelOfClass(model, tokenizerClass, config);
  if (ofClass !== undefined) {
    const normalizer =
      model.charsMap.length === 0 ? null : { type: "Precompiled", precompiled_charsmap: model.charsMap };
    const given = { ...config, unk_id: model.unknownId };
    const rebuilt = rebuildForClass(tokenizerClass, { model: ofClass, normalizer }, given);
    const extraTokens = [...controls, ...(rebuilt.extraTokens ?? [])];
    return { ...rebuilt, addsByFlags: rebuilt.around === undefined, extraTokens };
  }
  const legacy = config.legacy !== false;
  const defaults: JsonObject = {};
  if (model.bosId >= 0) defaults.bos_token = model.bosPiece || "<s>";
  if (model.eosId >= 0) defaults.eos_token = model.eosPiece || "</s>";
  if (model.unknownId >= 0) defaults.unk_token = model.unknownPiece || "<unk>";
  const tokenizer = buildFromSettings(model, renamePieces(model, config), legacy);
  return { tokenizer, defaults, addsByFlags: true, extraTokens: controls.filter((token) => token.special) };
}

/** The model that a class makes of the pieces; undefined where the class makes none, or of pieces of another kind. */
function modelOfClass(
  model: SentencePieceModel,
  tokenizerClass: TokenizerClass,
  config: JsonObject,
): JsonObject | undefined {
  if (!model.isUnigram && tokenizerClass === "NllbTokenizer") return nllbModel(model, config);
  if (!model.isUnigram) {
    if (tokenizerClass !== "LlamaTokenizer" && tokenizerClass !== "GemmaTokenizer") return undefined;
    const vocab = Object.fromEntries(model.pieces.map(({ text }, id) => [text, id]));
    return { type: "BPE", vocab, merges: mergesByOrder(model) };
  }
  const pieces = model.pieces.map(({ text, score }) => [text, score]);
  const fairseq = fairseqVocabulary(pieces, tokenizerClass, config);
  if (fairseq !== undefined) return { type: "Unigram", vocab: fairseq };
  switch (tokenizerClass) {
    case "AlbertTokenizer":
    case "DebertaV2Tokenizer":
      return { type: "Unigram", vocab: pieces };
    case "T5Tokenizer":
      return { type: "Unigram", vocab: [...pieces, ...sentinels(config).map((content) => [content, 0])] };
    default:
      return undefined;
  }
}

/** Fairseq's first tokens, then all others in their order. */
function nllbModel(model: SentencePieceModel, config: JsonObject): JsonObject {
  const named = (name: string, unset: string) => contentOf(config[`${name}_token`]) ?? unset;
  const first = [named("bos", "<s>"), named("pad", "<pad>"), named("eos", "</s>"), named("unk", "<unk>")];
  const texts = new Set([...first, ...model.pieces.map(({ text }) => text)]);
  const vocab = Object.fromEntries([...texts].map((text, id) => [text, id]));
  return { type: "BPE", vocab, merges: mergesByOrder(model) };
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
