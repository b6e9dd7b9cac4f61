import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject } from "../base/objects.js";
import { toSnakeCase } from "../base/text.js";
import type { GenerationOptions } from "../engine/generation_options.js";
import type { ChatMessage } from "../tokenizer/types.js";
import {
  fromText,
  generationParameter,
  generationParameters,
  readGenerationParameters,
} from "./generation_parameters.js";
import type { HandlerRequest } from "./request.js";

/** A request for text, read. */
export interface TextRequest {
  /** Text, token ids, or a conversation. */
  prompt: string | readonly number[] | readonly ChatMessage[];
  options: GenerationOptions;
  stream: boolean;
  /** Answer with an object: text, ids, reason of the end, usage. */
  details: boolean;
  /** Answer with the prompt before the new text. */
  returnFullText: boolean;
}

/** Settings that a request and the yaml may name besides generation options. */
const textSettings = ["stream", "details", "returnFullText"] as const;
const promptNames = ["prompt", "inputs", "text", "data", "body", "messages"];

/**
 * Reads a request: its body as text, or as a JSON object or the fields of a form with a prompt (`prompt`, `inputs`, `text` or `data`) and
 * parameters, in snake or camel case, beside it or in `parameters`.
 *
 * @param defaults Parameters for what the request does not name.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT that names the parameter.
 */
export function readTextRequest(
  row: HandlerRequest,
  defaults: readonly (readonly [string, unknown])[] = [],
): TextRequest {
  const entries = Object.entries(row).flatMap(([name, value]) => expand(name, value));
  const prompts = entries.filter(
    ([name, value]) => promptNames.includes(name) && value !== null && value !== undefined,
  );
  const parameters = entries.filter(([name]) => !promptNames.includes(name));
  const [found] = prompts;
  if (found === undefined)
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      "The request has no prompt: send text, or JSON with a key prompt.",
    );
  if (prompts.length > 1) {
    const names = prompts.map(([name]) => name).join(", ");
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `The request has more than one prompt (${names}): send one a request.`,
    );
  }
  const given = parameters.filter(([, value]) => value !== null && value !== undefined);
  const ownName = (name: string) => toSnakeCase(generationParameter(name) ?? name);
  const named = new Set(given.map(([name]) => ownName(name)));
  const others = defaults.filter(([name]) => !named.has(ownName(name)));
  return { prompt: checkPrompt(...found), ...readParameters([...others, ...parameters]) };
}

/** The parameters of a request or of the yaml, without a prompt. @throws ShardspeedError ERR_INVALID_ARGUMENT */
export function readParameters(parameters: readonly (readonly [string, unknown])[]): Omit<TextRequest, "prompt"> {
  const settings = { stream: false, details: false, returnFullText: false };
  const others: (readonly [string, unknown])[] = [];
  for (const [name, given] of parameters) {
    const setting = textSetting(name);
    if (setting === undefined) {
      others.push([name, given]);
      continue;
    }
    if (given === null || given === undefined) continue;
    const value = fromText(given, "flag");
    if (typeof value !== "boolean") throw invalidArgument(name, "true or false", value);
    settings[setting] = value;
  }
  return { options: readGenerationParameters(others, [...textParameters, "prompt"]), ...settings };
}

/** Whether the yaml's `handler` may have it for all requests. */
export function isTextParameter(name: string): boolean {
  return textSetting(name) !== undefined || generationParameter(name) !== undefined;
}

/** The names of these parameters, in snake case. */
export const textParameters = [...generationParameters, ...textSettings].map(toSnakeCase);

function textSetting(name: string): (typeof textSettings)[number] | undefined {
  return textSettings.find((one) => one === name || toSnakeCase(one) === name);
}

/** A parameter that is an object of parameters as these. */
function expand(name: string, value: unknown): [string, unknown][] {
  const isBody = name === "body" || name === "data" || name === "parameters";
  if (!isBody || !isPlainObject(value)) return [[name, decode(name, value)]];
  return Object.entries(value).flatMap(([inner, one]) =>
    inner === "parameters" && isPlainObject(one) ? Object.entries(one) : [[inner, one] as [string, unknown]],
  );
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return isObject(value) && !(value instanceof Uint8Array);
}

function decode(name: string, value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(value);
  } catch {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `Expected ${name} to be text in UTF-8, found other bytes`);
  }
}

function checkPrompt(name: string, prompt: unknown): TextRequest["prompt"] {
  if (name === "messages") return readMessages(prompt);
  if (typeof prompt === "string") return prompt;
  if (Array.isArray(prompt) && prompt.length > 0 && prompt.every((id) => Number.isInteger(id))) return prompt;
  // What was sent is not shown: it may be private.
  const kind =
    prompt === null ? "null" : Array.isArray(prompt) ? "an array of other things" : `of type ${typeof prompt}`;
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `Expected the prompt to be text or an array of token ids, found one that is ${kind}`,
  );
}

/** A conversation, as an array or, in a form, as its JSON. The template checks contents. */
function readMessages(given: unknown): readonly ChatMessage[] {
  const messages = typeof given === "string" ? parseJson(given, "messages", "ERR_INVALID_ARGUMENT") : given;
  const isMessage = (one: unknown) => isObject(one) && typeof one.role === "string";
  if (Array.isArray(messages) && messages.length > 0 && messages.every(isMessage)) return messages as ChatMessage[];
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    "Expected messages to be an array of objects with role and content, at least one",
  );
}
