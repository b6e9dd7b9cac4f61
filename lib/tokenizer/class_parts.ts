import {
  type Around,
  bytePairs,
  type ClassBuilder,
  type ClassParts,
  contentOf,
  type Given,
  precompiled,
  replace,
  sequenceOf,
  special,
  unigramWords,
} from "./class_builder.js";
import type { JsonObject } from "./encoding/json.js";
import { fairseqBuilders, fairseqTokens } from "./fairseq_classes.js";
import type { BuiltClass, TokenizerClass } from "./tokenizer_class.js";

/**
 * What a class makes of a vocabulary: where there is a tokenizer.json, all of it but vocabulary, merges and post-processor does not count.
 * A vocabulary of another kind than the class has is taken as the file has it.
 */
export function rebuildForClass(tokenizerClass: TokenizerClass, tokenizer: JsonObject, config: JsonObject): ClassParts {
  const model = tokenizer.model as JsonObject | undefined;
  const builder = tokenizerClass === "generic" ? undefined : builders[tokenizerClass];
  if (builder === undefined || typeof model !== "object" || model === null || kindOf(model) !== builder.model)
    return { tokenizer, defaults: {} };
  const postProcessor = tokenizer.post_processor ?? null;
  return builder.build({ model, config, charsMap: findCharsMap(tokenizer.normalizer), postProcessor });
}

function kindOf({ vocab, merges }: JsonObject): ClassBuilder["model"] {
  return Array.isArray(merges) ? "BPE" : Array.isArray(vocab) ? "Unigram" : "WordPiece";
}

/** The first one of a normalizer. */
function findCharsMap(normalizer: unknown): unknown {
  if (typeof normalizer !== "object" || normalizer === null) return undefined;
  const { type, normalizers, precompiled_charsmap: found } = normalizer as JsonObject;
  if (type !== "Sequence") return type === "Precompiled" ? found : undefined;
  return (Array.isArray(normalizers) ? normalizers : []).map(findCharsMap).find((one) => one !== undefined);
}

const byteLevel = (config: JsonObject, useRegex = true): JsonObject => ({
  type: "ByteLevel",
  add_prefix_space: config.add_prefix_space === true,
  use_regex: useRegex,
});
const asSpaces = [replace({ String: "▁" }, " "), { type: "ByteFallback" }, { type: "Fuse" }];

const bertTokens = {
  ...{ unk_token: "[UNK]", sep_token: "[SEP]", pad_token: "[PAD]", cls_token: "[CLS]", mask_token: "[MASK]" },
};
const bertTexts: Around = {
  single: "cls_token $A sep_token",
  pair: "cls_token $A sep_token $B:1 sep_token:1",
};
const robertaTexts: Around = {
  single: "cls_token $A sep_token",
  pair: "cls_token $A sep_token sep_token $B sep_token",
};

const bertBuilder = (defaults: JsonObject, around: Around): ClassBuilder => ({
  model: "WordPiece",
  build: ({ model, config }) => ({
    tokenizer: {
      model: {
        type: "WordPiece",
        vocab: model.vocab,
        unk_token: contentOf(config.unk_token) ?? "[UNK]",
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
    },
    defaults,
    around,
  }),
});

const qwen2Words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** T5's <extra_id_99> ... <extra_id_0>, in the order of their ids. */
export function sentinels({ extra_ids: count }: JsonObject): string[] {
  const isCount = Number.isSafeInteger(count) && (count as number) >= 0 && (count as number) < 2 ** 20;
  const length = isCount ? (count as number) : 100;
  return Array.from({ length }, (_, i) => `<extra_id_${length - 1 - i}>`);
}

/** By the class's name; the comments of transformers' files have no more to say than this. */
const builders: Readonly<Record<BuiltClass, ClassBuilder>> = {
  BertTokenizer: bertBuilder(bertTokens, bertTexts),
  MPNetTokenizer: bertBuilder(
    { ...fairseqTokens, unk_token: "[UNK]", mask_token: { content: "<mask>", lstrip: true } },
    robertaTexts,
  ),
  AlbertTokenizer: {
    model: "Unigram",
    build: ({ model, config, charsMap }) => ({
      tokenizer: unigramWords(model, 1, config, [
        ...[replace({ String: "``" }, '"'), replace({ String: "''" }, '"')],
        ...(config.keep_accents === true ? [] : [{ type: "NFKD" }, { type: "StripAccents" }]),
        ...(config.do_lower_case === false ? [] : [{ type: "Lowercase" }]),
        ...precompiled(charsMap),
      ]),
      defaults: {
        ...{ bos_token: "[CLS]", eos_token: "[SEP]", unk_token: "<unk>", sep_token: "[SEP]", pad_token: "<pad>" },
        ...{ cls_token: "[CLS]", mask_token: "[MASK]" },
      },
      around: bertTexts,
    }),
  },
  ...fairseqBuilders,
  DebertaV2Tokenizer: { model: "Unigram", build: buildDebertaV2 },
  T5Tokenizer: {
    model: "Unigram",
    build: ({ model, config, charsMap }) => ({
      tokenizer: unigramWords(model, 2, {}, precompiled(charsMap)),
      defaults: { eos_token: "</s>", unk_token: "<unk>", pad_token: "<pad>" },
      around: { single: "$A eos_token", pair: "$A eos_token $B eos_token" },
      extraTokens: sentinels(config).reverse().map(special),
    }),
  },
  GPT2Tokenizer: {
    model: "BPE",
    build({ model, config, postProcessor }) {
      const end = "<|endoftext|>";
      const parts = { pre_tokenizer: byteLevel(config), decoder: { type: "ByteLevel" }, post_processor: postProcessor };
      return {
        tokenizer: { model: bytePairs(model), ...parts },
        defaults: { bos_token: end, eos_token: end, unk_token: end },
      };
    },
  },
  GPTNeoXTokenizer: {
    model: "BPE",
    build({ model, config }) {
      const end = "<|endoftext|>";
      const parts = { normalizer: { type: "NFC" }, pre_tokenizer: byteLevel(config), decoder: { type: "ByteLevel" } };
      return {
        // tokenizer.json's post-processor does not count either.
        tokenizer: { model: bytePairs(model), ...parts, post_processor: null },
        defaults: { bos_token: end, eos_token: end, unk_token: end, pad_token: "<|padding|>" },
      };
    },
  },
  CohereTokenizer: {
    model: "BPE",
    build: ({ model, config, postProcessor }) => ({
      tokenizer: {
        model: bytePairs(model),
        normalizer: { type: "NFC" },
        pre_tokenizer: sequenceOf("pretokenizers", [{ type: "Digits", individual_digits: true }, byteLevel(config)]),
        decoder: { type: "ByteLevel" },
        post_processor: postProcessor,
      },
      defaults: {
        ...{ bos_token: "<BOS_TOKEN>", eos_token: "<|END_OF_TURN_TOKEN|>", unk_token: "<UNK>", sep_token: "<SEP>" },
        ...{ pad_token: "<PAD>", cls_token: "<CLS>", mask_token: "<MASK_TOKEN>", padding_side: "left" },
      },
    }),
  },
  Qwen2Tokenizer: {
    model: "BPE",
    build: ({ model, config, postProcessor }) => ({
      tokenizer: {
        model: bytePairs(model),
        normalizer: { type: "NFC" },
        pre_tokenizer: sequenceOf("pretokenizers", [
          { type: "Split", pattern: { Regex: qwen2Words }, behavior: "Isolated" },
          byteLevel(config, false),
        ]),
        decoder: { type: "ByteLevel" },
        post_processor: postProcessor,
      },
      defaults: { eos_token: "<|endoftext|>", pad_token: "<|endoftext|>", unk_token: "<|endoftext|>" },
    }),
  },
  BioGptTokenizer: {
    model: "BPE",
    build: ({ model, config }) => ({
      tokenizer: {
        model: bytePairs(model, {
          ...{ end_of_word_suffix: "</w>", merges_beyond_vocab: true },
          unk_token: contentOf(config.unk_token) ?? "<unk>",
        }),
        pre_tokenizer: { type: "Moses" },
        decoder: { type: "Moses" },
      },
      defaults: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", sep_token: "</s>", pad_token: "<pad>" },
      around: { single: "sep_token $A", pair: "sep_token $A sep_token:1 $B:1" },
    }),
  },
  RobertaTokenizer: {
    model: "BPE",
    build: ({ model, config }) => ({
      tokenizer: { model: bytePairs(model), pre_tokenizer: byteLevel(config), decoder: { type: "ByteLevel" } },
      defaults: fairseqTokens,
      around: robertaTexts,
    }),
  },
  GemmaTokenizer: {
    model: "BPE",
    build: ({ model, config, postProcessor }) => ({
      tokenizer: {
        model: bytePairs(model, {
          ...{ fuse_unk: true, byte_fallback: true },
          unk_token: contentOf(config.unk_token) ?? "<unk>",
        }),
        normalizer: replace({ String: " " }, "▁"),
        pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious" },
        decoder: sequenceOf("decoders", asSpaces),
        post_processor: postProcessor,
      },
      defaults: {
        ...{ bos_token: "<bos>", eos_token: "<eos>", unk_token: "<unk>", pad_token: "<pad>", mask_token: "<mask>" },
        padding_side: "left",
      },
    }),
  },
  LlamaTokenizer: {
    model: "BPE",
    build({ model, config, postProcessor }) {
      const prefixes = config.add_prefix_space !== false;
      const scheme = !prefixes ? "never" : config.legacy === true ? "always" : "first";
      const strip = prefixes ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : [];
      return {
        tokenizer: {
          model: bytePairs(model, { fuse_unk: true, byte_fallback: true }),
          pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: scheme, split: false },
          decoder: sequenceOf("decoders", [...asSpaces, ...strip]),
          post_processor: postProcessor,
        },
        defaults: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", padding_side: "left" },
      };
    },
  },
};

function buildDebertaV2({ model, config }: Given): ClassParts {
  const unknown = contentOf(config.unk_token) ?? "[UNK]";
  const unset = Number.isSafeInteger(config.unk_id) ? config.unk_id : 1;
  const found = (model.vocab as unknown[][]).findIndex((entry) => entry[0] === unknown && entry[1] === 0);
  const prefixed = { type: "Metaspace", prepend_scheme: config.add_prefix_space === false ? "first" : "always" };
  return {
    tokenizer: {
      model: { type: "Unigram", vocab: model.vocab, unk_id: found >= 0 ? found : unset },
      normalizer: sequenceOf("normalizers", [
        ...(config.do_lower_case === true ? [{ type: "Lowercase" }] : []),
        replace({ Regex: "\\s{2,}|[\\n\\r\\t]" }, " "),
        { type: "NFC" },
        { type: "Strip", strip_left: false, strip_right: true },
      ]),
      pre_tokenizer: sequenceOf("pretokenizers", [
        ...(config.split_by_punct === true ? [{ type: "Punctuation", behavior: "Isolated" }] : []),
        prefixed,
      ]),
      decoder: prefixed,
    },
    defaults: { ...bertTokens, bos_token: "[CLS]", eos_token: "[SEP]" },
    around: bertTexts,
  };
}
