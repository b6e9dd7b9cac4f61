import {
  type Around,
  bytePairs,
  type ClassBuilder,
  contentOf,
  precompiled,
  replace,
  sequenceOf,
  special,
  unigramWords,
} from "./class_builder.js";
import type { JsonObject } from "./encoding/json.js";

// Classes whose vocabulary begins as Fairseq's: <s>, <pad>, </s>, <unk>.

/** Special tokens of RoBERTa and those who follow it. */
export const fairseqTokens = {
  ...{ bos_token: "<s>", eos_token: "</s>", sep_token: "</s>", cls_token: "<s>", unk_token: "<unk>" },
  ...{ pad_token: "<pad>", mask_token: "<mask>" },
};
/** What XGLM's vocabulary was filled up with. */
export const madeUpWords = Array.from({ length: 7 }, (_, i) => `<madeupword${i}>`);

/** The languages of mBART, and those of mBART-50 behind them. */
const mbartLanguages = (
  "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK " +
  "tr_TR vi_VN zh_CN"
).split(" ");
const mbart50Languages = [
  ...mbartLanguages,
  ...(
    "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX " +
    "uk_UA ur_PK xh_ZA gl_ES sl_SI"
  ).split(" "),
];

const robertaTexts: Around = {
  single: "bos_token $A eos_token",
  pair: "bos_token $A eos_token eos_token $B eos_token",
};
/** mBART-50 has no token that begins texts. */
const { bos_token: _, ...mbart50Tokens } = fairseqTokens;
const mask_token = { content: "<mask>", lstrip: true };
const leftMask = { ...fairseqTokens, mask_token };

/** The language of texts that are translated. */
function languageOf({ src_lang: language }: JsonObject, unset: string): string {
  return typeof language === "string" && /^\S+$/.test(language) ? language : unset;
}

/** Behind texts, or ahead of them. */
function languageAround(language: string, ahead: boolean): Around {
  const around = (texts: string) => (ahead ? `${language} ${texts} eos_token` : `${texts} eos_token ${language}`);
  return { single: around("$A"), pair: around("$A $B") };
}

/** Scored tokens of a vocabulary that begins as a SentencePiece model does, in Fairseq's order. */
export function fairseqVocabulary(
  pieces: readonly unknown[],
  tokenizerClass: string,
  config: JsonObject,
): unknown[] | undefined {
  const named = (name: string, unset: string) => contentOf(config[`${name}_token`]) ?? unset;
  const zero = (contents: readonly string[]) => contents.map((content) => [content, 0]);
  const first = (bos: string) =>
    zero([named(bos, "<s>"), named("pad", "<pad>"), named("eos", "</s>"), named("unk", "<unk>")]);
  const mask = zero([named("mask", "<mask>")]);
  const others = pieces.slice(3);
  switch (tokenizerClass) {
    case "XLMRobertaTokenizer":
      return [...first("bos"), ...others, ...mask];
    case "XGLMTokenizer":
      return [...first("bos"), ...others, ...zero(madeUpWords)];
    case "MBartTokenizer":
      return [...first("bos"), ...others, ...zero(mbartLanguages), ...mask];
    case "MBart50Tokenizer":
      return [...first("cls"), ...others, ...zero(mbart50Languages), ...mask];
    case "CamembertTokenizer": {
      const unused = zero(["<s>NOTUSED", named("pad", "<pad>"), "</s>NOTUSED", named("unk", "<unk>")]);
      return [...unused, ["<unk>NOTUSED", -100], ...pieces.slice(1), ...mask];
    }
    default:
      return undefined;
  }
}

export const fairseqBuilders = {
  XLMRobertaTokenizer: {
    model: "Unigram",
    build: ({ model, config, charsMap }) => ({
      tokenizer: unigramWords(model, 3, config, precompiled(charsMap)),
      defaults: fairseqTokens,
      around: robertaTexts,
    }),
  },
  XGLMTokenizer: {
    model: "Unigram",
    build({ model, config, charsMap }) {
      const { pre_tokenizer: _, ...parts } = unigramWords(model, 3, config, [
        ...precompiled(charsMap),
        replace({ Regex: " {2,}" }, " "),
      ]);
      const { mask_token: _mask, ...defaults } = fairseqTokens;
      return {
        tokenizer: { ...parts, pre_tokenizer: parts.decoder },
        defaults,
        around: { single: "eos_token $A", pair: "eos_token $A eos_token eos_token $B" },
        extraTokens: madeUpWords.map(special),
      };
    },
  },
  CamembertTokenizer: {
    model: "Unigram",
    build({ model, config, charsMap }) {
      const unknown = contentOf(config.unk_token) ?? "<unk>";
      const found = (model.vocab as unknown[][]).findIndex((entry) => entry[0] === unknown);
      return {
        tokenizer: unigramWords(model, Math.max(0, found), config, precompiled(charsMap)),
        defaults: leftMask,
        around: robertaTexts,
      };
    },
  },
  MBartTokenizer: {
    model: "Unigram",
    build: ({ model, config }) => ({
      tokenizer: unigramWords(model, 3, {}, []),
      defaults: leftMask,
      around: languageAround(languageOf(config, "en_XX"), false),
      extraTokens: mbartLanguages.map(special),
    }),
  },
  MBart50Tokenizer: {
    model: "Unigram",
    build({ model, config, charsMap }) {
      const spaces = replace({ Regex: " {2,}" }, " ");
      const parts = unigramWords(model, 3, {}, [...precompiled(charsMap), spaces]);
      return {
        tokenizer: { ...parts, pre_tokenizer: parts.decoder },
        defaults: { ...mbart50Tokens, mask_token },
        around: languageAround(languageOf(config, "en_XX"), true),
        extraTokens: mbart50Languages.map(special),
      };
    },
  },
  NllbTokenizer: {
    model: "BPE",
    build({ model, config, charsMap }) {
      const unknown = contentOf(config.unk_token) ?? "<unk>";
      const prefixed = { type: "Metaspace", prepend_scheme: "always" };
      const normalizers = [...precompiled(charsMap), replace({ Regex: " {2,}" }, " ")];
      return {
        tokenizer: {
          model: bytePairs(model, { fuse_unk: true, unk_token: unknown }),
          normalizer: charsMap === undefined ? null : sequenceOf("normalizers", normalizers),
          pre_tokenizer: prefixed,
          decoder: prefixed,
        },
        defaults: leftMask,
        around: languageAround(languageOf(config, "eng_Latn"), config.legacy_behaviour !== true),
      };
    },
  },
} satisfies Record<string, ClassBuilder>;
