import { ShardspeedError } from "../../../base/errors.js";
import { isObject } from "../../../base/objects.js";
import { showValue } from "../../../base/text.js";
import { type Format, readFormat } from "../../../format/form.js";
import { type ApiError, invalidRequest } from "./errors.js";
import type { SamplingBody } from "./fields.js";

type FormatBody = Pick<
  SamplingBody,
  "response_format" | "structured_outputs" | "guided_json" | "guided_regex" | "guided_choice"
>;

/** Of `structured_outputs`, with the field that says the same by itself. */
const structured = { json: "guided_json", regex: "guided_regex", choice: "guided_choice" } as const;

/**
 * The form of the answer that a request asks for; undefined: any text.
 *
 * @throws ApiError for more than one, and for what is none.
 */
export function readAnswerFormat(body: FormatBody): Format | undefined {
  const found: [param: string, format: Format][] = [];
  const take = (param: string, format: Format | undefined) => {
    if (format !== undefined) found.push([param, format]);
  };
  take("response_format", readResponseFormat(body.response_format));
  for (const [name, value] of Object.entries(body.structured_outputs ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    const param = `structured_outputs.${name}`;
    if (name === "json_object") take(param, { type: "json_object" });
    else if (Object.hasOwn(structured, name)) take(param, toFormat(structured[name as "json"], value, param));
    else if (!/whitespace|additional_properties|fallback/.test(name))
      throw invalidRequest("unsupported_parameter", `${param} is not supported. Use json, regex or choice.`, param);
  }
  for (const name of Object.values(structured)) take(name, toFormat(name, body[name], name));
  const [first, second] = found;
  if (second !== undefined) {
    throw invalidRequest(
      "invalid_value",
      `Expected one form of the answer, found ${first?.[0]} and ${second[0]}.`,
      second[0],
    );
  }
  if (first !== undefined) checkForm(...first);
  return first?.[1];
}

function readResponseFormat(given: FormatBody["response_format"]): Format | undefined {
  if (given === null || given === undefined || given.type === "text") return undefined;
  if (given.type === "json_object") {
    // As llama.cpp has it.
    return isObject(given.schema) ? { type: "json_schema", schema: given.schema } : { type: "json_object" };
  }
  if (given.type !== "json_schema") {
    const message = `Expected response_format.type to be "text", "json_object" or "json_schema", found ${showValue(given.type)}.`;
    throw invalidRequest("unsupported_value", message, "response_format.type");
  }
  const { schema, strict } = isObject(given.json_schema) ? given.json_schema : given;
  if (!isObject(schema)) {
    const param = "response_format.json_schema.schema";
    throw invalidRequest("missing_required_parameter", `Missing required parameter: ${param}.`, param);
  }
  return { type: "json_schema", schema, ...(strict === true ? { strict } : {}) };
}

function toFormat(name: (typeof structured)["json" | "regex" | "choice"], value: unknown, param: string) {
  if (value === null || value === undefined) return undefined;
  if (name === "guided_regex") return { type: "regex", pattern: value } as Format;
  if (name === "guided_choice") return { type: "choice", choices: value } as Format;
  return { type: "json_schema", schema: typeof value === "string" ? parseSchema(value, param) : value } as Format;
}

function parseSchema(text: string, param: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidRequest("invalid_value", `Expected ${param} to be a JSON Schema, found text that is no JSON.`, param);
  }
}

function checkForm(param: string, format: Format): void {
  try {
    readFormat(format);
  } catch (error) {
    throw ShardspeedError.isInstance(error) ? wrongForm(param, error.message) : error;
  }
}

function wrongForm(param: string, message: string): ApiError {
  return invalidRequest("invalid_value", `${param}: ${message}`, param);
}
