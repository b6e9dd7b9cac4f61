import type { FastifyReply } from "fastify";
import { readBody } from "./body.js";
import { invalidRequest } from "./errors.js";
import { classifySchema } from "./fields.js";
import { newId, nowInSeconds } from "./objects.js";
import { wellFormed } from "./prompts.js";
import { findModel, type OpenAiContext, requireTask, setTimingHeaders, withSession } from "./session.js";

/**
 * Texts of a field, which may be one.
 *
 * @throws ApiError for none, and for more than `most`.
 */
export function readTexts(value: string | string[] | null | undefined, field: string, most: number): string[] {
  if (value === null || value === undefined) {
    throw invalidRequest("missing_required_parameter", `Missing required parameter: ${field}.`, field);
  }
  const texts = typeof value === "string" ? [value] : value;
  if (texts.length === 0 || texts.length > most) {
    const message = `Expected ${field} to have 1 to ${most} texts, found ${texts.length}.`;
    throw invalidRequest("invalid_value", message, field);
  }
  return texts.map(wellFormed);
}

/** POST /classify: vLLM's. */
export async function answerClassify(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(classifySchema, given);
  const texts = readTexts(body.input, "input", context.settings.maxInputs);
  const places = { count: 1, promptField: "input" };
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    requireTask(session, "classify");
    const { results, promptTokens } = await session.call("classify", { texts });
    setTimingHeaders(reply, session.reservation);
    return {
      id: newId("classify-"),
      object: "list",
      created: nowInSeconds(),
      model: session.name,
      data: results.map(({ label, scores }, index) => ({ index, label, probs: scores, num_classes: scores.length })),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
  });
}
