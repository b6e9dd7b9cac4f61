import { showValue } from "../../../base/text.js";
import type { EngineDescription } from "../../worker/calls.js";
import { contextOverflow, invalidRequest } from "./errors.js";

/** A prompt as a request has it: text, or what is yet to be checked for token ids. */
export type RawPrompt = string | readonly unknown[];

const expected = "a string, an array of strings, an array of token ids or an array of these";

/**
 * Tells the forms of `prompt` and `input` apart. Ids are not looked at yet: that takes time, and places in the queue come first.
 *
 * @throws ApiError for another form, or more than `most` prompts.
 */
export function splitPrompts(value: unknown, field: string, most: number): RawPrompt[] {
  if (value === null || value === undefined) {
    throw invalidRequest("missing_required_parameter", `Missing required parameter: ${field}.`, field);
  }
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) throw wrongForm(field, value);
  const given: readonly unknown[] = value;
  const [first] = given;
  if (first === undefined) throw invalidRequest("invalid_value", `Expected ${field} not to be empty.`, field);
  if (typeof first === "number") return [given];
  if (given.length > most) {
    throw invalidRequest(
      "invalid_value",
      `Expected ${field} to have at most ${most} elements, found ${given.length}.`,
      field,
    );
  }
  const isText = typeof first === "string";
  return given.map((one, i) => {
    if (isText ? typeof one === "string" : Array.isArray(one)) return one as RawPrompt;
    throw wrongForm(`${field}[${i}]`, one, isText ? "a string, as the first element is" : "an array of token ids");
  });
}

function wrongForm(path: string, found: unknown, form = expected) {
  return invalidRequest("invalid_type", `Expected ${path} to be ${form}, found ${showValue(found)}.`, path);
}

/**
 * Token ids of a prompt.
 *
 * @throws ApiError for what is no id of the model, and for more ids than it has room for.
 */
export function checkIds(
  ids: readonly unknown[],
  field: string,
  engine: EngineDescription,
  rules: { mayExceed?: boolean; room?: number } = {},
): readonly number[] {
  const { vocabSize } = engine.info;
  if (ids.length === 0)
    throw invalidRequest("invalid_value", `Expected ${field} to have at least one token id.`, field);
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      const path = `${field}[${i}]`;
      throw invalidRequest(
        typeof id === "number" ? "invalid_value" : "invalid_type",
        `Expected ${path} to be a token id from 0 to ${vocabSize - 1}, found ${showValue(id)}.`,
        path,
      );
    }
  }
  const { mayExceed = false, room = engine.contextTokens } = rules;
  if (!mayExceed && ids.length > room) throw contextOverflow(engine.contextTokens, field, { prompt: ids.length });
  return ids as readonly number[];
}

/** Text without halves of surrogate pairs, which no tokenizer takes. */
export function wellFormed(text: string): string {
  return /\p{Surrogate}/u.test(text) ? text.replace(/\p{Surrogate}/gu, "\uFFFD") : text;
}
