import type { FastifyReply } from "fastify";
import { readBody } from "./body.js";
import { invalidRequest } from "./errors.js";
import { embeddingSchema } from "./fields.js";
import { newId, nowInSeconds } from "./objects.js";
import { checkIds, type RawPrompt, splitPrompts, wellFormed } from "./prompts.js";
import { findModel, type OpenAiContext, requireTask, type Session, setTimingHeaders, withSession } from "./session.js";
import { refuseUnsupported, unsupported } from "./unsupported.js";

/** POST /v1/embeddings */
export async function answerEmbeddings(context: OpenAiContext, given: unknown, reply: FastifyReply): Promise<object> {
  const body = readBody(embeddingSchema, given);
  refuseUnsupported("embeddings", body);
  context.ignored.note("embeddings", body, embeddingSchema.shape);
  const raw = splitPrompts(body.input, "input", context.settings.maxInputs);
  const named = findModel(context, body.model);
  // One call of a worker, whatever the number of texts.
  return withSession(context, named, reply, { count: 1, promptField: "input" }, async (session) => {
    requireTask(session, "embed");
    const cut = body.truncate_prompt_tokens ?? undefined;
    const { values, width, promptTokens } = await session.call("embed", {
      texts: readInputs(raw, session, cut !== undefined),
      ...(typeof body.normalize === "boolean" ? { normalize: body.normalize } : {}),
      ...(cut === undefined ? {} : { truncatePromptTokens: cut }),
    });
    if (typeof body.dimensions === "number" && body.dimensions !== width) {
      const message = `dimensions ${body.dimensions} is not supported. The model's embeddings have ${width} dimensions.`;
      throw unsupported("dimensions", message);
    }
    setTimingHeaders(reply, session.reservation);
    const toForm = body.encoding_format === "base64" ? toBase64 : (row: Float32Array) => Array.from(row);
    return {
      id: newId("embd-"),
      object: "list",
      created: nowInSeconds(),
      model: session.name,
      data: raw.map((_, index) => ({
        object: "embedding",
        index,
        embedding: toForm(values.subarray(index * width, (index + 1) * width)),
      })),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    };
  });
}

function readInputs(
  raw: readonly RawPrompt[],
  { engine }: Session,
  mayExceed: boolean,
): (string | readonly number[])[] {
  return raw.map((input, i) => {
    const path = raw.length === 1 ? "input" : `input[${i}]`;
    if (typeof input !== "string") return checkIds(input, path, engine, { mayExceed });
    if (input === "") throw invalidRequest("invalid_value", `Expected ${path} not to be empty.`, path);
    return wellFormed(input);
  });
}

/** Of the bytes as they are: every machine that this runs on is little-endian, as the API is. */
function toBase64(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString("base64");
}
