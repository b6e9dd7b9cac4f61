import { ShardspeedError } from "../base/errors.js";
import type { Format } from "./form.js";
import {
  choice,
  encodeGrammar,
  type Grammar,
  type Node,
  nothing,
  oneOf,
  repeat,
  sequence,
  shiftRules,
  text,
} from "./nodes.js";
import { parsePattern } from "./pattern.js";
import { compileSchema } from "./schema.js";
import { type Spend, unlimited } from "./work.js";

/**
 * The grammar of a format that was read, as the native side takes it.
 *
 * @param spend Told of work that may be long for a short format.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what of it is not supported.
 */
export function compileFormat(format: string, spend = unlimited): Int32Array {
  try {
    return encodeGrammar(grammarOf(JSON.parse(format), spend));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", "The format is too large or nested too deeply", { cause: error });
  }
}

/** The rules of a format. */
export function grammarOf(format: Format, spend = unlimited): Grammar {
  switch (format.type) {
    case "json_object":
      return compileSchema({ type: "object" });
    case "json_schema":
      return compileSchema(format.schema, format.strict === undefined ? {} : { strict: format.strict }, spend);
    case "regex":
      return [parsePattern(format.pattern, "format.pattern", false)];
    case "choice":
      return [oneOf(format.choices)];
    case "tagged_json":
      return tagged(format, spend);
  }
}

function tagged(format: Extract<Format, { type: "tagged_json" }>, spend: Spend): Grammar {
  const rules: Node[] = [nothing];
  const kinds = format.values.map(({ begin, schema, strict = false, end }) => {
    const first = rules.length;
    for (const rule of compileSchema(schema, { strict }, spend)) rules.push(shiftRules(rule, first));
    return sequence(text(begin), { kind: "rule", index: first }, text(end));
  });
  const value: Node = { kind: "rule", index: rules.push(choice(...kinds)) - 1 };
  const { begin = "", separator = "", end = "", most = 1 } = format;
  rules[0] = sequence(text(begin), value, repeat(0, most - 1, sequence(text(separator), value)), text(end));
  return rules;
}
