import * as z from "zod";
import { efforts, flag, integer, modelField, object, samplingFields, text } from "../openai/fields.js";

const part = z.looseObject({ type: z.string(), text: text(), refusal: text() });

const content = z.union([z.string(), z.array(part)], {
  error: () => "expected a string or an array of content parts",
});

const item = z.looseObject({
  type: text(),
  role: text(),
  content: content.nullish(),
  call_id: text(),
  name: text(),
  arguments: text(),
  output: content.nullish(),
});
export type InputItem = z.output<typeof item>;
export type ContentBody = z.output<typeof content>;

const tool = z.looseObject({
  type: z.string(),
  name: z
    .string()
    .regex(/^[\w-]{1,128}$/, "expected a name of 1 to 128 letters, digits, underscores and dashes")
    .nullish(),
  description: text(),
  parameters: object(),
  strict: flag(),
});

const { n: _, response_format: _form, ...sampling } = samplingFields;

/** The body of POST /v1/responses. Names of sampling parameters beyond OpenAI's are vLLM's, as in the other routes. */
export const responsesSchema = z.looseObject({
  ...modelField,
  input: z.union([z.string(), z.array(item)], { error: () => "expected a string or an array of items" }),
  instructions: text(),
  max_output_tokens: integer(1),
  ...sampling,
  top_logprobs: integer(0),
  stream: flag(),
  tools: z.array(tool).nullish(),
  tool_choice: z
    .union([z.string(), z.looseObject({ type: z.string() })], {
      error: () => "expected a string or an object with a type",
    })
    .nullish(),
  parallel_tool_calls: flag(),
  text: z.looseObject({ format: z.looseObject({ type: z.string() }).nullish() }).nullish(),
  reasoning: z.looseObject({ effort: z.enum(efforts).nullish(), summary: text() }).nullish(),
  include: z.array(z.string()).nullish(),
  truncation: z.enum(["disabled", "auto"]).nullish(),
  metadata: object(),
  user: text(),
  store: flag(),
  service_tier: text(),
  max_tool_calls: integer(1),
  chat_template_kwargs: object(),
  previous_response_id: z.unknown().optional(),
  conversation: z.unknown().optional(),
  prompt: z.unknown().optional(),
  background: flag(),
});
export type ResponsesBody = z.output<typeof responsesSchema>;
