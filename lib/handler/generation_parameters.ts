import { ShardspeedError } from "../base/errors.js";
import { adviseName } from "../base/nearest.js";
import { unknownName } from "../base/option_reader.js";
import { toSnakeCase } from "../base/text.js";
import {
  type GenerationOptionName,
  type GenerationOptionRow,
  type GenerationOptions,
  generationOptionNames,
  generationOptions,
} from "../engine/generation_options.js";

/** The generation options that a request, or the yaml's `handler`, may name; in snake case too. */
export const generationParameters = generationOptionNames.filter((name) => !generationOptions[name].notInRequests);

/** The option that a parameter names, in either spelling. */
export function generationParameter(name: string): GenerationOptionName | undefined {
  // OpenAI's name.
  if (name === "max_tokens") return "maxNewTokens";
  return generationParameters.find((one) => one === name || toSnakeCase(one) === name);
}

/**
 * Generation options from parameters. Values that are text, as the fields of a form are, are read as what the option takes; null is as
 * if it were not there; ranges are the engine's to check.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for an unknown name, with the nearest of `known`, and for an option given twice.
 */
export function readGenerationParameters(
  parameters: Iterable<readonly [string, unknown]>,
  known: readonly string[] = generationParameters.map(toSnakeCase),
): GenerationOptions {
  const options: Record<string, unknown> = {};
  for (const [name, value] of parameters) {
    const option = generationParameter(name);
    if (option === undefined) throw unknownParameter(name, known);
    if (value === null || value === undefined) continue;
    if (Object.hasOwn(options, option)) {
      throw new ShardspeedError("ERR_INVALID_ARGUMENT", `Found ${toSnakeCase(option)} more than once: remove one.`);
    }
    options[option] = fromText(value, generationOptions[option].kind);
  }
  return options;
}

/** `15=5,27=-100` as an object, undefined for other text. */
export function readBiases(text: string): Record<string, number> | undefined {
  const entries = text.split(",").map((entry) => entry.split("="));
  const sound = entries.every(
    ([id = "", bias = "", ...more]) =>
      /^\s*\d+\s*$/.test(id) && bias.trim() !== "" && Number.isFinite(Number(bias)) && more.length === 0,
  );
  return sound ? Object.fromEntries(entries.map(([id, bias]) => [Number(id), Number(bias)])) : undefined;
}

/** Undefined for what is no JSON. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** true, false and other text: "never" is one of the values, and the option's check names what is not. */
export function readEarlyStopping(text: string): boolean | string {
  const word = text.trim().toLowerCase();
  return word === "true" || word === "false" ? word === "true" : word;
}

function unknownParameter(name: string, known: readonly string[]): ShardspeedError {
  return unknownName("parameter", name, adviseName(name, known));
}

/** What a form's field means. Text that is no such value stays text, which the check of the option then names. */
export function fromText(value: unknown, kind: GenerationOptionRow["kind"]): unknown {
  if (typeof value !== "string") return value;
  switch (kind) {
    case "texts":
    case "defaults":
      return value;
    case "flag":
      return /^\s*(true|false)\s*$/i.test(value) ? value.trim().toLowerCase() === "true" : value;
    case "earlyStopping":
      return readEarlyStopping(value);
    case "tokenIds":
      return /^\s*\d+(\s*,\s*\d+)*\s*$/.test(value) ? value.split(",").map(Number) : value;
    case "format":
      return readJson(value) ?? value;
    case "biases":
      return readBiases(value) ?? value;
    default:
      return value.trim() !== "" && Number.isFinite(Number(value)) ? Number(value) : value;
  }
}
