import { randomUUID } from "node:crypto";
import type { FastifyReply } from "fastify";
import { isObject } from "../../../base/objects.js";
import { readBody, unsupportedTask } from "../openai/body.js";
import { invalidRequest } from "../openai/errors.js";
import { generateAll, type SequenceReader } from "../openai/generation.js";
import { checkIds, wellFormed } from "../openai/prompts.js";
import { checkSampling, toCall } from "../openai/sampling.js";
import { type NamedModel, type OpenAiContext, type Session, withSession } from "../openai/session.js";
import { type InferBody, inferSchema, type Parameters } from "./fields.js";
import { type InputRows, type OutputTensor, readInputs, selectOutputs } from "./tensors.js";

/** The protocol's default. */
const defaultMaxTokens = 20;

export function newTokensOf(parameters: Parameters) {
  return { most: parameters.max_tokens ?? undefined, field: "parameters.max_tokens", unset: defaultMaxTokens };
}

/** POST /v2/models/{name}/infer of a model that an engine runs. */
export async function answerInfer(
  context: OpenAiContext,
  named: NamedModel,
  given: unknown,
  reply: FastifyReply,
): Promise<object> {
  const { settings } = context;
  const body = readBody(inferSchema, given, dataOf(given));
  const parameters = body.parameters ?? {};
  checkSampling(parameters, newTokensOf(parameters), settings);
  const rows = readInputs(body, settings.maxInputs);
  const count = "ids" in rows ? rows.ids.length : rows.texts.length;
  return withSession(context, named, reply, { count: Math.max(1, count), promptField: "inputs" }, async (session) => {
    const outputs = await infer(context, session, body, rows);
    return {
      model_name: named.name,
      model_version: named.model.version,
      id: body.id ?? randomUUID(),
      outputs: selectOutputs(body, outputs),
    };
  });
}

/** The data of tensors, which may have a million elements. */
function dataOf(body: unknown): unknown[] {
  if (!isObject(body) || !Array.isArray(body.inputs)) return [];
  return body.inputs.map((input: unknown) => (isObject(input) ? input.data : undefined));
}

async function infer(
  context: OpenAiContext,
  session: Session,
  body: InferBody,
  rows: InputRows,
): Promise<OutputTensor[]> {
  const { tasks } = session.engine;
  if (tasks.includes("classify")) return classify(session, rows);
  if ("pairs" in rows)
    throw invalidRequest("invalid_value", "The model takes one tensor of texts, found two.", "inputs");
  if (tasks.includes("generate")) return generate(context, session, body.parameters ?? {}, rows);
  if (tasks.includes("embed")) return embed(session, body.parameters ?? {}, rows);
  throw unsupportedTask(session.name, "infer");
}

async function classify(session: Session, rows: InputRows): Promise<OutputTensor[]> {
  if ("ids" in rows) throw invalidRequest("invalid_value", "The model classifies texts, found token ids.", "inputs");
  const { texts, pairs } = rows;
  const { results } = await session.call("classify", {
    texts: texts.map((text, i) =>
      pairs === undefined ? wellFormed(text) : { text: wellFormed(text), textPair: wellFormed(pairs[i] as string) },
    ),
  });
  const shape = [results.length, session.engine.info.classes];
  return [
    { name: "scores", datatype: "FP32", shape, data: results.flatMap(({ scores }) => scores) },
    { name: "logits", datatype: "FP32", shape, data: results.flatMap(({ logits }) => logits) },
    { name: "label", datatype: "BYTES", shape: [results.length], data: results.map(({ label }) => label) },
  ];
}

async function embed(session: Session, parameters: Parameters, rows: InputRows): Promise<OutputTensor[]> {
  const most = parameters.truncate_prompt_tokens ?? undefined;
  const { values, width } = await session.call("embed", {
    texts: toPrompts(session, rows, most !== undefined),
    ...(most === undefined ? {} : { truncatePromptTokens: most }),
  });
  const shape = [width === 0 ? 0 : values.length / width, width];
  return [{ name: "embeddings", datatype: "FP32", shape, data: Array.from(values) }];
}

/** Texts as tokenizers take them, or ids of the model. */
function toPrompts(session: Session, rows: InputRows, mayExceed: boolean): (string | readonly number[])[] {
  if ("texts" in rows) return rows.texts.map(wellFormed);
  return rows.ids.map((ids, i) => checkIds(ids, `inputs[0].data[${i}]`, session.engine, { mayExceed }));
}

async function generate(
  { settings }: OpenAiContext,
  session: Session,
  parameters: Parameters,
  rows: InputRows,
): Promise<OutputTensor[]> {
  const common = toCall(parameters, newTokensOf(parameters), session.engine, settings);
  const calls = toPrompts(session, rows, common.truncatePromptTokens !== undefined).map((prompt) => ({
    ...common,
    prompt: typeof prompt === "string" ? textPrompt(prompt, parameters) : { ids: prompt },
  }));
  const texts = calls.map(() => "");
  const readers = calls.map(
    (_, i): SequenceReader => ({
      start: () => {},
      chunk: ({ text }) => {
        texts[i] += text;
      },
    }),
  );
  await generateAll(session, calls, readers);
  return [{ name: "text_output", datatype: "BYTES", shape: [texts.length], data: texts }];
}

export function textPrompt(text: string, { add_special_tokens: adds }: Parameters) {
  return { text: wellFormed(text), addSpecialTokens: adds ?? true };
}
