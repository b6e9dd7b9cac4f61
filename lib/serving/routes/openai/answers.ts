import * as z from "zod";

// Forms of answers, for the OpenAPI document and for the tests, which check every answer with them.

const count = z.int().min(0);

export const errorAnswer = z.looseObject({
  error: z.looseObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

const usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }),
  completion_tokens_details: z.object({ reasoning_tokens: count }).optional(),
});

const timings = z.record(z.string(), z.number()).optional();
const promptUsage = z.object({ prompt_tokens: count, total_tokens: count });
const finishReason = z.enum(["stop", "length", "tool_calls"]);
const stopReason = z.union([z.string(), z.int()]).nullable();

const model = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  root: z.string(),
  parent: z.null(),
  status: z.enum(["loading", "failed", "ready"]).optional(),
  max_model_len: count.optional(),
  tasks: z.array(z.string()).optional(),
  meta: z.object({ n_vocab: count, n_ctx_train: count, n_params: count, size: count }).optional(),
});
export const modelAnswer = model;
/** Also what version 1 of KServe's protocol says at this URL, which is all that there is of a model without an engine. */
const readiness = { name: z.string(), ready: z.boolean() };
export const modelOrReadiness = z.union([model.extend(readiness), z.object(readiness)]);
export const modelsAnswer = z.object({ object: z.literal("list"), data: z.array(model) });

/** vLLM's form: null for the first token, else the token and the likeliest by id. */
const promptLogprobs = z
  .array(
    z
      .record(z.string(), z.object({ logprob: z.number(), rank: count, decoded_token: z.string().nullable() }))
      .nullable(),
  )
  .optional();

const completionChoice = z.object({
  index: count,
  text: z.string(),
  logprobs: z
    .object({
      tokens: z.array(z.string()),
      token_logprobs: z.array(z.number().nullable()),
      top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
      text_offset: z.array(count),
    })
    .nullable(),
  finish_reason: finishReason.nullable(),
  stop_reason: stopReason,
  prompt_logprobs: promptLogprobs,
  prompt_token_ids: z.array(count).optional(),
  token_ids: z.array(count).optional(),
});

const head = { id: z.string(), created: z.int(), model: z.string(), system_fingerprint: z.string() };

export const completionAnswer = z.object({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(completionChoice),
  usage,
  timings,
});
export const completionChunk = completionAnswer.extend({ usage: usage.nullable().optional() });

const token = { token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() };
const chatLogprobs = z
  .object({
    content: z.array(z.object({ ...token, top_logprobs: z.array(z.object(token)) })),
    refusal: z.null(),
  })
  .nullable();

const toolCall = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const chatChoice = {
  index: count,
  logprobs: chatLogprobs,
  stop_reason: stopReason,
  token_ids: z.array(count).optional(),
};

export const chatAnswer = z.object({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(
    z.object({
      ...chatChoice,
      finish_reason: finishReason,
      message: z.object({
        role: z.literal("assistant"),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z.array(toolCall).min(1).optional(),
      }),
    }),
  ),
  usage,
  prompt_logprobs: promptLogprobs,
  prompt_token_ids: z.array(count).optional(),
  timings,
});

export const chatChunk = z.object({
  ...head,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(
    z.object({
      ...chatChoice,
      stop_reason: stopReason.optional(),
      finish_reason: finishReason.nullable(),
      delta: z.object({
        role: z.literal("assistant").optional(),
        content: z.string().optional(),
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: z.string().optional(),
              type: z.literal("function").optional(),
              function: z.object({ name: z.string().optional(), arguments: z.string() }),
            }),
          )
          .optional(),
      }),
    }),
  ),
  usage: usage.nullable().optional(),
  prompt_token_ids: z.array(count).optional(),
  timings,
});

export const embeddingsAnswer = z.object({
  id: z.string(),
  object: z.literal("list"),
  created: z.int(),
  model: z.string(),
  data: z.array(
    z.object({ object: z.literal("embedding"), index: count, embedding: z.union([z.array(z.number()), z.base64()]) }),
  ),
  usage: promptUsage,
});

export const tokenizeAnswer = z.object({
  count,
  max_model_len: count,
  tokens: z.array(count),
  token_strs: z.array(z.string()).nullable(),
});
export const detokenizeAnswer = z.object({ prompt: z.string() });
export const tokenizerInfoAnswer = z.looseObject({ model_max_length: count });

export const classifyAnswer = z.object({
  id: z.string(),
  object: z.literal("list"),
  created: z.int(),
  model: z.string(),
  data: z.array(z.object({ index: count, label: z.string(), probs: z.array(z.number()), num_classes: count })),
  usage: promptUsage,
});

export const scoreAnswer = z.object({
  id: z.string(),
  object: z.literal("list"),
  created: z.int(),
  model: z.string(),
  data: z.array(z.object({ index: count, object: z.literal("score"), score: z.number() })),
  usage: promptUsage,
});

export const rerankAnswer = z.object({
  id: z.string(),
  model: z.string(),
  results: z.array(z.object({ index: count, document: z.object({ text: z.string() }), relevance_score: z.number() })),
  usage: z.object({ total_tokens: count }),
});

export const openApiAnswer = z.looseObject({ openapi: z.string(), paths: z.record(z.string(), z.unknown()) });
