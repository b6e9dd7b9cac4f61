import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { ShardspeedError } from "../base/errors.js";
import { readByteCount, toSnakeCase } from "../base/text.js";
import {
  type GenerationOptionName,
  type GenerationOptionRow,
  type GenerationOptions,
  generationOptionNames,
  generationOptions,
} from "../engine/generation_options.js";
import { readBiases, readEarlyStopping } from "../handler/generation_parameters.js";
import type { InitOptions } from "../loading/options.js";
import type { SpeculationOptions } from "../loading/speculation.js";
import { speculation } from "../serving/settings/speculation_kind.js";

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

function parseBiases(text: string): Record<string, number> {
  const biases = readBiases(text);
  if (biases === undefined)
    throw new InvalidArgumentError("Expected ID=BIAS with commas between, such as 15=5,27=-100.");
  return biases;
}

/** JSON, or `@` and the name of a file with it; a word alone is a type. */
function parseFormat(text: string): unknown {
  if (/^\w+$/.test(text)) return { type: text };
  try {
    return JSON.parse(text.startsWith("@") ? readFileSync(text.slice(1), "utf8") : text);
  } catch (error) {
    throw new InvalidArgumentError(
      `Expected JSON, such as {"type":"regex","pattern":"[0-9]+"}, or @FILE: ${(error as Error).message}.`,
    );
  }
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

/** A number of bytes, with a unit or without: 1000000, 512MB, 2GiB. */
export function parseBytes(text: string): number {
  const bytes = readByteCount(text);
  if (Number.isNaN(bytes)) throw new InvalidArgumentError("Expected a number of bytes, such as 512MB.");
  return bytes;
}

/** As the server's flag of this name. */
export function parseSpeculation(text: string): SpeculationOptions {
  const checked = speculation.read(text);
  if ("expected" in checked) throw new InvalidArgumentError(`Expected ${checked.expected.replaceAll("`", "")}.`);
  return checked.value;
}

function parseSeed(text: string): bigint {
  if (!/^\d+$/.test(text.trim())) throw new InvalidArgumentError("Expected an integer of at least 0.");
  return BigInt(text);
}

/** Of a flag that may be given several times: all its values. */
export function collect(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}

type Kind = GenerationOptionRow["kind"];

/** What a flag's value is called in --help, and how it is read. */
const values: Readonly<Record<Kind, { name: string; parse?(text: string, earlier?: unknown): unknown }>> = {
  integer: { name: " <n>", parse: parseInteger },
  number: { name: " <x>", parse: parseDecimal },
  seed: { name: " <n>", parse: parseSeed },
  texts: { name: " <text>", parse: collect },
  tokenIds: { name: " <ids>", parse: parseIds },
  biases: { name: " <id=bias>", parse: parseBiases },
  format: { name: " <json>", parse: parseFormat },
  flag: { name: "" },
  logprobs: { name: " [n]", parse: parseInteger },
  samples: { name: " <n>", parse: parseInteger },
  lengthPenalty: { name: " <x>", parse: parseDecimal },
  earlyStopping: { name: " <when>", parse: readEarlyStopping },
  defaults: { name: " <model>" },
};

function toFlag(name: string): string {
  return toSnakeCase(name).replaceAll("_", "-");
}

/** The flag of a generation option as commander takes it: "-n, --max-new-tokens". */
export function generationFlag(name: GenerationOptionName): string {
  const { short } = generationOptions[name];
  return `${short === undefined ? "" : `-${short}, `}--${toFlag(name)}`;
}

/** The default of a generation option in words; empty where there is none. */
export function describeDefault(row: GenerationOptionRow): string {
  return row.unsetText ?? ("unset" in row ? String(row.unset) : "");
}

/** A flag for every generation option but the signal. Ranges are checked with the options themselves. */
export function addGenerationFlags(command: Command): Command {
  for (const name of generationOptionNames) {
    const row = generationOptions[name];
    const { name: valueName, parse } = values[row.kind];
    const unset = describeDefault(row);
    const help = row.help.replaceAll("`", "") + (unset === "" ? "" : ` (default: ${unset})`);
    const option = new Option(generationFlag(name) + valueName, help);
    command.addOption(parse === undefined ? option : option.argParser(parse));
  }
  return command;
}

/** The generation options among a command's flags; resolveGenerationOptions checks them. */
export function toGenerationOptions(flags: object): GenerationOptions {
  return Object.fromEntries(
    Object.entries(flags).filter(
      ([name, value]) => (generationOptionNames as string[]).includes(name) && value !== undefined,
    ),
  );
}

/** Options of initInference() that flags set. */
export const loadOptions = [
  "checkpoint",
  "baseDir",
  "adapter",
  "config",
  "device",
  "dtype",
  "tpSize",
  "communicationDtype",
  "threads",
  "maxBatchTokens",
  "kvCacheBytes",
  "prefixCache",
] as const satisfies (keyof InitOptions)[];

/** What messages call by names that are flags here. */
const optionNames = [...generationOptionNames, ...loadOptions];

/** Runs work; errors name the flag in place of the option that it set: --top-p for topP. */
export async function nameFlags<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!ShardspeedError.isInstance(error)) throw error;
    const subject = optionNames.reduce<string>(
      // A name of one word is one of the language too: it stands for the option where it is the subject.
      (text, name) => text.replace(new RegExp(`^(Expected |Found )${name}\\b`), `$1--${toFlag(name)}`),
      error.message,
    );
    const named = inFlags(subject);
    throw named === error.message ? error : new ShardspeedError(error.code, named, { cause: error });
  }
}

/** A message to who has given flags: `generationDefaults: "model"` is `--generation-defaults model` there, and tpSize is --tp-size. */
export function inFlags(message: string): string {
  return optionNames.reduce<string>((text, name) => {
    const flag = `--${toFlag(name)}`;
    const valued = text.replace(new RegExp(`\\b${name}: "([\\w.:-]+)"`, "g"), `${flag} $1`);
    // Not within a path or a quoted value.
    return /[A-Z]/.test(name) ? valued.replace(new RegExp(`(?<![\\w/."'-])${name}(?![\\w/"'-])`, "g"), flag) : valued;
  }, message);
}
