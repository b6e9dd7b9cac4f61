import { type Command, InvalidArgumentError } from "commander";
import type { GenerationOptions } from "../loading/options.js";

export function parseDecimal(text: string): number {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim())) throw new InvalidArgumentError("Expected a number.");
  return Number(text);
}

export function parseInteger(text: string): number {
  if (!/^[+-]?\d+$/.test(text.trim())) throw new InvalidArgumentError("Expected an integer.");
  return Number(text);
}

export function parseIds(text: string): number[] {
  return text.split(",").map(parseInteger);
}

/** `custom_handler.py=TextGenerationHandler`, several times or with commas between. */
export function parseHandlerMap(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const entries = text.split(",").map((pair) => {
    const match = /^([^=]+)=([^=]+)$/.exec(pair.trim());
    if (match === null)
      throw new InvalidArgumentError("Expected HANDLER=REPLACEMENT, such as custom_handler.py=TextGenerationHandler.");
    return [match[1] as string, match[2] as string] as const;
  });
  return { ...earlier, ...Object.fromEntries(entries) };
}

const byteUnits: Record<string, number> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

/** A number of bytes, with a unit or without: 1000000, 512MB, 2GiB. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i.exec(text.trim());
  if (match === null) throw new InvalidArgumentError("Expected a number of bytes, such as 512MB.");
  return Math.floor(Number(match[1]) * (byteUnits[(match[2] ?? "").toLowerCase()] as number));
}

function parseSeed(text: string): bigint {
  if (!/^\d+$/.test(text.trim())) throw new InvalidArgumentError("Expected an integer of at least 0.");
  return BigInt(text);
}

/** Of a flag that may be given several times: all its values. */
export function collect(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}

/** A flag for every generation option but the signal. Ranges are checked with the options themselves. */
export function addGenerationFlags(command: Command): Command {
  return command
    .option("-n, --max-new-tokens <n>", "most new tokens (default: 256, or what is left of the context)", parseInteger)
    .option("--min-new-tokens <n>", "no end before this many new tokens (default: 0)", parseInteger)
    .option("-t, --temperature <x>", "0 is greedy (default: 0)", parseDecimal)
    .option("--top-k <n>", "sample among the n likeliest tokens, 0 for all (default: 0)", parseInteger)
    .option("--top-p <x>", "sample among the likeliest tokens of this probability (default: 1)", parseDecimal)
    .option("--min-p <x>", "sample among tokens this many times as likely as the likeliest (default: 0)", parseDecimal)
    .option("--repetition-penalty <x>", "above 1 against repetition of prompt and text (default: 1)", parseDecimal)
    .option("--presence-penalty <x>", "-2 to 2, against tokens that the new text has (default: 0)", parseDecimal)
    .option("--frequency-penalty <x>", "-2 to 2, the more the more often it has them (default: 0)", parseDecimal)
    .option("-s, --seed <n>", "same seed, same samples (default: random)", parseSeed)
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--stop-token-ids <ids>", "end before these tokens: 1,2,3", parseIds)
    .option("--ignore-eos", "go on after the model's end-of-sequence tokens")
    .option(
      "--logprobs [n]",
      "with --json: log-probabilities of the tokens, and of the n likeliest besides",
      parseInteger,
    )
    .option("--num-beams <n>", "only 1: beam search is not available yet", parseInteger);
}

const generationFlagNames: readonly string[] = [
  "maxNewTokens",
  "minNewTokens",
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "presencePenalty",
  "frequencyPenalty",
  "seed",
  "stop",
  "stopTokenIds",
  "ignoreEos",
  "logprobs",
  "numBeams",
] satisfies (keyof GenerationOptions)[];

/** The generation options among a command's flags; resolveGenerationOptions checks them. */
export function toGenerationOptions(flags: object): GenerationOptions {
  return Object.fromEntries(
    Object.entries(flags).filter(([name, value]) => generationFlagNames.includes(name) && value !== undefined),
  );
}
