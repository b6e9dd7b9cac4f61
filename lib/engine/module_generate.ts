import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { mostSamples } from "../native/limits.js";
import type { Tokenizer } from "../tokenizer/index.js";
import type { GenerationResult } from "./generation.js";
import type { GenerationDefaults, ModelSampling } from "./generation_defaults.js";
import { checkTokenIds, type GenerationOptions, readStop } from "./generation_options.js";
import type { SamplingNotices } from "./sampling_notices.js";

/** Rows of token ids, one row, or the result of a tokenizer call. */
export type ModuleGenerateInputs =
  | readonly (readonly number[])[]
  | readonly number[]
  | {
      /** Rows of token ids, or one row. */
      inputIds: readonly (readonly number[])[] | readonly number[];
      /** Same shape: 1 for tokens, 0 for padding. */
      attentionMask?: readonly (readonly number[])[] | readonly number[];
    };

/** Options that transformers names, and means, as the engine does. */
const sharedOptions = [
  ...(["topP", "minP", "repetitionPenalty", "format"] as const),
  ...(["numBeams", "lengthPenalty", "earlyStopping"] as const),
] as const satisfies (keyof GenerationOptions)[];

/** Options of `engine.module.generate`, with the names and defaults of transformers. */
export interface ModuleGenerateOptions extends Pick<GenerationOptions, (typeof sharedOptions)[number]> {
  /** Same shape as inputIds: 1 for tokens, 0 for padding. Default: 0 for padTokenId unless that is an end token, else 1. */
  attentionMask?: readonly (readonly number[])[] | readonly number[];
  /** Maximum number of tokens of a row, prompt included and padding excluded: an integer of at least 1, and more than the prompt has. */
  maxLength?: number;
  /** Maximum number of new tokens: an integer of at least 1. Overrides maxLength. Default without either: 20, or less if the context has less room. */
  maxNewTokens?: number;
  /** Minimum number of tokens of a row, prompt included, before which no end token is chosen: an integer of at least 0. Default 0. */
  minLength?: number;
  /** Minimum number of new tokens, before which no end token is chosen: an integer of at least 0. Overrides minLength. Default 0. */
  minNewTokens?: number;
  /** Sample. Default, as of the other options: what generation_config.json says. Else false: greedy decoding, for which temperature, topK, topP and minP have no effect. */
  doSample?: boolean;
  /** Divides the logits: above 0. Default 1. */
  temperature?: number;
  /** Sample from the k most likely tokens: an integer of at least 0, 0 for all. Default 50. */
  topK?: number;
  /** Tokens that end a row; none if the array is empty. Default: from generation_config.json or config.json. */
  eosTokenId?: number | readonly number[];
  /** Padding after rows that end before others. Default: from generation_config.json, config.json or the tokenizer, else the first end token, else 0. */
  padTokenId?: number;
  /** Seed of every row: the tokens of a row do not depend on the rest of the batch. Default: as in engine.generate, a different one for each row. */
  seed?: number | bigint;
  /** Rows that become of each row of inputIds: the best texts of a beam search, or samples. An integer from 1 to 128, at most numBeams. Default 1. */
  numReturnSequences?: number;
  /** Cancels the call with ERR_ABORTED. */
  signal?: AbortSignal;
  /** Strings that end a row with the token that completes one: a string or an array of strings, none empty. Default: stop_strings of generation_config.json, else none. */
  stopStrings?: string | readonly string[];
}

const optionNames = [
  ...sharedOptions,
  "attentionMask",
  "maxLength",
  "maxNewTokens",
  "minLength",
  "minNewTokens",
  "doSample",
  "temperature",
  "topK",
  "eosTokenId",
  "padTokenId",
  "numReturnSequences",
  "seed",
  "signal",
  "stopStrings",
] as const satisfies (keyof ModuleGenerateOptions)[];

const maxInt32 = 2 ** 31 - 1;
/** New tokens where no length is given; transformers counts these from the prompt's end. */
const defaultNewTokens = 20;

/** What it needs of an engine, and of the model. */
interface Generating {
  engine: {
    readonly tokenizer: Tokenizer | undefined;
    readonly contextTokens: number;
    generate(prompt: readonly number[], options?: GenerationOptions): Promise<GenerationResult>;
  };
  defaults: GenerationDefaults;
  notices: SamplingNotices;
  vocabSize: number;
}

/** A row as it was given, and the tokens in it. */
interface Row {
  ids: readonly number[];
  tokens: number[];
}

/**
 * What `model.generate()` of transformers does: whole sequences. Every row is a sequence of its own in the engine, so what a mask takes out
 * changes nothing, wherever it stands.
 *
 * @returns (batch, longest): each row as it was given, then its new tokens, then padding.
 */
export async function moduleGenerate(
  { engine, defaults, notices, vocabSize }: Generating,
  inputs: ModuleGenerateInputs,
  options: ModuleGenerateOptions | undefined,
): Promise<number[][]> {
  const { inputIds, attentionMask } = readInputs(inputs);
  const reader = new OptionReader("module.generate option", options, optionNames);
  const eosTokenIds = readEosTokenIds(reader.get("eosTokenId")) ?? defaults.eosTokenIds;
  const named =
    reader.integer("padTokenId", 0, maxInt32, undefined) ?? defaults.padTokenId ?? engine.tokenizer?.padTokenId;
  const mask = readMask(reader.get("attentionMask"), attentionMask, inputIds.length);
  const hidden = mask === undefined && named !== undefined && !eosTokenIds.includes(named) ? named : undefined;
  const rows = inputIds.map((ids, i) => toRow(ids, i, mask, hidden, vocabSize));
  const sampling = defaults.sampling ?? {};
  const lengthOf = readLengths(reader, engine.contextTokens, sampling);
  const common = {
    ...readSampling(reader, sampling),
    stop: readStop(reader.get("stopStrings"), "stopStrings", defaults.stopStrings),
    stopTokenIds: eosTokenIds,
    ignoreEos: true, // the end tokens are those above
  };
  checkReturned(common);
  const requests = rows.map((row, i) => ({ row, options: { ...common, ...lengthOf(row.tokens.length, i) } }));
  notices.tellUnfollowed();
  const newIds = await runTogether(engine, requests, reader.signal("signal"));
  const returned = rows.flatMap((row, i) => (newIds[i] as number[][]).map((ids) => [...row.ids, ...ids]));
  return padRows(returned, named ?? eosTokenIds[0] ?? 0);
}

function readInputs(inputs: ModuleGenerateInputs): {
  inputIds: readonly (readonly number[])[];
  attentionMask: unknown;
} {
  if (Array.isArray(inputs)) return { inputIds: toRows(inputs, "inputIds"), attentionMask: undefined };
  if (typeof inputs !== "object" || inputs === null) {
    throw invalidArgument("inputIds", "rows of token ids, or an object of inputIds and attentionMask", inputs);
  }
  const reader = new OptionReader("module.generate input", inputs, ["inputIds", "attentionMask"]);
  return { inputIds: toRows(reader.get("inputIds"), "inputIds"), attentionMask: reader.get("attentionMask") };
}

/** One row may stand alone. */
function toRows(value: unknown, name: string): readonly (readonly number[])[] {
  if (!Array.isArray(value) || value.length === 0) throw invalidArgument(name, "an array of rows, not empty", value);
  const rows: unknown[] = value.some((row) => Array.isArray(row)) ? value : [value];
  for (const [i, row] of rows.entries()) {
    if (!Array.isArray(row) || row.length === 0) throw invalidArgument(`${name}[${i}]`, "a row, not empty", row);
  }
  return rows as (readonly number[])[];
}

function readMask(option: unknown, fromInputs: unknown, rowCount: number): readonly (readonly number[])[] | undefined {
  if (option !== undefined && fromInputs !== undefined) {
    throw invalidArgument("attentionMask", "given once, with the inputs or with the options", option);
  }
  const found = option ?? fromInputs;
  if (found === undefined) return undefined;
  const mask = toRows(found, "attentionMask");
  if (mask.length !== rowCount) throw invalidArgument("attentionMask", `${rowCount} rows, as inputIds has`, found);
  return mask;
}

function toRow(
  ids: readonly number[],
  index: number,
  mask: readonly (readonly number[])[] | undefined,
  hidden: number | undefined,
  vocabSize: number,
): Row {
  const name = `inputIds[${index}]`;
  checkTokenIds(ids, maxInt32, name);
  const bits = mask === undefined ? ids.map((id) => Number(id !== hidden)) : mask[index];
  if (bits?.length !== ids.length || !bits.every((bit) => bit === 0 || bit === 1)) {
    throw invalidArgument(`attentionMask[${index}]`, `${ids.length} numbers 0 or 1, as ${name} has ids`, bits);
  }
  const tokens = ids.filter((_, place) => bits[place] === 1);
  if (tokens.length === 0) throw invalidArgument(name, "at least one token that is no padding", ids);
  checkTokenIds(tokens, vocabSize, name);
  return { ids: [...ids], tokens };
}

/** The bounds of a row's new tokens, from its number of tokens. */
function readLengths(
  reader: OptionReader,
  contextTokens: number,
  ofModel: ModelSampling,
): (tokens: number, index: number) => Pick<GenerationOptions, "maxNewTokens" | "minNewTokens"> {
  // transformers takes a model's max_length of 20, its own default, as none.
  const ofModelLength = ofModel.maxLength === defaultNewTokens ? undefined : ofModel.maxLength;
  const given = reader.integer("maxNewTokens", 1, maxInt32, undefined);
  const maxLength = reader.integer("maxLength", 1, maxInt32, ofModelLength);
  const minLength = reader.integer("minLength", 0, maxInt32, ofModel.minLength ?? 0);
  const minNewTokens = reader.integer("minNewTokens", 0, maxInt32, ofModel.minNewTokens);
  const isAsked = reader.get("maxLength") !== undefined;
  return (tokens, index) => {
    // Where no room is left the engine says so. What nobody has asked for here ends with the context.
    const room = Math.max(1, contextTokens - tokens);
    const unasked = ofModel.maxNewTokens === undefined ? undefined : Math.min(ofModel.maxNewTokens, room);
    const byLength = given === undefined && unasked === undefined ? maxLength : undefined;
    if (byLength !== undefined && tokens >= byLength) {
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `Found ${tokens} tokens in inputIds[${index}] and maxLength ${byLength}, which counts them: expected maxLength to be more than the ` +
          "prompt has. Raise it, or use maxNewTokens instead.",
      );
    }
    const left = byLength === undefined ? Math.min(defaultNewTokens, room) : byLength - tokens;
    const maxNewTokens = given ?? unasked ?? (isAsked ? left : Math.min(left, room));
    // As in transformers, where the most is reached first, that ends the row.
    return { maxNewTokens, minNewTokens: Math.min(minNewTokens ?? Math.max(0, minLength - tokens), maxNewTokens) };
  };
}

function readSampling(reader: OptionReader, ofModel: ModelSampling): GenerationOptions {
  const doSample = reader.boolean("doSample", ofModel.doSample ?? false);
  const temperature = reader.number(
    "temperature",
    { above: 0, remark: "doSample: false is greedy" },
    ofModel.temperature ?? 1,
  );
  const options: Record<string, unknown> = {
    temperature: doSample ? temperature : 0,
    topK: reader.integer("topK", 0, maxInt32, ofModel.topK ?? 50),
    n: reader.integer("numReturnSequences", 1, mostSamples, 1),
    generationDefaults: "none", // the model's are in these
  };
  for (const name of [...sharedOptions, "seed"])
    options[name] = reader.get(name) ?? ofModel[name as keyof ModelSampling];
  return options;
}

/** What transformers refuses, in terms of the options that are given here; what a beam search does not go with. */
function checkReturned({ n = 1, numBeams = 1, temperature = 0 }: GenerationOptions): void {
  const refuse = (found: string, advice: string) =>
    new ShardspeedError("ERR_INVALID_ARGUMENT", `Found ${found}. ${advice}`);
  if (numBeams > 1 && temperature > 0)
    throw refuse(
      `doSample and numBeams ${numBeams}`,
      "A beam search does not sample: set doSample to false or numBeams to 1.",
    );
  if (numBeams > 1 && n > numBeams)
    throw refuse(
      `numReturnSequences ${n} and numBeams ${numBeams}`,
      "A beam search finds as many texts as it has beams.",
    );
  if (numBeams === 1 && temperature === 0 && n > 1)
    throw refuse(
      `numReturnSequences ${n} without doSample and numBeams`,
      "All of them would be the same: set one of these too.",
    );
}

function readEosTokenIds(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > maxInt32) {
      throw invalidArgument("eosTokenId", "a token id or an array of them", value);
    }
  }
  return ids as number[];
}

/** All rows at once. One failure ends the others: nobody would get their results. */
async function runTogether(
  engine: Generating["engine"],
  requests: { row: Row; options: GenerationOptions }[],
  signal: AbortSignal | undefined,
): Promise<number[][][]> {
  const together = new AbortController();
  const either = signal ? AbortSignal.any([signal, together.signal]) : together.signal;
  try {
    const results = await Promise.all(
      requests.map(({ row, options }) => engine.generate(row.tokens, { ...options, signal: either })),
    );
    return results.map(({ ids, choices }) => choices?.map((choice) => choice.ids) ?? [ids]);
  } catch (error) {
    together.abort();
    throw error;
  }
}

function padRows(rows: readonly (readonly number[])[], padTokenId: number): number[][] {
  const width = rows.reduce((most, { length }) => Math.max(most, length), 0);
  return rows.map((ids) => ids.concat(new Array<number>(width - ids.length).fill(padTokenId)));
}
