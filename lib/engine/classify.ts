import { throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { isPlainObject } from "../base/objects.js";
import { OptionReader } from "../base/option_reader.js";
import type { ModelLabels } from "../native/spec.js";
import type { ModelInfo } from "./model_info.js";
import { computeOutputs } from "./outputs.js";
import type { Session } from "./session.js";
import { checkSequence, checkTextLength, readText, readTexts, requireTokenizer, type TextReader } from "./texts.js";

/** A text, or two that are classified together: a premise and a hypothesis, a query and a document. */
export type TextOrPair =
  | string
  | {
      /** The first text. */
      text: string;
      /** The second one. */
      textPair: string;
    };

/** Options of classify(). */
export interface ClassifyOptions {
  /** How many labels to name, the likeliest first. Default 1. */
  topK?: number;
  /** Cut texts that are too long, at the tokenizer's truncationSide; else they are ERR_CONTEXT_LENGTH. Default false. */
  truncate?: boolean;
  /** Ends waiting with ERR_ABORTED. */
  signal?: AbortSignal;
}

/** A label and how likely it is. */
export interface ClassifiedLabel {
  /** As `id2label` of config.json names it. */
  label: string;
  /**
   * As the text-classification pipeline of transformers computes it from `problem_type`: the softmax over all classes, or a sigmoid of each
   * where a text may have several or there is one class; the output as it is for a regression.
   */
  score: number;
}

/** The likeliest label of a text. */
export interface Classification extends ClassifiedLabel {
  /** Of all classes, in the order of `engine.module.info.labels`. */
  logits: Float32Array;
  /** Of all classes, in the same order. Two classes may have one name: then only this order tells them apart. */
  scores: number[];
  /** The topK likeliest. */
  labels: ClassifiedLabel[];
}

/** What classifying needs of an engine. */
export interface ClassifyContext extends TextReader {
  session: Session;
  info: ModelInfo;
  problemType: ModelLabels["problemType"];
}

const optionNames = ["topK", "truncate", "signal"] as const satisfies (keyof ClassifyOptions)[];

export async function classifyTexts(
  context: ClassifyContext,
  texts: readonly unknown[],
  given: unknown,
): Promise<Classification[]> {
  const reader = new OptionReader("classify option", given, optionNames);
  const topK = reader.integer("topK", 1, Number.MAX_SAFE_INTEGER, 1);
  const limit = reader.boolean("truncate", false) ? context.contextTokens : undefined;
  const signal = reader.signal("signal");
  checkHead(context.info);
  throwIfAborted(signal);
  if (texts.length === 0) throw invalidArgument("texts", "a text or an array of at least one", texts);
  const rows = await readTexts(texts, (text, name) => readOne(context, text, name, limit), signal);
  const outputs = await computeOutputs(
    context.session,
    rows.map((row) => ({ ...row, wanted: "head" })),
    signal,
  );
  return outputs.map(({ head }) => toClassification(context, head, topK));
}

function checkHead({ head, family, task }: ModelInfo): void {
  if (head === "classes") return;
  const instead = head === "token-classes" ? "Its head classifies tokens: engine.forward() gives their logits." : "";
  throw new ShardspeedError(
    "ERR_UNSUPPORTED_MODEL",
    `Found a ${family} model for ${task}, expected one for sequence-classification, which has a head of classes. ${instead}`.trim(),
  );
}

async function readOne(context: ClassifyContext, text: unknown, name: string, limit: number | undefined) {
  if (typeof text === "string") return { tokens: await readText(context, text, name, limit) };
  if (!isPlainObject(text) || typeof text.text !== "string" || typeof text.textPair !== "string")
    throw invalidArgument(name, "a string or { text, textPair }", text);
  const { text: first, textPair: second } = text;
  if (limit === undefined) for (const one of [first, second]) checkTextLength(one, context.contextTokens, name);
  const cut = limit === undefined ? {} : { maxLength: limit };
  const pair = await requireTokenizer(context).encodePairAsync(first, second, cut);
  checkSequence(context, pair.inputIds, name, text);
  const isTyped = context.info.tokenTypes > 1;
  return { tokens: pair.inputIds, ...(isTyped ? { tokenTypes: pair.tokenTypeIds } : {}) };
}

function toClassification({ info, problemType }: ClassifyContext, logits: Float32Array, topK: number): Classification {
  const scores = scoresOf(logits, problemType);
  const order = scores
    .map((_, index) => index)
    .sort((one, other) => (scores[other] as number) - (scores[one] as number));
  const labels = order.slice(0, topK).map((index) => ({
    label: info.labels[index] as string,
    score: scores[index] as number,
  }));
  return { ...(labels[0] as ClassifiedLabel), logits, scores, labels };
}

function scoresOf(logits: Float32Array, problemType: ModelLabels["problemType"]): number[] {
  const values = [...logits];
  if (problemType === "regression") return values;
  if (problemType === "multi_label_classification" || values.length === 1) {
    return values.map((value) => 1 / (1 + Math.exp(-value)));
  }
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
