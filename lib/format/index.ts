import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { isPlainObject } from "../base/objects.js";
import { choice, encodeGrammar, type Grammar, text } from "./nodes.js";
import { parsePattern } from "./pattern.js";
import { compileSchema, type SchemaOptions } from "./schema.js";

/** The form of a generated text. */
export type Format =
  /** Any JSON object. */
  | { type: "json" }
  /** A JSON value that satisfies a schema. */
  | ({ type: "jsonSchema"; schema: object | boolean } & SchemaOptions)
  /** A text that a regular expression of JavaScript matches as a whole. */
  | { type: "regex"; pattern: string }
  /** One of these texts. */
  | { type: "choice"; choices: readonly string[] };

const mostChoices = 10_000;

/**
 * The grammar of a format, as the native side takes it.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no format, and for what of it is not supported.
 */
export function compileFormat(format: unknown): Int32Array {
  try {
    return encodeGrammar(grammarOf(format));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", "the format is too large or nested too deeply", { cause: error });
  }
}

function grammarOf(format: unknown): Grammar {
  if (!isPlainObject(format)) throw invalidArgument("format", "an object with a type", format);
  const allow = (...names: string[]) => {
    const wrong = Object.keys(format).find((name) => name !== "type" && !names.includes(name));
    if (wrong !== undefined) throw invalidArgument(`format.${wrong}`, "absent", format[wrong]);
  };
  switch (format.type) {
    case "json":
      allow();
      return compileSchema({ type: "object" });
    case "jsonSchema":
      allow("schema", "strict");
      if (format.strict !== undefined && typeof format.strict !== "boolean") {
        throw invalidArgument("format.strict", "true or false", format.strict);
      }
      return compileSchema(format.schema, format.strict === undefined ? {} : { strict: format.strict });
    case "regex":
      allow("pattern");
      if (typeof format.pattern !== "string") throw invalidArgument("format.pattern", "a text", format.pattern);
      return [parsePattern(format.pattern, "format.pattern", false)];
    case "choice": {
      allow("choices");
      const { choices } = format;
      const isGood = Array.isArray(choices) && choices.length > 0 && choices.length <= mostChoices;
      if (!isGood || choices.some((one) => typeof one !== "string")) {
        throw invalidArgument("format.choices", `an array of 1 to ${mostChoices} texts`, choices);
      }
      return [choice(...choices.map((one: string) => text(one)))];
    }
    default:
      throw invalidArgument("format.type", '"json", "jsonSchema", "regex" or "choice"', format.type);
  }
}
