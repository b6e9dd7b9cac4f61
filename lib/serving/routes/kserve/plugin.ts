import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { readPackageInfo } from "../../../base/package_info.js";
import type { ServedModel } from "../../served_model.js";
import { ApiError } from "../openai/errors.js";
import { addFamily, makeContext, type OpenAiOptions } from "../openai/plugin.js";
import { listModels, type NamedModel, type OpenAiContext } from "../openai/session.js";
import { answerGenerate } from "./generate.js";
import { answerByHandler } from "./handler.js";
import { answerInfer } from "./infer.js";
import { describeModel } from "./metadata.js";
import { keepRawBodies } from "./raw_body.js";

export interface KServeOptions extends OpenAiOptions {
  /** Whether the server can answer. Default: whether all models can. */
  isReady?: () => boolean;
  /** The versions of a model. Default: the one that answers. */
  versionsOf?: (model: ServedModel) => readonly string[];
}

interface ModelParams {
  /** Of a name with a slash. */
  owner?: string;
  name: string;
  version?: string;
}

type Handler = (
  context: OpenAiContext,
  named: NamedModel,
  request: FastifyRequest,
  reply: FastifyReply,
) => Promise<object | undefined> | object;

function isOfHandler({ model }: NamedModel): boolean {
  return model.engine === undefined && model.state === "ready";
}

interface ModelRoute {
  method: "GET" | "POST";
  /** What stands behind the name and version. */
  url: string;
  handle: Handler;
}

const modelRoutes: readonly ModelRoute[] = [
  {
    method: "GET",
    url: "/ready",
    handle: (_, { name, model }, __, reply) => {
      const ready = model.state === "ready";
      if (!ready) reply.code(503);
      return { name, ready };
    },
  },
  {
    method: "POST",
    url: "/infer",
    handle: (context, named, request, reply) =>
      isOfHandler(named) ? answerByHandler(named, request, reply) : answerInfer(context, named, request.body, reply),
  },
  {
    method: "POST",
    url: "/explain",
    handle: (_, named, request, reply) => {
      if (isOfHandler(named)) return answerByHandler(named, request, reply, true);
      throw new ApiError(
        400,
        "invalid_request_error",
        "unsupported_task",
        `The model ${named.name} has no handler that explains.`,
      );
    },
  },
  {
    method: "POST",
    url: "/generate",
    handle: (context, named, { body }, reply) => answerGenerate(context, named, body, reply, false),
  },
  {
    method: "POST",
    url: "/generate_stream",
    handle: (context, named, { body }, reply) => answerGenerate(context, named, body, reply, true),
  },
];

/** Version 2 of KServe's protocol, the Open Inference Protocol, over REST, as a Fastify plugin. Its errors have the protocol's form. */
export async function kserveRoutes(app: FastifyInstance, options: KServeOptions): Promise<void> {
  const context = makeContext(options);
  keepRawBodies(app);
  const { versionsOf = ({ version }: ServedModel) => [version] } = options;
  const metadata: ModelRoute = {
    method: "GET",
    url: "",
    handle: (_, { name, model }) => ({ ...describeModel(model, versionsOf(model)), name }),
  };
  const isReady = options.isReady ?? (() => options.models.list().every(({ state }) => state === "ready"));
  const serverRoutes = [
    {
      url: "/v2",
      answer: () => ({ name: "shardspeed", version: readPackageInfo().version, extensions: ["generate"] }),
    },
    { url: "/v2/health/live", answer: () => ({ live: true }) },
    {
      url: "/v2/health/ready",
      answer: (reply: FastifyReply) => {
        const ready = isReady();
        if (!ready) reply.code(503);
        return { ready };
      },
    },
    { url: "/v2/models", answer: () => ({ models: listNames(context) }) },
  ];
  await addFamily(app, context, {
    prefix: "/v2",
    toBody: ({ message }) => ({ error: message }),
    routes: [
      ...serverRoutes.map(({ url, answer }) => ({
        method: "GET" as const,
        urls: [url],
        handle: (_: OpenAiContext, __: FastifyRequest, reply: FastifyReply) => answer(reply),
      })),
      ...[metadata, ...modelRoutes].map(({ method, url, handle }) => ({
        method,
        urls: ["/v2/models/:name", "/v2/models/:owner/:name"].flatMap((model) => [
          `${model}${url}`,
          `${model}/versions/:version${url}`,
        ]),
        handle: (_: OpenAiContext, request: FastifyRequest, reply: FastifyReply) =>
          handle(context, findModel(context, request.params as ModelParams), request, reply),
      })),
    ],
  });
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
