import type { Format, TaggedValue } from "../../../../format/form.js";
import type { ForcedCalls } from "../chat_tools.js";
import type { ToolFormat } from "./format.js";

/** How a model writes one call and several, as far as the text before the arguments is known. */
interface CallSyntax {
  before(name: string): string;
  after: string;
  begin?: string;
  separator?: string;
  end?: string;
  /** What the reader of calls takes for written ahead of the text: a special token, which a format does not have. */
  given?: string;
  /** Models write no more than one. */
  single?: true;
}

const syntaxes: Partial<Record<ToolFormat, CallSyntax>> = {
  hermes: {
    before: (name) => `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": `,
    after: "}\n</tool_call>",
    separator: "\n",
  },
  llama3_json: { before: (name) => `{"name": ${JSON.stringify(name)}, "parameters": `, after: "}", single: true },
  mistral: {
    before: (name) => `{"name": ${JSON.stringify(name)}, "arguments": `,
    after: "}",
    given: "[TOOL_CALLS]",
    ...{ begin: "[", separator: ", ", end: "]" },
  },
};

/** Most calls of an answer that has to call. */
const mostCalls = 16;

/** The form of an answer that calls tools, and what was written ahead of it; undefined where calls of this format cannot be forced. */
export function toForcedFormat(
  format: ToolFormat | undefined,
  { tools, strict, single }: ForcedCalls,
): { format: Format; given: string } | undefined {
  const syntax = format === undefined ? undefined : syntaxes[format];
  if (syntax === undefined) return undefined;
  const { before, after, begin = "", separator = "", end = "", given = "" } = syntax;
  const values = tools.map(
    ({ function: { name, parameters } }): TaggedValue => ({
      begin: before(name),
      schema: toObjectSchema(parameters),
      end: after,
      ...(strict.has(name) ? { strict: true } : {}),
    }),
  );
  const most = single || syntax.single ? 1 : mostCalls;
  return { format: { type: "tagged_json", values, begin, separator, end, most }, given };
}

const shaping = ["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"];

/** Arguments are an object, also where a schema does not say so. */
function toObjectSchema(parameters: object): object {
  return shaping.some((keyword) => Object.hasOwn(parameters, keyword)) ? parameters : { type: "object", ...parameters };
}
