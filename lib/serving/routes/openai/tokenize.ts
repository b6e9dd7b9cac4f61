import type { FastifyReply } from "fastify";
import type * as z from "zod";
import { showValue } from "../../../base/text.js";
import type { ChatPrompt, TokenizeCall } from "../../worker/calls.js";
import { readBody, unsupportedTask } from "./body.js";
import { checkTemplateFields, templateOf, toChatPrompt } from "./chat_plan.js";
import { readTools } from "./chat_tools.js";
import { invalidRequest } from "./errors.js";
import { applyTemplateSchema, detokenizeSchema, type TokenizeBody, tokenizeSchema } from "./fields.js";
import { checkIds, wellFormed } from "./prompts.js";
import { findModel, type OpenAiContext, type Session, withSession } from "./session.js";

/** POST /tokenize: vLLM's, of a text or a conversation. */
export async function answerTokenize(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(tokenizeSchema, given);
  checkTemplateFields(body, context.settings);
  const promptField = body.messages ? "messages" : "prompt";
  return withSession(context, findModel(context, body.model), reply, { count: 1, promptField }, async (session) => {
    const call: TokenizeCall = {
      prompt: toPrompt(context, session, body),
      ...(body.return_token_strs ? { wantsStrings: true } : {}),
    };
    const { ids, strings } = await session.call("tokenize", call);
    const { contextTokens } = session.engine;
    return { count: ids.length, max_model_len: contextTokens, tokens: ids, token_strs: strings ?? null };
  });
}

function toPrompt(context: OpenAiContext, session: Session, body: TokenizeBody): TokenizeCall["prompt"] {
  const { prompt, messages } = body;
  if (messages) {
    const addSpecialTokens = body.add_special_tokens ?? false;
    return { chat: toChat(context, session, { ...body, messages }), addSpecialTokens };
  }
  if (typeof prompt !== "string") {
    throw invalidRequest("missing_required_parameter", "Missing required parameter: prompt or messages.", "prompt");
  }
  return { text: wellFormed(prompt), addSpecialTokens: body.add_special_tokens ?? true };
}

function toChat({ settings }: OpenAiContext, session: Session, body: z.output<typeof applyTemplateSchema>): ChatPrompt {
  const tools = readTools({ tools: body.tools, tool_choice: undefined });
  return toChatPrompt(body, templateOf(session, body, settings), tools, settings);
}

/** POST /apply-template: llama.cpp's, the text that a conversation is for the model. */
export async function answerTemplate(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(applyTemplateSchema, given);
  checkTemplateFields(body, context.settings);
  const places = { count: 1, promptField: "messages" };
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    const { text } = await session.call("render", { chat: toChat(context, session, body) });
    return { prompt: text };
  });
}

/** POST /detokenize */
export async function answerDetokenize(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const { model, tokens } = readBody(detokenizeSchema, given);
  if (tokens === null)
    throw invalidRequest("missing_required_parameter", "Missing required parameter: tokens.", "tokens");
  if (!Array.isArray(tokens)) {
    const message = `Expected tokens to be an array of token ids, found ${showValue(tokens)}.`;
    throw invalidRequest("invalid_type", message, "tokens");
  }
  const places = { count: 1, promptField: "tokens" };
  return withSession(context, findModel(context, model), reply, places, async (session) => {
    if (tokens.length === 0) return { prompt: "" };
    const ids = checkIds(tokens, "tokens", session.engine, { mayExceed: true });
    return { prompt: (await session.call("detokenize", { ids })).text };
  });
}

/** GET /tokenizer_info: by the names of tokenizer_config.json, as far as they are known here. */
export function answerTokenizerInfo(context: OpenAiContext, query: unknown): object {
  const { model: asked } = (query ?? {}) as { model?: unknown };
  const { name, model } = findModel(context, typeof asked === "string" ? asked : undefined);
  const { engine } = model;
  if (engine?.tokenizer === undefined) throw unsupportedTask(name, "have a tokenizer");
  const { bosToken, eosToken, padToken, unkToken, bosTokenId, eosTokenId } = engine.tokenizer;
  return {
    bos_token: bosToken ?? null,
    eos_token: eosToken ?? null,
    pad_token: padToken ?? null,
    unk_token: unkToken ?? null,
    bos_token_id: bosTokenId ?? null,
    eos_token_id: eosTokenId ?? null,
    chat_template: engine.chatTemplate ?? null,
    model_max_length: engine.contextTokens,
  };
}
