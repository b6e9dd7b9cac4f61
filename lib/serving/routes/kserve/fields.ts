import * as z from "zod";
import { flag, integer, samplingFields, text } from "../openai/fields.js";

const {
  n: _,
  return_token_ids: _ids,
  return_tokens_as_token_ids: _names,
  timings: _timings,
  include_stop_str_in_output: _included,
  ...sampling
} = samplingFields;

/** How to generate. Names beyond the protocol's are those of OpenAI's API and of vLLM. */
export const parameterSchema = z.looseObject({ ...sampling, max_tokens: integer(1), details: flag() });
export type Parameters = z.output<typeof parameterSchema>;

const tensor = z.looseObject({
  name: z.string(),
  datatype: z.string(),
  shape: z.array(z.int().min(0)),
  // Checked by an own loop: a tensor may have a million elements.
  data: z.unknown().meta({ type: "array" }),
  parameters: z.looseObject({ content_type: text() }).nullish(),
});
export type TensorBody = z.output<typeof tensor>;

/** The body of POST /v2/models/{name}/infer. */
export const inferSchema = z.looseObject({
  id: text(),
  parameters: parameterSchema.nullish(),
  inputs: z.array(tensor).min(1),
  outputs: z.array(z.looseObject({ name: z.string() })).nullish(),
});
export type InferBody = z.output<typeof inferSchema>;

/** The body of POST /v2/models/{name}/generate and generate_stream. */
export const generateSchema = z.looseObject({
  id: text(),
  text_input: z.string(),
  parameters: parameterSchema.nullish(),
});
export type GenerateBody = z.output<typeof generateSchema>;
