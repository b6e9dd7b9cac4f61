import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { isPlainObject } from "../base/objects.js";

/** How a schema is read. */
export interface SchemaOptions {
  /** Objects without additionalProperties have no other properties. JSON Schema's default is false. */
  strict?: boolean;
}

/** The form of a generated text. */
export type Format =
  | {
      /** Any JSON object. */
      type: "json_object";
    }
  | ({
      /** A JSON value that satisfies a schema. */
      type: "json_schema";
      /** A JSON Schema. */
      schema: object | boolean;
    } & SchemaOptions)
  | {
      /** A text that a regular expression of JavaScript matches as a whole. */
      type: "regex";
      /** The regular expression, without slashes and flags. */
      pattern: string;
    }
  | {
      /** One of several texts. */
      type: "choice";
      /** The texts: up to 10,000. */
      choices: readonly string[];
    }
  | {
      /** JSON values between texts: what a model writes to call functions. */
      type: "tagged_json";
      /** The kinds of values, with the texts around each: up to 1,000. */
      values: readonly TaggedValue[];
      /** The text ahead of the first value. Default "". */
      begin?: string;
      /** The text between two values. Default "". */
      separator?: string;
      /** The text behind the last value. Default "". */
      end?: string;
      /** Most values: 1 to 100. Default 1. */
      most?: number;
    };

/** A JSON value between two texts. */
export interface TaggedValue extends SchemaOptions {
  /** The text ahead of it. */
  begin: string;
  /** Its JSON Schema. */
  schema: object | boolean;
  /** The text behind it. */
  end: string;
}

const mostChoices = 10_000;
const mostTagged = 1000;
const mostValues = 100;
const mostCharacters = 256 * 1024;

/**
 * A format as JSON text, which names it: what it says is compiled later, perhaps in another thread.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no format.
 */
export function readFormat(format: unknown): string {
  checkForm(format);
  let text: string;
  try {
    text = JSON.stringify(format);
  } catch (cause) {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", "The format is no JSON: it cannot be written as such", { cause });
  }
  if (text.length <= mostCharacters) return text;
  throw new ShardspeedError(
    "ERR_INVALID_ARGUMENT",
    `The format has ${text.length} characters of JSON; at most ${mostCharacters} are supported`,
  );
}

function checkForm(format: unknown): asserts format is Format {
  if (!isPlainObject(format)) throw invalidArgument("format", "an object with a type", format);
  const allow = (...names: string[]) => {
    const wrong = Object.keys(format).find((name) => name !== "type" && !names.includes(name));
    if (wrong !== undefined) throw invalidArgument(`format.${wrong}`, "absent", format[wrong]);
  };
  switch (format.type) {
    case "json_object":
      return allow();
    case "json_schema":
      allow("schema", "strict");
      return checkSchema("format", format);
    case "regex":
      allow("pattern");
      checkText("format.pattern", format.pattern);
      return;
    case "choice": {
      allow("choices");
      const { choices } = format;
      const isGood = Array.isArray(choices) && choices.length > 0 && choices.length <= mostChoices;
      if (!isGood || choices.some((one) => typeof one !== "string"))
        throw invalidArgument("format.choices", `an array of 1 to ${mostChoices} texts`, choices);
      for (const one of choices) checkText("format.choices", one);
      return;
    }
    case "tagged_json":
      allow("values", "begin", "separator", "end", "most");
      return checkTagged(format);
    default:
      throw invalidArgument(
        "format.type",
        '"json_object", "json_schema", "regex", "choice" or "tagged_json"',
        format.type,
      );
  }
}

function checkSchema(name: string, { schema, strict }: Readonly<Record<string, unknown>>): void {
  if (typeof schema !== "boolean" && !isPlainObject(schema))
    throw invalidArgument(`${name}.schema`, "a JSON Schema: an object or a boolean", schema);
  if (strict !== undefined && typeof strict !== "boolean")
    throw invalidArgument(`${name}.strict`, "true or false", strict);
}

function checkTagged({ values, most, ...texts }: Readonly<Record<string, unknown>>): void {
  const isGood = Array.isArray(values) && values.length > 0 && values.length <= mostTagged;
  if (!isGood || !values.every(isPlainObject))
    throw invalidArgument("format.values", `an array of 1 to ${mostTagged} objects`, values);
  if (most !== undefined && !(Number.isInteger(most) && (most as number) >= 1 && (most as number) <= mostValues))
    throw invalidArgument("format.most", `an integer from 1 to ${mostValues}`, most);
  for (const name of ["begin", "separator", "end"])
    if (texts[name] !== undefined) checkText(`format.${name}`, texts[name]);
  for (const [i, value] of values.entries()) {
    checkSchema(`format.values[${i}]`, value);
    for (const name of ["begin", "end"]) checkText(`format.values[${i}].${name}`, value[name]);
  }
}

/** Half of a surrogate pair has no bytes. */
function checkText(name: string, text: unknown): void {
  if (typeof text !== "string") throw invalidArgument(name, "a text", text);
  if (/\p{Surrogate}/u.test(text)) throw invalidArgument(name, "text of whole Unicode characters", text);
}
