import * as z from "zod";
import { mostBadWords, mostBias } from "../../../engine/token_limits.js";
import { mostSamples } from "../../../native/limits.js";

// Forms of fields that several requests have. null is absent everywhere: clients send it.

export const flag = () => z.boolean().nullish();
export const text = () => z.string().nullish();
export const integer = (least: number, most: number = Number.MAX_SAFE_INTEGER) =>
  z.int().min(least).max(most).nullish();
export const number = (least: number, most?: number) =>
  (most === undefined ? z.number().min(least) : z.number().min(least).max(most)).nullish();
export const object = () => z.record(z.string(), z.unknown()).nullish();

/** A string, or an array of strings. */
export const texts = () =>
  z.union([z.string(), z.array(z.string())], { error: () => "expected a string or an array of strings" }).nullish();

/** What an own loop checks: a union over arrays of thousands of ids blocks the event loop for tens of milliseconds. */
export const prompt = (description: string) =>
  z.unknown().meta({
    description,
    anyOf: [
      { type: "string" },
      { type: "array", minItems: 1, items: { type: "string" } },
      { type: "array", minItems: 1, items: { type: "integer", minimum: 0 } },
      { type: "array", minItems: 1, items: { type: "array", minItems: 1, items: { type: "integer", minimum: 0 } } },
    ],
  });

export const modelField = { model: text() };

export const streamFields = {
  stream: flag(),
  stream_options: z.looseObject({ include_usage: flag(), continuous_usage_stats: flag() }).nullish(),
};

/** How to sample and when to stop, of completions and of chat. */
export const samplingFields = {
  temperature: number(0, 2),
  top_p: number(0, 1),
  top_k: integer(-1, 2 ** 31 - 1),
  min_p: number(0, 1),
  // Larger ones are infinite in the engine, which computes with fp32.
  repetition_penalty: z.number().gt(0).lte(3.4e38).nullish(),
  presence_penalty: number(-2, 2),
  frequency_penalty: number(-2, 2),
  // As JSON.parse has it: above 2^53 the nearest double.
  seed: z
    .number()
    .multipleOf(1)
    .min(-(2 ** 63))
    .max(2 ** 64)
    // A multiple of 1 is for zod also 5e-324.
    .refine(Number.isInteger, "expected an integer")
    .nullish(),
  n: integer(1, mostSamples),
  // With it n is the number of beams too.
  use_beam_search: flag(),
  length_penalty: number(-100, 100),
  early_stopping: z
    .union([z.boolean(), z.literal("never")], { error: () => 'expected true, false or "never"' })
    .nullish(),
  stop: texts(),
  stop_token_ids: z
    .array(
      z
        .int()
        .min(0)
        .max(2 ** 31 - 1),
    )
    .nullish(),
  logit_bias: z
    .record(z.string().regex(/^(0|[1-9]\d*)$/, "expected token ids as keys"), z.number().min(-mostBias).max(mostBias))
    .nullish(),
  allowed_token_ids: z.array(z.int().min(0)).nullish(),
  cache_salt: z
    .string()
    .min(1)
    .max(128)
    .refine((salt) => !/\p{Surrogate}/u.test(salt), "expected whole Unicode characters")
    .nullish(),
  bad_words: z.array(z.string().min(1)).max(mostBadWords).nullish(),
  response_format: z.looseObject({ type: z.string() }).nullish(),
  structured_outputs: object(),
  guided_json: z.unknown().optional(),
  guided_regex: text(),
  guided_choice: z.array(z.string()).nullish(),
  include_stop_str_in_output: flag(),
  ignore_eos: flag(),
  min_tokens: integer(0),
  skip_special_tokens: flag(),
  add_special_tokens: flag(),
  truncate_prompt_tokens: z
    .int()
    .min(-1)
    .refine((count) => count !== 0, "expected -1 or an integer of at least 1")
    .nullish(),
  prompt_logprobs: integer(0),
  return_token_ids: flag(),
  return_tokens_as_token_ids: flag(),
  timings: flag(),
};

export type SamplingBody = z.output<z.ZodObject<typeof samplingFields>>;

export const completionSchema = z.looseObject({
  ...modelField,
  prompt: prompt("A text, texts, token ids, or arrays of token ids"),
  ...samplingFields,
  ...streamFields,
  max_tokens: integer(0),
  best_of: integer(1, mostSamples),
  echo: flag(),
  logprobs: integer(0),
});
export type CompletionBody = z.output<typeof completionSchema>;

const toolCall = z.looseObject({
  id: text(),
  type: text(),
  function: z.looseObject({ name: z.string(), arguments: z.unknown().optional() }),
});

const message = z.looseObject({
  role: z.string(),
  content: z
    .unknown()
    .optional()
    .meta({ anyOf: [{ type: "string" }, { type: "null" }, { type: "array", items: { type: "object" } }] }),
  name: text(),
  tool_calls: z.array(toolCall).nullish(),
  tool_call_id: text(),
});
export type MessageBody = z.output<typeof message>;

const namePattern = /^[\w-]{1,64}$/;
const tool = z.looseObject({
  type: z.string(),
  function: z
    .looseObject({
      name: z.string().regex(namePattern, "expected a name of 1 to 64 letters, digits, underscores and dashes"),
      description: text(),
      parameters: object(),
      strict: flag(),
    })
    .nullish(),
});
export type ToolBody = z.output<typeof tool>;

export const chatFields = {
  messages: z.array(message).min(1),
  tools: z.array(tool).nullish(),
  add_generation_prompt: flag(),
  continue_final_message: flag(),
  chat_template: text(),
  chat_template_kwargs: object(),
};

export const efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"] as const;

export const chatSchema = z.looseObject({
  ...modelField,
  ...chatFields,
  ...samplingFields,
  ...streamFields,
  max_tokens: integer(1),
  max_completion_tokens: integer(1),
  logprobs: flag(),
  top_logprobs: integer(0),
  tool_choice: z
    .union([z.string(), z.looseObject({ type: z.string() })], {
      error: () => "expected a string or an object with a type",
    })
    .nullish(),
  parallel_tool_calls: flag(),
  reasoning_effort: z.enum(efforts).nullish(),
  documents: z.array(z.record(z.string(), z.unknown())).nullish(),
});
export type ChatBody = z.output<typeof chatSchema>;

export const embeddingSchema = z.looseObject({
  ...modelField,
  input: prompt("A text, texts, token ids, or arrays of token ids"),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: integer(1),
  normalize: flag(),
  truncate_prompt_tokens: samplingFields.truncate_prompt_tokens,
});

export const tokenizeSchema = z.looseObject({
  ...modelField,
  prompt: text(),
  ...chatFields,
  messages: chatFields.messages.nullish(),
  add_special_tokens: flag(),
  return_token_strs: flag(),
});
export type TokenizeBody = z.output<typeof tokenizeSchema>;

export const applyTemplateSchema = z.looseObject({ ...modelField, ...chatFields });

export const detokenizeSchema = z.looseObject({
  ...modelField,
  tokens: z.unknown().meta({ type: "array", items: { type: "integer", minimum: 0 } }),
});

export const classifySchema = z.looseObject({ ...modelField, input: texts() });

export const scoreSchema = z.looseObject({
  ...modelField,
  text_1: texts(),
  text_2: texts(),
  queries: texts(),
  documents: texts(),
});

export const rerankSchema = z.looseObject({
  ...modelField,
  query: z.string(),
  documents: z
    .array(
      z.union([z.string(), z.looseObject({ text: z.string() })], {
        error: () => "expected a string or an object with a text",
      }),
    )
    .min(1),
  top_n: integer(0),
});
