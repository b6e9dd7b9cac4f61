import type { JsonObject } from "./encoding/json.js";
import type { TokenizerFiles } from "./files.js";

/** Classes of transformers 5 that make parts of a tokenizer themselves; "generic" takes tokenizer.json as it is. */
export type TokenizerClass = "generic" | "LlamaTokenizer" | "GPT2Tokenizer" | "Qwen2Tokenizer" | "RobertaTokenizer";

/** Model types whose class is not told by tokenizer_config.json, as transformers' auto mapping has them. */
const classOfModelType: Record<string, TokenizerClass> = {
  ...Object.fromEntries(
    [
      "blip-2",
      "codegen",
      "dbrx",
      "emu3",
      "gpt2",
      "gpt_neo",
      "gptj",
      "instructblip",
      "jais2",
      "opt",
      "phi",
      "starcoder2",
    ].map((type) => [type, "GPT2Tokenizer"] as const),
  ),
  ...Object.fromEntries(["idefics", "idefics2"].map((type) => [type, "LlamaTokenizer"] as const)),
  ...Object.fromEntries(
    ["qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl"].map(
      (type) => [type, "Qwen2Tokenizer"] as const,
    ),
  ),
  ...Object.fromEntries(
    ["roberta", "bart", "longformer", "xlm-roberta-base"].map((type) => [type, "RobertaTokenizer"] as const),
  ),
};

/** Model types of the generic class whatever tokenizer_config.json says, by transformers' mapping and its list of wrong ones. */
const genericModelTypes = new Set([
  ...["aria", "bigbird_pegasus", "flex_olmo", "glm", "glm4", "glm4_moe", "gpt_bigcode", "granite", "granitemoe"],
  ...["granitemoehybrid", "granitemoeshared", "kimi_k25", "kimi_linear", "mimo_v2_flash", "ministral", "ministral3"],
  ...[
    "mistral",
    "mistral3",
    "mixtral",
    "pixtral",
    "voxtral",
    "nystromformer",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "pegasus_x",
  ],
  ...[
    "persimmon",
    "stablelm",
    "umt5",
    "xlm-roberta-xl",
    "arctic",
    "chatlm",
    "ernie4_5",
    "ernie4_5_moe",
    "fuyu",
    "h2ovl_chat",
  ],
  ...[
    "hyperclovax",
    "hyperclovax_vlm",
    "internlm2",
    "internlm3",
    "iquestcoder",
    "jamba",
    "llava",
    "llava_next",
    "minicpm3",
  ],
  ...[
    "minicpmv",
    "minimax_m2",
    "modernbert",
    "modernbert-decoder",
    "molmo",
    "molmo2",
    "nemotron",
    "nvfp4",
    "opencua",
    "openvla",
  ],
  ...["paddleocr_vl", "phi3", "phi3_v", "phimoe", "step3_vl", "vipllava", "smolvlm"],
]);

/** The class that transformers' AutoTokenizer takes, as far as it makes a difference here. */
export function chooseClass({ config, model, tokenizer }: TokenizerFiles): TokenizerClass {
  const declared = config?.tokenizer_class ?? model?.tokenizer_class;
  const name = typeof declared === "string" ? declared.replace(/Fast$/, "") : undefined;
  const type = typeof model?.model_type === "string" ? model.model_type : undefined;
  if (type !== undefined && genericModelTypes.has(type)) return "generic";
  // Models of Llama 3's kind call themselves LlamaTokenizer and are byte-level.
  if (
    name === "LlamaTokenizer" &&
    tokenizer !== undefined &&
    JSON.stringify(tokenizer.pre_tokenizer ?? null).includes('"ByteLevel"')
  ) {
    return "generic";
  }
  if (name === undefined) return (type === undefined ? undefined : classOfModelType[type]) ?? "generic";
  if (type !== undefined && (type === "qwen2" || type.startsWith("qwen3_5")))
    return classOfModelType[type] ?? "generic";
  const known: readonly string[] = ["LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "RobertaTokenizer"];
  if (name === "BartTokenizer") return "RobertaTokenizer";
  return known.includes(name) ? (name as TokenizerClass) : "generic";
}

/** What a class makes of the vocabulary and merges of a tokenizer.json: the rest of that file does not count. */
export function rebuildForClass(
  tokenizerClass: TokenizerClass,
  tokenizer: JsonObject,
  config: JsonObject,
): { tokenizer: JsonObject; defaults: JsonObject } {
  const model = tokenizer.model as JsonObject | undefined;
  const isBpe = typeof model === "object" && model !== null && Array.isArray(model.merges);
  if (!isBpe) return { tokenizer, defaults: {} };
  const post_processor = tokenizer.post_processor ?? null;
  switch (tokenizerClass) {
    case "LlamaTokenizer":
      return {
        tokenizer: { ...buildLlama(model, config), post_processor },
        defaults: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" },
      };
    case "GPT2Tokenizer": {
      const end = "<|endoftext|>";
      return {
        tokenizer: {
          model: { ...bareBpe(model), fuse_unk: false },
          pre_tokenizer: { type: "ByteLevel", add_prefix_space: config.add_prefix_space === true, use_regex: true },
          decoder: { type: "ByteLevel" },
          post_processor,
        },
        defaults: { bos_token: end, eos_token: end, unk_token: end },
      };
    }
    case "Qwen2Tokenizer":
      return {
        tokenizer: { ...buildQwen2(model, config), post_processor },
        defaults: { eos_token: "<|endoftext|>", pad_token: "<|endoftext|>", unk_token: "<|endoftext|>" },
      };
    case "RobertaTokenizer":
      return {
        tokenizer: buildRoberta(model, config),
        defaults: {
          bos_token: "<s>",
          eos_token: "</s>",
          sep_token: "</s>",
          cls_token: "<s>",
          unk_token: "<unk>",
          pad_token: "<pad>",
          mask_token: { content: "<mask>", lstrip: true },
        },
      };
    default:
      return { tokenizer, defaults: {} };
  }
}

function bareBpe({ vocab, merges }: JsonObject): JsonObject {
  return { type: "BPE", vocab, merges };
}

function buildLlama(model: JsonObject, config: JsonObject): JsonObject {
  const prefixes = config.add_prefix_space !== false;
  const scheme = !prefixes ? "never" : config.legacy === true ? "always" : "first";
  const decoders: JsonObject[] = [
    { type: "Replace", pattern: { String: "▁" }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  if (prefixes) decoders.push({ type: "Strip", content: " ", start: 1, stop: 0 });
  return {
    model: { ...bareBpe(model), fuse_unk: true, byte_fallback: true },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: scheme, split: false },
    decoder: { type: "Sequence", decoders },
  };
}

const qwen2Words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

function buildQwen2(model: JsonObject, config: JsonObject): JsonObject {
  return {
    model: { ...bareBpe(model), fuse_unk: false },
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: qwen2Words }, behavior: "Isolated" },
        { type: "ByteLevel", add_prefix_space: config.add_prefix_space === true, use_regex: false },
      ],
    },
    decoder: { type: "ByteLevel" },
  };
}

function buildRoberta(model: JsonObject, config: JsonObject): JsonObject {
  const vocab = model.vocab as JsonObject;
  const token = (name: string, unset: string) => {
    const given = config[name];
    const text = typeof given === "string" ? given : ((given as JsonObject | undefined)?.content ?? unset);
    return [text, (Object.hasOwn(vocab, String(text)) ? vocab[String(text)] : 0) as number];
  };
  return {
    model: { ...bareBpe(model), fuse_unk: false },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: config.add_prefix_space === true, use_regex: true },
    decoder: { type: "ByteLevel" },
    post_processor: { type: "RobertaProcessing", cls: token("cls_token", "<s>"), sep: token("sep_token", "</s>") },
  };
}
