import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import type { AddedIds } from "./encoding/post_processor.js";
import { checkSide } from "./settings.js";
import type { BatchEncoding, EncodeOptions, Encoding, Side, TokenizerCallOptions } from "./types.js";

/** What encoding needs of a tokenizer. */
export interface TextEncoder {
  readonly modelMaxLength: number;
  readonly padTokenId: number | undefined;
  readonly paddingSide: Side;
  encode(text: string, options: EncodeOptions): number[];
  addedIds(): AddedIds;
}

const callOptionNames = [
  "maxLength",
  "padding",
  "truncation",
  "addSpecialTokens",
  "paddingSide",
] as const satisfies (keyof TokenizerCallOptions)[];

/** More ids than this in one result are a mistake, such as padding to a limit that means "none". */
const mostIds = 2 ** 27;

/** Call options with transformers' rules applied. */
interface EncodingPlan {
  addSpecialTokens: boolean;
  /** Most ids of a row, added ones included; undefined: no truncation. */
  limit: number | undefined;
  /** Ids of a row: "longest" as the longest has; undefined: no padding. */
  width: number | "longest" | undefined;
  paddingSide: Side;
}

/** What calling a tokenizer does: see Tokenizer in types.ts. */
export function encodeTexts(
  encoder: TextEncoder,
  texts: string | readonly string[],
  options: TokenizerCallOptions | undefined,
): Encoding | BatchEncoding {
  const plan = planEncoding(encoder, options);
  const list = readTexts(texts);
  const { addSpecialTokens, limit } = plan;
  const encodeOptions = { addSpecialTokens, ...(limit === undefined ? {} : { maxLength: limit }) };
  const rows = list.map((text) => encoder.encode(text, encodeOptions));
  const longest = rows.reduce((most, row) => Math.max(most, row.length), 0);
  const width = plan.width === "longest" ? longest : (plan.width ?? 0);
  checkSize(rows.length, Math.max(width, longest));
  const padded = rows.map((row) => padRow(row, width, encoder.padTokenId ?? 0, plan.paddingSide));
  const [single] = padded;
  if (single !== undefined && typeof texts === "string") return single;
  return {
    inputIds: padded.map(({ inputIds }) => inputIds),
    attentionMask: padded.map(({ attentionMask }) => attentionMask),
  };
}

function readTexts(texts: unknown): readonly string[] {
  if (typeof texts === "string") return [texts];
  if (!Array.isArray(texts)) throw invalidArgument("texts", "a string or an array of strings", texts);
  for (const [i, text] of texts.entries()) {
    if (typeof text !== "string") throw invalidArgument(`texts[${i}]`, "a string", text);
  }
  return texts as string[];
}

function planEncoding(encoder: TextEncoder, options: TokenizerCallOptions | undefined): EncodingPlan {
  const reader = new OptionReader("tokenizer call option", options, callOptionNames);
  const maxLength = reader.integer("maxLength", 1, Number.MAX_SAFE_INTEGER, undefined);
  const padding = readPadding(reader.get("padding"));
  // A length alone asks for truncation.
  const truncation = readTruncation(reader.get("truncation")) ?? (maxLength !== undefined && padding === undefined);
  const addSpecialTokens = reader.boolean("addSpecialTokens", true);
  const side = reader.get("paddingSide");
  const paddingSide = side === undefined ? encoder.paddingSide : checkSide("paddingSide", side);
  // A model that states no longest input is neither truncated nor padded for.
  const stated = Number.isFinite(encoder.modelMaxLength) ? encoder.modelMaxLength : undefined;
  const length = maxLength ?? stated;
  const width = padding === "max_length" ? length : padding;
  if (width !== undefined && encoder.padTokenId === undefined) {
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      "Found a tokenizer without a padding token, which padding needs. Set one: tokenizer.padToken = tokenizer.eosToken.",
    );
  }
  const limit = truncation ? length : undefined;
  const { before, behind } = encoder.addedIds();
  if (limit !== undefined && addSpecialTokens) checkRoom(limit, before.length + behind.length);
  return { addSpecialTokens, limit, width, paddingSide };
}

/** Of transformers' strategies those differ that cut one of two texts, and there is only one here. */
function readTruncation(value: unknown): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  if (value === "longest_first" || value === "only_first") return true;
  if (value === "do_not_truncate") return false;
  throw invalidArgument("truncation", 'true, false, "longest_first" or "do_not_truncate"', value);
}

function readPadding(value: unknown): "longest" | "max_length" | undefined {
  switch (value) {
    case undefined:
    case false:
    case "do_not_pad":
      return undefined;
    case true:
    case "longest":
      return "longest";
    case "max_length":
    case "maxLength":
      return "max_length";
  }
  throw invalidArgument("padding", 'true, false, "longest" or "max_length"', value);
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT where the ids that are added alone are more. */
export function checkRoom(limit: number, added: number, to: "text" | "pair of texts" = "text"): void {
  if (limit >= added) return;
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Expected maxLength to be at least ${added}, for the special tokens that the tokenizer adds to each ${to}, found ${limit}. ` +
      (to === "text" ? "Raise it, or set addSpecialTokens to false." : "Raise it."),
  );
}

function checkSize(rows: number, width: number): void {
  if (rows * width <= mostIds) return;
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Expected no more than ${mostIds} ids in one result, found ${rows} rows of ${width}. Lower maxLength, or pass fewer texts at a time.`,
  );
}

/** Ids of a text within those that are added to it, no more than `limit` together. */
export function putAround(
  ids: number[],
  { before, behind }: AddedIds,
  limit: number | undefined,
  side: Side,
): number[] {
  const excess = Math.max(0, before.length + ids.length + behind.length - (limit ?? Number.POSITIVE_INFINITY));
  const kept = excess === 0 ? ids : side === "left" ? ids.slice(excess) : ids.slice(0, ids.length - excess);
  return before.length === 0 && behind.length === 0 ? kept : [...before, ...kept, ...behind];
}

function padRow(ids: number[], width: number, padTokenId: number, side: Side): Encoding {
  const missing = Math.max(0, width - ids.length);
  const padding = new Array<number>(missing).fill(padTokenId);
  const masked = new Array<number>(missing).fill(0);
  const seen = new Array<number>(ids.length).fill(1);
  return side === "left"
    ? { inputIds: padding.concat(ids), attentionMask: masked.concat(seen) }
    : { inputIds: ids.concat(padding), attentionMask: seen.concat(masked) };
}
