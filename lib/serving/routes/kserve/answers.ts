import * as z from "zod";

// Forms of answers, for the OpenAPI document.

const names = z.array(z.string());
const shape = z.array(z.int());

export const kserveError = z.object({ error: z.string() });
export const serverAnswer = z.object({ name: z.string(), version: z.string(), extensions: names });
export const liveAnswer = z.object({ live: z.boolean() });
export const readyAnswer = z.object({ ready: z.boolean() });
export const modelNamesAnswer = z.object({ models: names });
export const modelReadyAnswer = z.object({ name: z.string(), ready: z.boolean() });

const tensorMetadata = z.object({ name: z.string(), datatype: z.string(), shape });
export const modelMetadataAnswer = z.object({
  name: z.string(),
  versions: names,
  platform: z.string(),
  inputs: z.array(tensorMetadata),
  outputs: z.array(tensorMetadata),
});

export const inferAnswer = z.object({
  model_name: z.string(),
  model_version: z.string(),
  id: z.string(),
  outputs: z.array(
    z.looseObject({
      ...{ name: z.string(), datatype: z.string(), shape },
      data: z.array(z.union([z.number(), z.string()])),
    }),
  ),
});

const token = z.object({ id: z.int(), logprob: z.number(), special: z.boolean(), text: z.string() });
export const generateAnswer = z.object({
  id: z.string().optional(),
  text_output: z.string(),
  model_name: z.string(),
  model_version: z.string(),
  details: z.object({ finish_reason: z.string().nullable(), logprobs: z.array(token) }).optional(),
});
