import { ShardspeedError } from "../base/errors.js";
import type { Format } from "./form.js";
import { encodeGrammar, type Grammar, oneOf } from "./nodes.js";
import { parsePattern } from "./pattern.js";
import { compileSchema } from "./schema.js";

/**
 * The grammar of a format that was read, as the native side takes it.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what of it is not supported.
 */
export function compileFormat(text: string): Int32Array {
  try {
    return encodeGrammar(grammarOf(JSON.parse(text)));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", "The format is too large or nested too deeply", { cause: error });
  }
}

function grammarOf(format: Format): Grammar {
  switch (format.type) {
    case "json_object":
      return compileSchema({ type: "object" });
    case "json_schema":
      return compileSchema(format.schema, format.strict === undefined ? {} : { strict: format.strict });
    case "regex":
      return [parsePattern(format.pattern, "format.pattern", false)];
    case "choice":
      return [oneOf(format.choices)];
  }
}
