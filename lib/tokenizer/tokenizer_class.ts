import type { TokenizerFiles } from "./files.js";

/** Classes of transformers 5 that make parts of a tokenizer themselves (class_parts.ts); "generic" takes tokenizer.json as it is. */
export const builtClasses = [
  ...["AlbertTokenizer", "BertTokenizer", "BioGptTokenizer", "CamembertTokenizer", "CohereTokenizer"],
  ...["DebertaV2Tokenizer", "GPT2Tokenizer", "GPTNeoXTokenizer", "GemmaTokenizer", "LlamaTokenizer"],
  ...["MBart50Tokenizer", "MBartTokenizer", "MPNetTokenizer", "NllbTokenizer", "Qwen2Tokenizer"],
  ...["RobertaTokenizer", "T5Tokenizer", "XGLMTokenizer", "XLMRobertaTokenizer"],
] as const;
export type BuiltClass = (typeof builtClasses)[number];
export type TokenizerClass = BuiltClass | "generic";

/** Classes that are the same as others. */
const sameClass: Readonly<Record<string, BuiltClass>> = {
  BartTokenizer: "RobertaTokenizer",
  CodeGenTokenizer: "GPT2Tokenizer",
  DistilBertTokenizer: "BertTokenizer",
  ElectraTokenizer: "BertTokenizer",
  LongformerTokenizer: "RobertaTokenizer",
  MobileBertTokenizer: "BertTokenizer",
};

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
  ...Object.fromEntries(
    ["bert", "distilbert", "electra", "mobilebert", "nomic_bert"].map((type) => [type, "BertTokenizer"] as const),
  ),
  ...Object.fromEntries(["gpt_neox", "mpt", "olmo", "olmoe"].map((type) => [type, "GPTNeoXTokenizer"] as const)),
  ...Object.fromEntries(
    ["gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text"].map(
      (type) => [type, "GemmaTokenizer"] as const,
    ),
  ),
  albert: "AlbertTokenizer",
  biogpt: "BioGptTokenizer",
  camembert: "CamembertTokenizer",
  mbart: "MBartTokenizer",
  cohere: "CohereTokenizer",
  cohere2: "CohereTokenizer",
  "deberta-v2": "DebertaV2Tokenizer",
  mpnet: "MPNetTokenizer",
  t5: "T5Tokenizer",
  xglm: "XGLMTokenizer",
  "xlm-roberta": "XLMRobertaTokenizer",
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
  if (Object.hasOwn(sameClass, name)) return sameClass[name] as BuiltClass;
  return builtClasses.find((one) => one === name) ?? "generic";
}
