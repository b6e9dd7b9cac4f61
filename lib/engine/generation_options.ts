import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { describeRange, inRange, type NumberRange, oneOf, type Rule, rule } from "../base/rules.js";
import { type Format, readFormat } from "../format/form.js";
import type { SamplingParameters } from "../native/binding.js";
import { mostLogprobs, mostSamples } from "../native/limits.js";
import {
  type EarlyStopping,
  type GenerationDefaults,
  type ModelSampling,
  toGenerationOptions,
} from "./generation_defaults.js";
import { nextSeed, readSeed } from "./seed.js";
import { mostBias, readTokenLimits, type TokenLimits } from "./token_limits.js";

/** How to sample, and when to stop. All options are optional. */
export interface GenerationOptions {
  /**
   * Maximum number of new tokens: an integer of at least 1; with promptLogprobs also 0, to read the prompt alone. Default 256, or less if the
   * context has less room.
   */
  maxNewTokens?: number;
  /** Minimum number of new tokens, before which no stop token is chosen: an integer from 0 to maxNewTokens. Default 0. */
  minNewTokens?: number;
  /** Divides the logits before sampling: a number of at least 0. Default 0: greedy decoding, for which topK, topP and minP have no effect. */
  temperature?: number;
  /** Sample from the k most likely tokens: an integer of at least 0. Default 0: from all. */
  topK?: number;
  /** Sample from the most likely tokens whose probabilities add up to this: above 0, at most 1. Default 1: from all. */
  topP?: number;
  /** Sample from tokens with at least this fraction of the highest probability: from 0 to 1. Default 0: from all. */
  minP?: number;
  /** Divides positive and multiplies negative logits of tokens in the prompt or the new text: above 0. Default 1: no penalty. */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens in the new text: from -2 to 2. Default 0. */
  presencePenalty?: number;
  /** Subtracted from the logits of tokens once for each occurrence in the new text: from -2 to 2. Default 0. */
  frequencyPenalty?: number;
  /** The same seed gives the same samples: an integer from 0 to 2^53 - 1, or a bigint below 2^64. Default: the next seed of manualSeed(), else random. */
  seed?: number | bigint;
  /**
   * Strings that end the text, which does not contain them: a string or an array of strings, none empty. They may be, or contain, special tokens.
   * Default: stop_strings of the model's generation_config.json, else none; an empty array means none.
   */
  stop?: string | readonly string[];
  /** Tokens that end the sequence, besides the model's end-of-sequence tokens. Default none. */
  stopTokenIds?: readonly number[];
  /** Do not stop at the model's end-of-sequence tokens and stop_strings. Default false. */
  ignoreEos?: boolean;
  /** Leave special tokens in the text, such as the tags of a tool call. Default false. */
  keepSpecialTokens?: boolean;
  /**
   * Samples of the prompt: an integer from 1 to 128. Above 1 the result has `choices`. The prompt is computed once. Sample k is what `n: 1` gives
   * with the seed sampleSeed(seed, k). Default 1.
   */
  n?: number;
  /** Make no drafts for this call, where the engine makes any. Default false. It changes no token. */
  noSpeculation?: boolean;
  /** Share what was computed of prompts only with calls of the same salt: a string. Default "". It changes no token. */
  cacheSalt?: string;
  /**
   * Added to the logits of tokens, ahead of penalties: an object or a Map of token ids and numbers from -100 to 100. -100 all but forbids a token,
   * 100 all but forces it. Default none.
   */
  logitBias?: Readonly<Record<string, number>> | ReadonlyMap<number, number>;
  /** The only tokens that may be chosen: an array of at least one token id. To end a text before maxNewTokens, it needs a stop token too. Default: all. */
  allowedTokenIds?: readonly number[];
  /**
   * Words that are not generated: a string or an array of up to 1,000 strings, none empty. The last token of a word, with or without a space ahead
   * of it, is not chosen behind its other tokens; those may be the end of the prompt. Default none.
   */
  badWords?: string | readonly string[];
  /**
   * The form of the text: `{ type: "json_object" }`, `{ type: "json_schema", schema }`, `{ type: "regex", pattern }` or `{ type: "choice",
   * choices }`. Only tokens come that keep to it, and an end-of-sequence token only where the text is complete; maxNewTokens may still cut it off.
   * Default: any text.
   */
  format?: Format;
  /** Return log-probabilities of the new tokens: true or 0; a number from 1 to 20 adds that many of the most likely tokens at each step. Default false. */
  logprobs?: boolean | number;
  /**
   * Return log-probabilities of the prompt's tokens behind the first one, with their ranks: true or 0; a number from 1 to 20 adds that many of
   * the most likely tokens at each place. They are of the model's own distribution, and nothing of such a prompt is taken from a cache. Default false.
   */
  promptLogprobs?: boolean | number;
  /**
   * "model": what is unset is as the model's generation_config.json says, as in transformers: do_sample, temperature, top_k, top_p, min_p,
   * repetition_penalty, max_new_tokens, min_new_tokens. Default "none": the defaults of these options.
   */
  generationDefaults?: "model" | "none";
  /** Cancels the call with ERR_ABORTED. */
  signal?: AbortSignal;
  /**
   * Beam search with so many beams, as in transformers: an integer from 1 to 128. The result is the text with the best score, or the `n` best ones.
   * It needs temperature 0 and no stop strings, and cannot be streamed. Default 1: none.
   */
  numBeams?: number;
  /** Of a beam search: a text's score is the sum of its log-probabilities, divided by its length to the power of this number. Default 1. */
  lengthPenalty?: number;
  /**
   * When a beam search ends that has found as many texts as it has beams: at once (true); when the best beam is no better than these (false); or
   * when it could not become better ("never"). Default false.
   */
  earlyStopping?: EarlyStopping;
}

/** Checked options of a beam search. */
export interface BeamOptions {
  beams: number;
  lengthPenalty: number;
  earlyStopping: EarlyStopping;
}

/** Checked generation options with all defaults. */
export interface ResolvedGenerationOptions extends SamplingParameters, TokenLimits {
  maxNewTokens: number;
  /** Whether the caller set maxNewTokens. If so, a context that is too short is an error; otherwise it limits maxNewTokens. */
  maxNewTokensGiven: boolean;
  /** From 0 to 2^64 - 1. */
  seed: bigint;
  n: number;
  /** undefined: no beam search. */
  beamSearch: BeamOptions | undefined;
  stop: string[];
  /** The caller's stop tokens and, unless ignoreEos, the model's end-of-sequence tokens, without duplicates. */
  stopTokenIds: number[];
  keepSpecialTokens: boolean;
  noSpeculation: boolean;
  cacheSalt: string;
  /** As readFormat() wrote it; undefined: any text. */
  format: string | undefined;
  /** undefined: none; n: those of the chosen token and of the n most likely tokens. */
  logprobs: number | undefined;
  /** The same of the prompt's tokens. */
  promptLogprobs: number | undefined;
  signal: AbortSignal | undefined;
}

/** A row of the table: the forms of an option in code, in a request and on a command line. */
interface Row {
  /** One line for --help and docs/cli.md. */
  help: string;
  /** Text for the default. */
  unsetText?: string;
  /** Letter of the short flag. */
  short?: string;
  /** Not available in requests to handlers and in model-config.yaml. */
  notInRequests?: true;
}

interface NumericRow extends Row {
  kind: "integer" | "number";
  range: NumberRange;
  /** Another option whose value is the maximum. */
  upTo?: "maxNewTokens";
  unset: number;
}

interface OtherRow extends Row {
  kind:
    | "seed"
    | "texts"
    | "tokenIds"
    | "biases"
    | "format"
    | "flag"
    | "logprobs"
    | "samples"
    | "lengthPenalty"
    | "earlyStopping"
    | "defaults";
  /** Text for the accepted values. */
  expected: string;
}

export type GenerationOptionRow = NumericRow | OtherRow;
type NumericOption = "maxNewTokens" | keyof SamplingParameters;
/** All options except the signal, which has no text form, and the salt, which is for programs that serve several users. */
export type GenerationOptionName = Exclude<keyof GenerationOptions, "signal" | "cacheSalt">;

const maxInt32 = 2 ** 31 - 1;

function integer(minimum: number, unset: number, help: string, more: Partial<NumericRow> = {}): NumericRow {
  return { kind: "integer", range: { minimum, maximum: maxInt32 }, unset, help, ...more };
}

function number(range: NumberRange, unset: number, help: string, more: Partial<NumericRow> = {}): NumericRow {
  return { kind: "number", range, unset, help, ...more };
}

function other(kind: OtherRow["kind"], expected: string, help: string, more: Partial<OtherRow> = {}): OtherRow {
  return { kind, expected, help, ...more };
}

/**
 * The generation options, each once: from this table come their names, ranges and defaults, the flags of `shardspeed generate`, the parameters
 * of requests to handlers, and the rows of docs/cli.md.
 */
export const generationOptions: Readonly<
  Record<NumericOption, NumericRow> & Record<Exclude<GenerationOptionName, NumericOption>, OtherRow>
> = {
  maxNewTokens: integer(1, 256, "maximum number of new tokens", {
    short: "n",
    unsetText: "256, or the rest of the context",
  }),
  minNewTokens: integer(0, 0, "minimum number of new tokens: no earlier stop token", { upTo: "maxNewTokens" }),
  temperature: number({ minimum: 0 }, 0, "divides the logits before sampling; 0 is greedy decoding", { short: "t" }),
  topK: integer(0, 0, "sample from the k most likely tokens; 0: from all"),
  topP: number({ above: 0, maximum: 1 }, 1, "sample from the most likely tokens whose probabilities add up to this"),
  minP: number(
    { minimum: 0, maximum: 1 },
    0,
    "sample from tokens with at least this fraction of the highest probability",
  ),
  repetitionPenalty: number({ above: 0 }, 1, "above 1: makes tokens of the prompt and the new text less likely"),
  presencePenalty: number({ minimum: -2, maximum: 2 }, 0, "subtracted from the logits of tokens in the new text"),
  frequencyPenalty: number({ minimum: -2, maximum: 2 }, 0, "subtracted once for each occurrence in the new text"),
  seed: other("seed", "integer from 0 to 2^64 - 1", "the same seed gives the same samples", {
    short: "s",
    unsetText: "random",
  }),
  n: other("samples", `integer from 1 to ${mostSamples}`, "samples of the prompt", {
    unsetText: "1",
    notInRequests: true,
  }),
  stop: other("texts", "text", "stop before this text, which is not written; may be given several times", {
    unsetText: "the model's",
  }),
  stopTokenIds: other("tokenIds", "`1,2,3`", "stop at these tokens too, besides the model's own"),
  ignoreEos: other("flag", "", "do not stop at the model's end-of-sequence tokens and stop strings"),
  keepSpecialTokens: other("flag", "", "leave special tokens in the text"),
  noSpeculation: other("flag", "", "make no drafts"),
  logitBias: other("biases", "`15=5,27=-100`", `added to the logits of tokens; from -${mostBias} to ${mostBias}`),
  allowedTokenIds: other("tokenIds", "`1,2,3`", "choose none but these tokens", { unsetText: "all" }),
  badWords: other("texts", "text", "do not generate this word; may be given several times"),
  format: other(
    "format",
    "`json_object`, JSON, `@FILE` with JSON",
    'the form of the text, such as `{"type":"regex","pattern":"[a-z]+"}`',
    { unsetText: "any" },
  ),
  logprobs: other(
    "logprobs",
    `integer from 0 to ${mostLogprobs}`,
    "with `--json`: log-probabilities of the new tokens, and of n of the most likely",
    { unsetText: "none, 0 without a number", notInRequests: true },
  ),
  promptLogprobs: other(
    "logprobs",
    `integer from 0 to ${mostLogprobs}`,
    "with `--json`: log-probabilities of the prompt's tokens, and of n of the most likely",
    { unsetText: "none, 0 without a number", notInRequests: true },
  ),
  generationDefaults: other(
    "defaults",
    "`model`, `none`",
    "take what is unset from the model's generation_config.json",
    {
      unsetText: "none",
    },
  ),
  numBeams: other("samples", `integer from 1 to ${mostSamples}`, "beams of a beam search; 1: none", { unsetText: "1" }),
  lengthPenalty: other("lengthPenalty", "number", "of a beam search: texts are rated by their length to this power", {
    unsetText: "1",
  }),
  earlyStopping: other(
    "earlyStopping",
    "`true`, `false`, `never`",
    "end a beam search when it has found as many texts as it has beams",
    { unsetText: "false" },
  ),
};

export const generationOptionNames = Object.keys(generationOptions) as GenerationOptionName[];
const knownNames: readonly string[] = [...generationOptionNames, "cacheSalt", "signal"];
const numericOptions = generationOptionNames.filter(
  (name): name is NumericOption => "unset" in generationOptions[name],
);

/** Sampling parameters at their defaults, which do not change the logits. */
export const neutralSampling: SamplingParameters = pickSampling(
  (name) => (generationOptions[name] as NumericRow).unset,
);

/** The parameters that the native side takes under the same names. */
export function samplingOf(options: ResolvedGenerationOptions): SamplingParameters {
  return pickSampling((name) => options[name]);
}

function pickSampling(read: (name: NumericOption) => number): SamplingParameters {
  const { maxNewTokens: _, ...sampling } = Object.fromEntries(
    numericOptions.map((name) => [name, read(name)]),
  ) as unknown as Record<NumericOption, number>;
  return sampling;
}

/** Text for the accepted values of an option: "integer of at least 1". */
export function describeValues(row: GenerationOptionRow): string {
  if ("expected" in row) return row.expected;
  const { minimum, maximum } = row.range;
  if (row.upTo !== undefined) return `integer from ${minimum} to ${row.upTo}`;
  const range = maximum === maxInt32 ? { ...row.range, maximum: undefined } : row.range;
  return describeRange(row.kind, range).replace(/^an? /, "");
}

/**
 * Checks generation options and fills in defaults. The caller's object is left as it is.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT, naming the option, what was found and what is expected.
 */
export function resolveGenerationOptions(options: unknown, defaults?: GenerationDefaults): ResolvedGenerationOptions {
  const reader = new OptionReader("generation option", options, knownNames);
  const ofModel: ModelSampling =
    reader.read("generationDefaults", oneOf(["model", "none"]), "none") === "model" && defaults !== undefined
      ? toGenerationOptions(defaults)
      : {};
  const promptLogprobs = readLogprobs(reader.get("promptLogprobs"), "promptLogprobs");
  const numbers: Partial<Record<NumericOption, number>> = {};
  for (const name of numericOptions) {
    const { kind, range, upTo, unset } = generationOptions[name];
    const bounded = { ...range };
    if (upTo !== undefined) bounded.maximum = numbers[upTo] as number;
    if (name === "maxNewTokens" && promptLogprobs !== undefined) bounded.minimum = 0;
    numbers[name] =
      reader.read(name, inRange(kind, bounded), undefined) ?? takeOfModel(name, ofModel, bounded, kind) ?? unset;
  }
  const ignoreEos = reader.boolean("ignoreEos", false);
  const stopTokenIds = [
    ...readTokenIds(reader.get("stopTokenIds")),
    ...(ignoreEos ? [] : (defaults?.eosTokenIds ?? [])),
  ];
  const resolved: ResolvedGenerationOptions = {
    maxNewTokensGiven: reader.get("maxNewTokens") !== undefined,
    ...(numbers as Record<NumericOption, number>),
    seed: reader.get("seed") === undefined ? nextSeed() : readSeed(reader.get("seed")),
    n: reader.integer("n", 1, mostSamples, 1),
    beamSearch: readBeamSearch(reader),
    stop: readStop(reader.get("stop"), "stop", ignoreEos ? [] : defaults?.stopStrings),
    stopTokenIds: [...new Set(stopTokenIds)],
    ...readTokenLimits((name) => reader.get(name)),
    keepSpecialTokens: reader.boolean("keepSpecialTokens", false),
    noSpeculation: reader.boolean("noSpeculation", false),
    format: reader.get("format") === undefined ? undefined : readFormat(reader.get("format")),
    cacheSalt: reader.read("cacheSalt", saltText, ""),
    logprobs: readLogprobs(reader.get("logprobs"), "logprobs"),
    promptLogprobs,
    signal: reader.signal("signal"),
  };
  checkBeamSearch(resolved);
  return resolved;
}

/** Half of a surrogate pair becomes U+FFFD on its way to the engine, and another half the same. */
const saltText = rule<string>(
  "a string of up to 1,024 whole Unicode characters",
  (value) => typeof value === "string" && value.length <= 1024 && !/\p{Surrogate}/u.test(value),
);

/** The model's value of an option that the caller has not set. */
function takeOfModel(
  name: NumericOption,
  ofModel: ModelSampling,
  range: NumberRange,
  kind: NumericRow["kind"],
): number | undefined {
  const value = ofModel[name as keyof ModelSampling] as number | undefined;
  if (value === undefined) return undefined;
  // The caller's maxNewTokens may be below the model's minNewTokens.
  if (name === "minNewTokens") return Math.max(0, Math.min(value, range.maximum as number));
  const checked = inRange(kind, range)(value);
  if ("expected" in checked) throw invalidArgument(`${name} of generation_config.json`, checked.expected, value);
  return checked.value;
}

const earlyStoppingRule: Rule<EarlyStopping> = rule(
  'true, false or "never"',
  (value) => typeof value === "boolean" || value === "never",
);

function readBeamSearch(reader: OptionReader): BeamOptions | undefined {
  const beams = reader.integer("numBeams", 1, mostSamples, 1);
  const lengthPenalty = reader.number("lengthPenalty", {}, 1);
  const earlyStopping = reader.read("earlyStopping", earlyStoppingRule, false);
  return beams === 1 ? undefined : { beams, lengthPenalty, earlyStopping };
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for what a beam search does not go with. */
function checkBeamSearch({ beamSearch, n, maxNewTokens, temperature, stop }: ResolvedGenerationOptions): void {
  if (beamSearch === undefined) return;
  const { beams } = beamSearch;
  const refuse = (found: string, advice: string) =>
    new ShardspeedError("ERR_INVALID_ARGUMENT", `Found numBeams ${beams} and ${found}. ${advice}`);
  if (n > beams)
    throw refuse(`n ${n}`, "A beam search finds as many texts as it has beams: raise numBeams or lower n.");
  if (temperature > 0)
    throw refuse(
      `temperature ${temperature}`,
      "A beam search does not sample: leave one of them out, or set temperature to 0.",
    );
  if (maxNewTokens === 0) throw refuse("maxNewTokens 0", "A beam search looks for new tokens: leave it out.");
  if (stop.length > 0)
    throw refuse(
      "stop strings",
      "A beam search ends its texts by tokens only: use stopTokenIds, and an empty stop for those of the model.",
    );
}

function readTokenIds(value: unknown): number[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw invalidArgument("stopTokenIds", "an array of token ids", value);
  return value.map((id, i) => {
    if (!Number.isInteger(id) || id < 0 || id > maxInt32) throw invalidArgument(`stopTokenIds[${i}]`, "a token id", id);
    return id;
  });
}

/** Stop strings without duplicates; `name` is the option's, for errors; `unset` are those of no value. */
export function readStop(value: unknown, name: string, unset: readonly string[] = []): string[] {
  if (value === undefined) return [...unset];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  for (const stop of list) {
    if (typeof stop !== "string" || stop === "")
      throw invalidArgument(name, "a string or an array of strings, none empty", value);
    // Half of a surrogate pair is no character, so no text could ever hold it.
    if (/\p{Surrogate}/u.test(stop)) throw invalidArgument(name, "text of whole Unicode characters", stop);
  }
  return [...new Set(list as string[])];
}

function readLogprobs(value: unknown, name: string): number | undefined {
  if (value === undefined || value === false) return undefined;
  if (value === true) return 0;
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > mostLogprobs) {
    throw invalidArgument(name, `true, false or an integer from 0 to ${mostLogprobs}`, value);
  }
  return value as number;
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT naming the first id that the model does not have. */
export function checkTokenIds(ids: readonly unknown[], vocabSize: number, name: string): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocabSize) {
      throw invalidArgument(`${name}[${i}]`, `a token id from 0 to ${vocabSize - 1}`, id);
    }
  }
}
