import { ShardspeedError } from "../base/errors.js";
import { nearestKey } from "../base/nearest.js";
import type { GenerationOptions } from "../loading/options.js";

type Kind = "number" | "boolean" | "text" | "ids";

/** Generation options that a request, or the yaml's `handler`, may name; in snake case too. */
const kinds = {
  maxNewTokens: "number",
  minNewTokens: "number",
  temperature: "number",
  topK: "number",
  topP: "number",
  minP: "number",
  repetitionPenalty: "number",
  presencePenalty: "number",
  frequencyPenalty: "number",
  seed: "number",
  stop: "text",
  stopTokenIds: "ids",
  ignoreEos: "boolean",
  numBeams: "number",
} as const satisfies Partial<Record<keyof GenerationOptions, Kind>>;

type Parameter = keyof typeof kinds;

export const generationParameters = Object.keys(kinds) as Parameter[];

export function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The option that a parameter names, in either spelling. */
export function generationParameter(name: string): Parameter | undefined {
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
    options[option] = fromText(value, kinds[option]);
  }
  return options;
}

function unknownParameter(name: string, known: readonly string[]): ShardspeedError {
  const near = nearestKey(name, known);
  const advice = near === undefined ? `Known are: ${known.join(", ")}` : `Did you mean ${near}?`;
  const shown = JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
  return new ShardspeedError("ERR_INVALID_ARGUMENT", `There is no parameter ${shown}. ${advice}`);
}

/** What a form's field means. Text that is no such value stays text, which the check of the option then names. */
export function fromText(value: unknown, kind: Kind): unknown {
  if (typeof value !== "string") return value;
  if (kind === "number" && value.trim() !== "" && Number.isFinite(Number(value))) return Number(value);
  if (kind === "boolean" && /^\s*(true|false)\s*$/i.test(value)) return value.trim().toLowerCase() === "true";
  if (kind === "ids" && /^\s*\d+(\s*,\s*\d+)*\s*$/.test(value)) return value.split(",").map(Number);
  return value;
}
