import * as z from "zod";
import { flag, integer, modelField, number, object, text } from "../openai/fields.js";

const block = z.looseObject({
  type: z.string(),
  text: text(),
  id: text(),
  name: text(),
  input: object(),
  tool_use_id: text(),
  content: z.unknown().optional(),
  is_error: flag(),
});
export type Block = z.output<typeof block>;

const blocks = z.union([z.string(), z.array(block)], {
  error: () => "expected a string or an array of content blocks",
});
export type Blocks = z.output<typeof blocks>;

const message = z.looseObject({ role: z.enum(["user", "assistant", "system"]), content: blocks });
export type MessageInput = z.output<typeof message>;

const tool = z.looseObject({
  type: text(),
  name: z.string().regex(/^[\w-]{1,128}$/, "expected a name of 1 to 128 letters, digits, underscores and dashes"),
  description: text(),
  input_schema: object(),
});

/** What a prompt is made of: the body of POST /v1/messages/count_tokens. */
export const promptFields = {
  ...modelField,
  messages: z.array(message).min(1),
  system: blocks.nullish(),
  tools: z.array(tool).nullish(),
  tool_choice: z.looseObject({ type: z.string(), name: text(), disable_parallel_tool_use: flag() }).nullish(),
  mcp_servers: z.array(z.unknown()).nullish(),
};
export const countTokensSchema = z.looseObject(promptFields);
export type PromptBody = z.output<typeof countTokensSchema>;

const form = z.looseObject({ type: z.string() }).nullish();

/** The body of POST /v1/messages. */
export const messagesSchema = z.looseObject({
  ...promptFields,
  max_tokens: z.int().min(1),
  stop_sequences: z.array(z.string()).nullish(),
  stream: flag(),
  temperature: number(0, 1),
  top_k: integer(0, 2 ** 31 - 1),
  top_p: number(0, 1),
  output_format: form,
  output_config: z.looseObject({ format: form }).nullish(),
});
export type MessagesBody = z.output<typeof messagesSchema>;
