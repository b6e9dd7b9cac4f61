import { PassThrough } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "../../../base/logger.js";
import { abortOnDisconnect } from "../../http/disconnect.js";
import type { HandlerAnswer, ModelDirectory } from "../../served_model.js";
import { ServingError } from "../../serving_error.js";
import { undocumented } from "../openai/plugin.js";
import { describeAll, describeInference, describePredictions } from "./api_description.js";
import {
  badRequest,
  handlerFailed,
  notFound,
  noWorkerText,
  sendError,
  sendJson,
  TorchServeError,
  toTorchServeError,
} from "./errors.js";
import { readHeaders, readParts } from "./request_parts.js";

export interface InferenceOptions {
  models: ModelDirectory;
  logger: Logger;
  queueFullStatus: 503 | 429;
  /** Whether every default model has, or will have, a worker. */
  isHealthy(): boolean;
  /** Whether the management API is on the same listener: what describes it is then here. Default false. */
  hasManagement?: boolean;
  /** The model of a call that names none: the only one that the server was started with. */
  onlyModel?(): string | undefined;
}

interface Target {
  /** undefined: a field of the body may name it. */
  model: string | undefined;
  version?: string | undefined;
  /** What is behind the version, for handlers that have routes of their own. */
  rest?: string | undefined;
}

/** TorchServe's inference API as a Fastify plugin, with version 1 of KServe's. */
export async function inferenceRoutes(app: FastifyInstance, options: InferenceOptions): Promise<void> {
  const { models, isHealthy } = options;
  takeAllBodies(app);
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply, options));

  app.all("/ping", async (_, reply) => {
    const healthy = isHealthy();
    return sendJson(reply, healthy ? 200 : 500, { status: healthy ? "Healthy" : "Unhealthy" });
  });
  const describe = options.hasManagement ? describeAll : describeInference;
  for (const [method, url] of [
    ["OPTIONS", "/"],
    ["GET", "/api-description"],
  ] as const)
    app.route({ method, url, handler: async (_, reply) => sendJson(reply, 200, describe()) });

  app.addHook("onRequest", forbidCaching);
  const predict = (request: FastifyRequest, reply: FastifyReply, target: Target, more: PredictOptions = {}) =>
    answer(request, reply, options, target, more);
  const withVersion = (prefix: string, more: PredictOptions) => {
    app.all(prefix, { config: undocumented }, async () => {
      throw notFound();
    });
    for (const url of [`${prefix}:model`, `${prefix}:model/:version`])
      app.all(url, (request, reply) => predict(request, reply, { ...(request.params as Target), rest: "" }, more));
    app.all(`${prefix}:model/:version/*`, (request, reply) => {
      const { model, version, "*": rest } = request.params as { model: string; version: string; "*": string };
      return predict(request, reply, { model, version, rest }, more);
    });
  };
  withVersion("/predictions/", { explains: false });
  withVersion("/explanations/", { explains: true });
  app.all("/models/:model/invoke", (request, reply) =>
    predict(request, reply, request.params as Target, { readsQuery: true }),
  );
  app.all("/invocations", (request, reply) => {
    const { model_name: named } = request.query as { model_name?: string };
    const model = typeof named === "string" && named !== "" ? named : options.onlyModel?.();
    return predict(request, reply, { model }, { readsQuery: true });
  });
  // KServe's version 1 has a colon in its URLs, which parameters of routes have too.
  app.post("/v1/models/:target(^[^/]+:(?:predict|explain)$)", (request, reply) => {
    const { target } = request.params as { target: string };
    const [, model = "", verb] = /^(.+):(predict|explain)$/.exec(target) ?? [];
    return predict(request, reply, { model }, { explains: verb === "explain" });
  });
  for (const url of ["/:model/predict", "/:model/:version/predict"])
    app.all(url, (request, reply) => {
      const target = request.params as Target;
      // Unknown URLs look the same.
      if (!models.list().some(({ name }) => name === target.model)) throw notFound();
      return predict(request, reply, target, { readsQuery: true });
    });
}

/** Answers are of one request, as TorchServe's headers say. */
export async function forbidCaching(_: FastifyRequest, reply: FastifyReply): Promise<void> {
  reply.headers({
    pragma: "no-cache",
    "cache-control": "no-cache; no-store, must-revalidate, private",
    expires: "Thu, 01 Jan 1970 00:00:00 UTC",
  });
}

/** Bodies reach the handler as they are. */
export function takeAllBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_, body, done) => done(null, body));
}

interface PredictOptions {
  readsQuery?: boolean;
  /** undefined where the handler hears nothing of explanations. */
  explains?: boolean;
}

async function answer(
  request: FastifyRequest,
  reply: FastifyReply,
  { models }: InferenceOptions,
  { model: named, version, rest }: Target,
  { readsQuery = false, explains }: PredictOptions,
): Promise<FastifyReply> {
  const signal = abortOnDisconnect(reply);
  const known = named === undefined ? undefined : models.find(named, version);
  if (request.method === "OPTIONS" && known !== undefined) return sendJson(reply, 200, describePredictions(known));
  const parts = await readParts(request, readsQuery);
  const name = named ?? String(parts.find((part) => part.name === "model_name")?.value ?? "");
  if (name === "") throw badRequest("Parameter model_name is required.");
  const model = known ?? models.find(name, version);
  const headers = readHeaders(request);
  if (explains !== undefined) headers.explain = explains ? "True" : "False";
  if (rest !== undefined) headers.url_path = rest;
  let stream: PassThrough | undefined;
  const onPart = ({
    status,
    headers: own,
    body,
  }: {
    status: number;
    headers: Record<string, string>;
    body: Buffer;
  }) => {
    if (stream === undefined) {
      stream = new PassThrough();
      setHeaders(reply, own);
      reply.code(status).send(stream);
    }
    stream.write(body);
    // Whoever does not read is not waited for.
    if (stream.readableLength + reply.raw.writableLength > mostWaitingBytes) reply.raw.destroy();
  };
  let outcome: HandlerAnswer;
  try {
    outcome = await model.predict({ id: request.id, parts, headers, version }, { signal, onPart });
  } catch (error) {
    if (stream === undefined)
      throw isUntaken(error) ? new ServingError(error.code, noWorkerText(name, version), error.details) : error;
    // Cut, so that it does not look complete.
    reply.raw.destroy();
    return reply;
  }
  const { code, message, response } = outcome;
  if (stream !== undefined) {
    if (code === 200) stream.end(response.body);
    else reply.raw.destroy();
    return reply;
  }
  if (code !== 200) throw handlerFailed(code, message);
  setHeaders(reply, response.headers);
  if (response.status >= 400) reply.header("connection", "close");
  if (response.phrase !== null && /^[\t\x20-\x7e]*$/.test(response.phrase)) reply.raw.statusMessage = response.phrase;
  reply.code(response.status);
  if (response.contentType !== undefined) return reply.header("content-type", response.contentType).send(response.body);
  return sendUntyped(reply, response.body);
}

function isUntaken(error: unknown): error is ServingError {
  return error instanceof ServingError && (error.code === "queue_full" || error.code === "no_worker");
}

const mostWaitingBytes = 4 * 2 ** 20;

/** Without a content type, as the handler has set none: Fastify would make one up. */
export function sendUntyped(reply: FastifyReply, body: Buffer): FastifyReply {
  const { raw } = reply;
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.setHeader("content-length", body.length);
  raw.statusCode = reply.statusCode;
  raw.end(body);
  return reply;
}

/** The headers that a handler has set, but for what marks parts of a response. One that HTTP does not allow is left out. */
export function setHeaders(reply: FastifyReply, headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    if (name === "ts_stream_next" || !/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(value))
      continue;
    reply.header(name, value);
  }
}

function answerError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  { logger, queueFullStatus }: InferenceOptions,
): void {
  const failure = toTorchServeError(error, queueFullStatus);
  if (failure.status >= 500 && !(error instanceof TorchServeError))
    logger.error(`${request.method} ${request.routeOptions.url ?? ""} failed: ${String(error)}`);
  sendError(reply, failure);
}
