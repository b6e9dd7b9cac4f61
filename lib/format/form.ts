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
    };

const mostChoices = 10_000;
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
      if (typeof format.schema !== "boolean" && !isPlainObject(format.schema))
        throw invalidArgument("format.schema", "a JSON Schema: an object or a boolean", format.schema);
      if (format.strict !== undefined && typeof format.strict !== "boolean")
        throw invalidArgument("format.strict", "true or false", format.strict);
      return;
    case "regex":
      allow("pattern");
      if (typeof format.pattern !== "string") throw invalidArgument("format.pattern", "a text", format.pattern);
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
    default:
      throw invalidArgument("format.type", '"json_object", "json_schema", "regex" or "choice"', format.type);
  }
}

/** Half of a surrogate pair has no bytes. */
function checkText(name: string, text: string): void {
  if (/\p{Surrogate}/u.test(text)) throw invalidArgument(name, "text of whole Unicode characters", text);
}
