import type { FastifyReply } from "fastify";
import type { GeneratedLogprob } from "../../../engine/logprobs.js";
import { toEvent } from "../../http/sse.js";
import type { EngineDescription, GenerateCall, GenerateChunk } from "../../worker/calls.js";
import { readBody } from "../openai/body.js";
import { generateAll } from "../openai/generation.js";
import { checkSampling, toCall } from "../openai/sampling.js";
import { type NamedModel, type OpenAiContext, requireTask, type Session, withSession } from "../openai/session.js";
import { type StreamForm, streamEvents } from "../openai/stream.js";
import { type GenerateBody, generateSchema } from "./fields.js";
import { newTokensOf, textPrompt } from "./infer.js";

/** A token of `details`. */
interface TokenDetails {
  id: number;
  logprob: number;
  special: boolean;
  text: string;
}

const streamForm: StreamForm = { toFailure: ({ message }) => toEvent({ error: message }), end: "" };

/** POST /v2/models/{name}/generate and generate_stream. @returns The body, or undefined where the answer is a stream. */
export function answerGenerate(
  context: OpenAiContext,
  named: NamedModel,
  given: unknown,
  reply: FastifyReply,
  isStream: boolean,
): Promise<object | undefined> {
  const body = readBody(generateSchema, given);
  const parameters = body.parameters ?? {};
  checkSampling(parameters, newTokensOf(parameters), context.settings);
  return withSession(context, named, reply, { count: 1, promptField: "text_input" }, async (session) => {
    requireTask(session, "generate");
    if (!isStream) return answerWhole(context, session, body);
    await streamEvents(context, reply, session.errors, streamForm, (send) =>
      run(context, session, body, (chunk) => {
        if (chunk.text === "" && chunk.finishReason === undefined) return;
        send(toEvent(describe(session, body, [chunk])));
      }),
    );
    return undefined;
  });
}

async function answerWhole(context: OpenAiContext, session: Session, body: GenerateBody): Promise<object> {
  const chunks: GenerateChunk[] = [];
  await run(context, session, body, (chunk) => chunks.push(chunk));
  return describe(session, body, chunks);
}

async function run(
  { settings }: OpenAiContext,
  session: Session,
  { text_input, parameters: given }: GenerateBody,
  onChunk: (chunk: GenerateChunk) => void,
): Promise<void> {
  const parameters = given ?? {};
  const wanted = { ...newTokensOf(parameters), ...(parameters.details ? { logprobs: 0 } : {}) };
  const call: GenerateCall = {
    ...toCall(parameters, wanted, session.engine, settings),
    prompt: textPrompt(text_input, parameters),
  };
  await generateAll(session, [call], [{ start: () => {}, chunk: onChunk }]);
}

/** The answer that some chunks are. */
function describe({ name, model, engine }: Session, body: GenerateBody, chunks: readonly GenerateChunk[]): object {
  const last = chunks.at(-1);
  const logprobs = chunks.flatMap((chunk) => chunk.logprobs ?? []).map((token) => toDetails(token, engine));
  const details = { finish_reason: last === undefined ? null : toFinishReason(last), logprobs };
  return {
    ...(typeof body.id === "string" ? { id: body.id } : {}),
    text_output: chunks.map(({ text }) => text).join(""),
    model_name: name,
    model_version: model.version,
    ...(body.parameters?.details ? { details } : {}),
  };
}

/** null while the text goes on. */
function toFinishReason({ finishReason, stopReason }: GenerateChunk): string | null {
  if (finishReason !== "stop") return finishReason ?? null;
  return typeof stopReason === "string" ? "stop_sequence" : "eos_token";
}

function toDetails({ id, logprob, token }: GeneratedLogprob, { tokenizer }: EngineDescription): TokenDetails {
  const special = id === tokenizer?.eosTokenId || id === tokenizer?.bosTokenId;
  // JSON has no infinity.
  return { id, logprob: Math.max(logprob, -9999), special, text: token ?? "" };
}
