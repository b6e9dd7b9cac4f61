import type { FastifyReply } from "fastify";
import { ShardspeedError } from "../../../base/errors.js";
import type { Logger } from "../../../base/logger.js";
import { showValue } from "../../../base/text.js";
import { abortOnDisconnect } from "../../http/disconnect.js";
import type { ModelDirectory, Reservation, ServedModel } from "../../served_model.js";
import type { EngineCallName, EngineCalls, EngineDescription } from "../../worker/calls.js";
import { unsupportedTask } from "./body.js";
import { ApiError, type ErrorContext, invalidRequest, toApiError } from "./errors.js";
import type { OpenAiSettings } from "./settings.js";
import type { IgnoredFields } from "./unsupported.js";

/** Some of the server's routes, for its OpenAPI document. */
export interface DocumentPart {
  /** Operations by URL and method. */
  paths: Readonly<Record<string, Readonly<Record<string, object>>>>;
  schemas?: Readonly<Record<string, object>>;
}

/** What all routes share. */
export interface OpenAiContext {
  models: ModelDirectory;
  settings: OpenAiSettings;
  logger: Logger;
  ignored: IgnoredFields;
  /** Routes of other plugins, for the OpenAPI document. */
  alsoServed: readonly DocumentPart[];
}

/** A model as requests know it. */
export interface NamedModel {
  name: string;
  model: ServedModel;
}

/** Models that these routes may serve, by each of their names. Those whose handler has no engine are for other routes. */
export function listModels({ models, settings }: OpenAiContext): NamedModel[] {
  return models
    .list()
    .filter(({ engine, state }) => engine !== undefined || state !== "ready")
    .flatMap((model) => {
      const names = Object.hasOwn(settings.servedNames, model.name) ? settings.servedNames[model.name] : undefined;
      return (names ?? [model.name]).map((name) => ({ name, model }));
    });
}

/**
 * The model that a request names. With one model it need not.
 *
 * @throws ApiError that lists the models there are.
 */
export function findModel(context: OpenAiContext, asked: string | null | undefined): NamedModel {
  const known = listModels(context);
  const found = known.find(({ name }) => name === asked);
  if (found !== undefined) return found;
  const [first] = known;
  const isOnly = first !== undefined && known.every(({ model }) => model === first.model);
  if (isOnly && (asked === undefined || asked === null || asked === "")) return first;
  if (isOnly && context.settings.anyModelName) return { name: asked as string, model: first.model };
  if (asked === undefined || asked === null || asked === "") {
    throw invalidRequest(
      "missing_required_parameter",
      `Missing required parameter: model. ${nameModels(context)}`,
      "model",
    );
  }
  throw modelNotFound(context, asked);
}

export function modelNotFound(context: OpenAiContext, asked: string): ApiError {
  const message = `The model ${showValue(asked)} does not exist. ${nameModels(context)}`;
  return new ApiError(404, "invalid_request_error", "model_not_found", message, { param: "model" });
}

function nameModels(context: OpenAiContext): string {
  const names = listModels(context).map(({ name }) => name);
  return names.length === 0 ? "There are none." : `Models are: ${names.slice(0, 100).join(", ")}.`;
}

/** A request that has its places in the queue. */
export interface Session extends NamedModel {
  engine: EngineDescription;
  reservation: Reservation;
  /** Aborts when the client has gone, and by abort(). */
  signal: AbortSignal;
  /** Ends all that the request has asked for: it has failed. */
  abort(): void;
  /** What failures are told in terms of. */
  errors: ErrorContext;
  /** Asks a worker. */
  call<Name extends EngineCallName>(
    name: Name,
    argument: EngineCalls[Name]["argument"],
    onPart?: (parts: EngineCalls[Name]["part"][]) => void,
  ): Promise<EngineCalls[Name]["result"]>;
}

type Task = EngineDescription["tasks"][number];

const taskNames: Readonly<Record<Task, string>> = {
  generate: "generate text",
  chat: "answer conversations, as it has no chat template: start the server with --chat-template FILE",
  embed: "make embeddings",
  classify: "classify texts",
  score: "score texts",
};

/** @throws ApiError where the model does none of these. */
export function requireTask({ name, engine }: Pick<Session, "name" | "engine">, ...tasks: Task[]): void {
  if (tasks.some((task) => engine.tasks.includes(task))) return;
  throw unsupportedTask(name, taskNames[tasks[0] as Task]);
}

/** What a request takes of the queue. */
interface Places {
  /** Sequences of the request. */
  count: number;
  promptField: string;
}

/**
 * Takes places in the queue, before anything that costs time, does the work, and gives the places back whatever happens.
 *
 * @throws ApiError for every failure that it knows.
 */
export async function withSession<T>(
  { settings }: OpenAiContext,
  { name, model }: NamedModel,
  reply: FastifyReply,
  { count, promptField }: Places,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  const signal = abortOnDisconnect(reply, ending);
  const reservation = model.reserve(count);
  const { engine } = model;
  const errors = { promptField, contextTokens: engine?.contextTokens, ...settings };
  try {
    if (engine === undefined) throw unsupportedTask(name, "take requests of this kind");
    return await work({
      name,
      ...{ model, engine, reservation, signal, errors },
      abort: () => ending.abort(),
      call: (called, argument, onPart) =>
        model.call(called, argument, { reservation, signal, ...(onPart === undefined ? {} : { onPart }) }),
    });
  } catch (error) {
    throw ShardspeedError.isInstance(error) ? toApiError(error, errors) : error;
  } finally {
    reservation.release();
  }
}

/** Headers that say how long a request waited and took. */
export function setTimingHeaders(reply: FastifyReply, { timeline }: Reservation): void {
  const { receivedAt, dispatchedAt = receivedAt } = timeline;
  reply.header("openai-processing-ms", Math.max(0, Math.round(performance.now() - receivedAt)));
  reply.header("x-shardspeed-queue-ms", Math.max(0, Math.round(dispatchedAt - receivedAt)));
}
