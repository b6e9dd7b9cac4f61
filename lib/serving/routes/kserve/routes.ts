import type { FastifyReply, FastifyRequest } from "fastify";
import { readPackageInfo } from "../../../base/package_info.js";
import type { ServedModel } from "../../served_model.js";
import type { ApiRoute } from "../openai/api_route.js";
import { ApiError } from "../openai/errors.js";
import { describeRoutes } from "../openai/openapi.js";
import { type DocumentPart, listModels, type NamedModel, type OpenAiContext } from "../openai/session.js";
import * as answers from "./answers.js";
import { generateSchema, inferSchema } from "./fields.js";
import { answerGenerate } from "./generate.js";
import { answerByHandler } from "./handler.js";
import { answerInfer } from "./infer.js";
import { describeModel } from "./metadata.js";

/** What the server knows beyond the models that answer. */
export interface KServeState {
  /** Whether the server can answer. */
  isReady(): boolean;
  /** The versions of a model. */
  versionsOf(model: ServedModel): readonly string[];
}

interface ModelParams {
  /** Of a name with a slash. */
  owner?: string;
  name: string;
  version?: string;
}

/** A route of a model, below its name and version. */
interface ModelRoute extends Omit<ApiRoute, "urls" | "handle"> {
  /** What stands behind the name and version. */
  url: string;
  handle(
    context: OpenAiContext,
    named: NamedModel,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<object | undefined> | object;
}

function isOfHandler({ model }: NamedModel): boolean {
  return model.engine === undefined && model.state === "ready";
}

function listModelRoutes({ versionsOf }: KServeState): readonly ModelRoute[] {
  return [
    {
      method: "GET",
      url: "",
      operation: "kserveModel",
      summary: "A model's versions, inputs and outputs",
      answer: answers.modelMetadataAnswer,
      handle: (_, { name, model }) => ({ ...describeModel(model, versionsOf(model)), name }),
    },
    {
      method: "GET",
      url: "/ready",
      operation: "kserveModelReady",
      summary: "Whether a model can answer",
      answer: answers.modelReadyAnswer,
      otherAnswers: { 503: answers.modelReadyAnswer },
      handle: (_, { name, model }, __, reply) => {
        const ready = model.state === "ready";
        if (!ready) reply.code(503);
        return { name, ready };
      },
    },
    {
      method: "POST",
      url: "/infer",
      operation: "kserveInfer",
      summary: "Generate, embed or classify: tensors of texts or token ids",
      body: inferSchema,
      answer: answers.inferAnswer,
      isByHandler: true,
      handle: (context, named, request, reply) =>
        isOfHandler(named) ? answerByHandler(named, request, reply) : answerInfer(context, named, request.body, reply),
    },
    {
      method: "POST",
      url: "/explain",
      operation: "kserveExplain",
      summary: "Explanations of a model's handler",
      body: inferSchema,
      isByHandler: true,
      handle: (_, named, request, reply) => {
        if (isOfHandler(named)) return answerByHandler(named, request, reply, true);
        const message = `The model ${named.name} has no handler that explains.`;
        throw new ApiError(400, "invalid_request_error", "unsupported_task", message);
      },
    },
    {
      method: "POST",
      url: "/generate",
      operation: "kserveGenerate",
      summary: "Continue a text",
      body: generateSchema,
      answer: answers.generateAnswer,
      handle: (context, named, { body }, reply) => answerGenerate(context, named, body, reply, false),
    },
    {
      method: "POST",
      url: "/generate_stream",
      operation: "kserveGenerateStream",
      summary: "Continue a text as a stream",
      body: generateSchema,
      chunk: answers.generateAnswer,
      handle: (context, named, { body }, reply) => answerGenerate(context, named, body, reply, true),
    },
  ];
}

function listServerRoutes({ isReady }: KServeState): readonly ApiRoute[] {
  return [
    {
      method: "GET",
      urls: ["/v2"],
      operation: "kserveServer",
      summary: "The server's name and version",
      answer: answers.serverAnswer,
      handle: () => ({ name: "shardspeed", version: readPackageInfo().version, extensions: ["generate"] }),
    },
    {
      method: "GET",
      urls: ["/v2/health/live"],
      operation: "kserveLive",
      summary: "Whether the server runs",
      answer: answers.liveAnswer,
      handle: () => ({ live: true }),
    },
    {
      method: "GET",
      urls: ["/v2/health/ready"],
      operation: "kserveReady",
      summary: "Whether the server can answer",
      answer: answers.readyAnswer,
      otherAnswers: { 503: answers.readyAnswer },
      handle: (_, __, reply) => {
        const ready = isReady();
        if (!ready) reply.code(503);
        return { ready };
      },
    },
    {
      method: "GET",
      urls: ["/v2/models"],
      operation: "kserveModels",
      summary: "The names of the models",
      answer: answers.modelNamesAnswer,
      handle: (context) => ({ models: listNames(context) }),
    },
  ];
}

export function listRoutes(state: KServeState): readonly ApiRoute[] {
  const ofModels = listModelRoutes(state).map(
    ({ url, handle, ...route }): ApiRoute => ({
      ...route,
      urls: ["/v2/models/:name", "/v2/models/:owner/:name"].flatMap((model) => [
        `${model}${url}`,
        `${model}/versions/:version${url}`,
      ]),
      handle: (context, request, reply) =>
        handle(context, findModel(context, request.params as ModelParams), request, reply),
    }),
  );
  return [...listServerRoutes(state), ...ofModels];
}

export function describeKserve(): DocumentPart {
  const routes = listRoutes({ isReady: () => true, versionsOf: () => [] });
  return describeRoutes(routes, { name: "KServeError", schema: answers.kserveError });
}

function listNames(context: OpenAiContext): string[] {
  const served = listModels(context).map(({ name }) => name);
  return [...new Set([...served, ...context.models.list().map(({ name }) => name)])];
}

/** @throws ServingError for a model or version that is not there. */
function findModel(context: OpenAiContext, { owner, name: last, version }: ModelParams): NamedModel {
  const name = owner === undefined ? last : `${owner}/${last}`;
  const served = version === undefined ? listModels(context).find((one) => one.name === name) : undefined;
  return served ?? { name, model: context.models.find(name, version) };
}
