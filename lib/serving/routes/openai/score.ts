import type { FastifyReply } from "fastify";
import { isObject } from "../../../base/objects.js";
import { readBody, unsupportedTask } from "./body.js";
import { readTexts } from "./classify.js";
import { invalidRequest } from "./errors.js";
import { rerankSchema, scoreSchema } from "./fields.js";
import { newId, nowInSeconds } from "./objects.js";
import { findModel, type OpenAiContext, type Session, setTimingHeaders, withSession } from "./session.js";

interface Scores {
  scores: number[];
  promptTokens: number;
}

/** POST /score: vLLM's. A text is compared with each of several, or texts with as many others, one by one. */
export async function answerScore(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(scoreSchema, given);
  const { maxInputs } = context.settings;
  const isNamedByRole = body.queries !== undefined && body.queries !== null;
  const [firstField, secondField] = isNamedByRole ? ["queries", "documents"] : ["text_1", "text_2"];
  const first = readTexts(isNamedByRole ? body.queries : body.text_1, firstField, maxInputs);
  const second = readTexts(isNamedByRole ? body.documents : body.text_2, secondField, maxInputs);
  if (first.length !== 1 && first.length !== second.length) {
    const message = `Expected ${firstField} to be one text or as many as ${secondField}, which has ${second.length}, found ${first.length}.`;
    throw invalidRequest("invalid_value", message, firstField);
  }
  const places = { count: 1, promptField: secondField };
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    const { scores, promptTokens } = await scorePairs(session, first, second);
    setTimingHeaders(reply, session.reservation);
    return {
      id: newId("score-"),
      object: "list",
      created: nowInSeconds(),
      model: session.name,
      data: scores.map((score, index) => ({ index, object: "score", score })),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
  });
}

/** POST /rerank: Jina's and Cohere's, the documents from the best to the worst. */
export async function answerRerank(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(rerankSchema, given);
  const query = readTexts(body.query, "query", 1);
  const texts = body.documents.map((one) => (isObject(one) ? one.text : one));
  const documents = readTexts(texts, "documents", context.settings.maxInputs);
  const places = { count: 1, promptField: "documents" };
  return withSession(context, findModel(context, body.model), reply, places, async (session) => {
    const { scores, promptTokens } = await scorePairs(session, query, documents);
    setTimingHeaders(reply, session.reservation);
    const results = scores
      .map((score, index) => ({ index, document: { text: documents[index] as string }, relevance_score: score }))
      .sort((one, other) => other.relevance_score - one.relevance_score);
    return {
      id: newId("rerank-"),
      model: session.name,
      results: results.slice(0, body.top_n || results.length),
      usage: { total_tokens: promptTokens },
    };
  });
}

/** By a model that reads both texts of a pair at once, or by the angle between their embeddings. */
async function scorePairs(session: Session, first: readonly string[], second: readonly string[]): Promise<Scores> {
  const { engine, name } = session;
  if (engine.tasks.includes("score") && engine.info.labels.length === 1) {
    const texts = second.map((textPair, i) => ({ text: first[first.length === 1 ? 0 : i] as string, textPair }));
    const { results, promptTokens } = await session.call("classify", { texts });
    return { scores: results.map(({ scores }) => scores[0] as number), promptTokens };
  }
  if (!engine.tasks.includes("embed"))
    throw unsupportedTask(name, "score texts: it has neither one class nor embeddings");
  const { values, width, promptTokens } = await session.call("embed", {
    texts: [...first, ...second],
    normalize: true,
  });
  const row = (index: number) => values.subarray(index * width, (index + 1) * width);
  const scores = second.map((_, i) => multiply(row(first.length === 1 ? 0 : i), row(first.length + i)));
  return { scores, promptTokens };
}

function multiply(one: Float32Array, other: Float32Array): number {
  return one.reduce((sum, value, i) => sum + value * (other[i] as number), 0);
}
