import * as z from "zod";

// Forms of answers, for the OpenAPI document and for the tests, which check every answer with them.

const count = z.int().min(0);
const status = z.enum(["in_progress", "completed", "incomplete"]);
const token = { token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() };
const logprobs = z.array(z.object({ ...token, top_logprobs: z.array(z.object(token)) }));

const textPart = z.object({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.never()),
  logprobs,
});

const message = z.object({
  type: z.literal("message"),
  id: z.string(),
  role: z.literal("assistant"),
  status,
  content: z.array(textPart),
});

const call = z.object({
  type: z.literal("function_call"),
  id: z.string(),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
  status,
});

const usage = z.object({
  input_tokens: count,
  input_tokens_details: z.object({ cached_tokens: count, cache_write_tokens: count }),
  output_tokens: count,
  output_tokens_details: z.object({ reasoning_tokens: count }),
  total_tokens: count,
});

export const responseAnswer = z.object({
  id: z.string(),
  object: z.literal("response"),
  created_at: count,
  completed_at: count.nullable(),
  status: z.enum(["in_progress", "completed", "incomplete", "failed"]),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.literal("max_output_tokens") }).nullable(),
  background: z.literal(false),
  instructions: z.string().nullable(),
  max_output_tokens: count.nullable(),
  max_tool_calls: count.nullable(),
  metadata: z.record(z.string(), z.unknown()),
  model: z.string(),
  output: z.array(z.discriminatedUnion("type", [message, call])),
  parallel_tool_calls: z.boolean(),
  previous_response_id: z.null(),
  reasoning: z.object({ effort: z.string().nullable(), summary: z.null() }),
  service_tier: z.string(),
  store: z.literal(false),
  temperature: z.number().nullable(),
  text: z.object({ format: z.object({ type: z.literal("text") }) }),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]),
  tools: z.array(z.looseObject({ type: z.literal("function"), name: z.string() })),
  top_logprobs: count,
  top_p: z.number().nullable(),
  truncation: z.enum(["disabled", "auto"]),
  usage: usage.nullable(),
  user: z.string().nullable(),
});

/** An event of a stream; the fields besides these are of its type. */
export const responseEvent = z.looseObject({
  type: z.string(),
  sequence_number: count,
  response: responseAnswer.optional(),
});

export const inputTokensAnswer = z.object({ object: z.literal("response.input_tokens"), input_tokens: count });
