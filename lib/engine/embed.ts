import { throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import type { Pooling } from "../native/binding.js";
import { computeOutputs } from "./outputs.js";
import type { SentenceSettings } from "./sentence_settings.js";
import type { Session } from "./session.js";
import { checkSequence, readText, readTexts, requireTokenizer, type TextReader } from "./texts.js";

const poolings = {
  cls: "first",
  mean: "mean",
  max: "max",
  last: "last",
  weightedmean: "weighted mean",
  mean_sqrt_len: "mean sqrt length",
} as const satisfies Record<string, Pooling>;

/** How the hidden states of a text's tokens become its embedding. */
export type PoolingName = keyof typeof poolings;

/** Options of embed(). */
export interface EmbedOptions {
  /**
   * "cls" (the first token), "mean", "max", "last", "weightedmean" (later tokens count for more) or "mean_sqrt_len". Default: what
   * 1_Pooling/config.json of the model folder says, else "mean" for encoders and "last" for models that generate text.
   */
  pooling?: PoolingName;
  /** Scale embeddings to length 1. Default: whether modules.json of the model folder has a Normalize module. */
  normalize?: boolean;
  /** Put ahead of each text. Default: that of promptName. */
  prompt?: string;
  /** A prompt of config_sentence_transformers.json: "query", say. Default: its default_prompt_name, else none. */
  promptName?: string;
  /**
   * Cut texts that are longer than maxTokens or than the model takes, at the tokenizer's truncationSide; else what the model does not take is
   * ERR_CONTEXT_LENGTH. Default: true where there is a maxTokens.
   */
  truncate?: boolean;
  /** Tokens to which texts are cut, special ones included. Default: max_seq_length of sentence_bert_config.json, else none. */
  maxTokens?: number;
  /** Ends waiting with ERR_ABORTED. */
  signal?: AbortSignal;
}

/** Embeddings of some texts. */
export interface Embeddings {
  /** Row-major, dims [texts, width]. */
  embeddings: { data: Float32Array; dims: [number, number] };
  /** How many tokens the texts took. */
  usage: { promptTokens: number; totalTokens: number };
}

const optionNames: readonly (keyof EmbedOptions)[] = [
  ...(["pooling", "normalize", "prompt", "promptName", "truncate", "maxTokens", "signal"] as const),
];

/** What embedding needs of an engine. */
export interface EmbedContext extends TextReader {
  session: Session;
  settings: SentenceSettings;
  hiddenSize: number;
  generates: boolean;
}

/** Options with all defaults. */
interface EmbedPlan {
  poolings: readonly Pooling[];
  normalize: boolean;
  prompt: string;
  limit: number | undefined;
  signal: AbortSignal | undefined;
}

/** Embeds texts, or rows of token ids. */
export async function embedTexts(
  context: EmbedContext,
  texts: readonly unknown[],
  given: unknown,
): Promise<Embeddings> {
  const plan = planEmbedding(context, given);
  throwIfAborted(plan.signal);
  const list = [...texts];
  const ofPrompt = await countPromptTokens(context, plan.prompt);
  const rows = await readTexts(list, (text, name) => readOne(context, plan, text, name), plan.signal);
  const { poolings } = plan;
  const requests = rows.map((tokens, i) => {
    // Token ids have no prompt ahead of them.
    const poolFrom = typeof list[i] === "string" ? Math.min(ofPrompt, tokens.length - 1) : 0;
    return { tokens, wanted: "hidden", poolings, poolFrom } as const;
  });
  const computed = await computeOutputs(context.session, requests, plan.signal);
  const width = context.hiddenSize * poolings.length;
  const data = new Float32Array(rows.length * width);
  for (const [i, { hidden }] of computed.entries()) data.set(hidden, i * width);
  if (plan.normalize)
    for (let row = 0; row < rows.length; row++) normalizeRow(data.subarray(row * width, (row + 1) * width));
  const promptTokens = rows.reduce((sum, tokens) => sum + tokens.length, 0);
  return {
    embeddings: { data, dims: [rows.length, width] },
    usage: { promptTokens, totalTokens: promptTokens },
  };
}

function planEmbedding({ settings, generates, contextTokens }: EmbedContext, given: unknown): EmbedPlan {
  const reader = new OptionReader("embed option", given, optionNames);
  if (settings.problem !== undefined) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${settings.problem} Leaving them out would change embeddings: engine.forward() gives the hidden states without them.`,
    );
  }
  const name = reader.get("pooling");
  if (name !== undefined && (typeof name !== "string" || !Object.hasOwn(poolings, name)))
    throw invalidArgument("pooling", `one of ${Object.keys(poolings).join(", ")}`, name);
  const chosen = name === undefined ? settings.pooling : [poolings[name as PoolingName]];
  const most = reader.integer("maxTokens", 1, Number.MAX_SAFE_INTEGER, settings.maxTokens);
  const truncate = reader.boolean("truncate", most !== undefined);
  return {
    poolings: chosen ?? [generates ? "last" : "mean"],
    normalize: reader.boolean("normalize", settings.normalize),
    prompt: choosePrompt(settings, reader.get("prompt"), reader.get("promptName")),
    limit: truncate ? Math.min(most ?? contextTokens, contextTokens) : undefined,
    signal: reader.signal("signal"),
  };
}

function choosePrompt({ prompts, defaultPrompt }: SentenceSettings, prompt: unknown, name: unknown): string {
  if (prompt !== undefined) {
    if (typeof prompt !== "string") throw invalidArgument("prompt", "a string", prompt);
    return prompt;
  }
  if (name === undefined) return (defaultPrompt !== undefined && prompts.get(defaultPrompt)) || "";
  const found = typeof name === "string" ? prompts.get(name) : undefined;
  if (found !== undefined) return found;
  const known = [...prompts.keys()].join(", ") || "none: config_sentence_transformers.json names no prompts";
  throw invalidArgument("promptName", `one of ${known}`, name);
}

/** do_lower_case of sentence_bert_config.json. */
function inCase({ settings }: EmbedContext, text: string): string {
  return settings.lowerCase ? text.toLowerCase() : text;
}

/** Tokens of a prompt that do not count in pooling: all but special ones behind it. */
async function countPromptTokens(context: EmbedContext, prompt: string): Promise<number> {
  if (prompt === "" || context.settings.includePrompt) return 0;
  const tokenizer = requireTokenizer(context);
  const tokens = await tokenizer.encodeAsync(inCase(context, prompt));
  const last = tokens.at(-1);
  return last !== undefined && tokenizer.specialTokenIds.has(last) ? tokens.length - 1 : tokens.length;
}

async function readOne(context: EmbedContext, plan: EmbedPlan, text: unknown, name: string): Promise<number[]> {
  if (typeof text === "string") return readText(context, inCase(context, plan.prompt + text), name, plan.limit);
  const isIds = Array.isArray(text) || text instanceof Int32Array || text instanceof Uint32Array;
  if (!isIds || text.length === 0) throw invalidArgument(name, "a text, or token ids", text);
  const ids = Array.from(text as ArrayLike<number>);
  const most = plan.limit ?? ids.length;
  const tokens =
    context.tokenizer?.truncationSide === "left" ? ids.slice(Math.max(0, ids.length - most)) : ids.slice(0, most);
  checkSequence(context, tokens, name, text);
  return tokens;
}

/** To length 1, in double precision; a row of zeros stays. */
function normalizeRow(row: Float32Array): void {
  const length = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
  const divisor = Math.max(length, 1e-12);
  for (const [i, value] of row.entries()) row[i] = value / divisor;
}
