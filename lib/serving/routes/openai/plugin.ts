import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type Logger, silentLogger } from "../../../base/logger.js";
import { readRequestId } from "../../http/request_id.js";
import type { ModelDirectory } from "../../served_model.js";
import type { ApiRoute } from "./api_route.js";
import { ApiError, methodNotAllowed, toApiError } from "./errors.js";
import { apiRoutes } from "./routes.js";
import type { DocumentPart, OpenAiContext } from "./session.js";
import { defaultOpenAiSettings, type OpenAiSettings } from "./settings.js";
import { whenSent } from "./stream.js";
import { IgnoredFields } from "./unsupported.js";

export interface OpenAiOptions {
  models: ModelDirectory;
  settings?: Partial<OpenAiSettings>;
  logger?: Logger;
  /** Receives the name of a known field without effect, for each request with it. The names are from a fixed list. */
  onIgnoredField?: (field: string) => void;
  /** Routes of other plugins, which GET /openapi.json has too. */
  alsoServed?: readonly DocumentPart[];
}

/** What the routes share, for this API and for those that are answered by the same means. */
export function makeContext(options: OpenAiOptions): OpenAiContext {
  const { models, logger = silentLogger, onIgnoredField = () => {}, alsoServed = [] } = options;
  return {
    ...{ models, logger, alsoServed },
    settings: { ...defaultOpenAiSettings, ...options.settings },
    ignored: new IgnoredFields((message) => logger.debug(message), onIgnoredField),
  };
}

/** OpenAI's API as a Fastify plugin. Its errors have OpenAI's form, and so has what is not there below /v1. */
export async function openAiRoutes(app: FastifyInstance, options: OpenAiOptions): Promise<void> {
  const context = makeContext(options);
  const routes = apiRoutes.filter(({ isThere = () => true }) => isThere(context.settings));
  await addFamily(app, context, { routes, prefix: "/v1", toBody: ({ body }) => body });
}

/** An API of its own: its routes, and how it tells failures. */
export interface ApiFamily {
  routes: readonly Pick<ApiRoute, "method" | "urls" | "handle">[];
  /** URLs below it are the family's, also those that are not there. */
  prefix: string;
  /** The body of a failure. */
  toBody(error: ApiError, requestId: string): object;
}

/** Adds the routes of an API to a plugin that has no others. */
export async function addFamily(app: FastifyInstance, context: OpenAiContext, family: ApiFamily): Promise<void> {
  // Only JSON: forms and plain text need no preflight of a browser, so any page could send them.
  app.removeContentTypeParser("text/plain");
  app.addHook("onRequest", setRequestId);
  const fail = (error: unknown, request: FastifyRequest, reply: FastifyReply) =>
    sendError(context, family, error, request, reply);
  app.setErrorHandler((error: FastifyError, request, reply) => fail(error, request, reply));
  for (const route of family.routes) addRoute(app, route, context);
  refuseOtherMethods(app, family.routes);
  await app.register(
    async (below) => {
      below.setNotFoundHandler((request, reply) => fail(unknownUrl(request), request, reply));
    },
    { prefix: family.prefix },
  );
}

function addRoute(app: FastifyInstance, route: ApiFamily["routes"][number], context: OpenAiContext): void {
  const { method, urls, handle } = route;
  for (const url of urls) {
    app.route({
      method,
      url,
      bodyLimit: context.settings.bodyLimitBytes,
      handler: async (request, reply) => {
        const answer = await handle(context, request, reply);
        if (answer === undefined) await whenSent(reply);
        return answer;
      },
    });
  }
}

/** Marks routes that only say what a URL takes: the OpenAPI document leaves them out. */
export const undocumented = { isUndocumented: true };

/** Fastify knows no 405: a wrong method would be an unknown URL. */
function refuseOtherMethods(app: FastifyInstance, routes: ApiFamily["routes"]): void {
  const known = new Map<string, string[]>();
  for (const { urls, method } of routes) {
    for (const url of urls) {
      const methods = known.get(url) ?? [];
      methods.push(method, ...(method === "GET" ? ["HEAD"] : []));
      known.set(url, methods);
    }
  }
  for (const [url, methods] of known) {
    const allowed = [...methods, "OPTIONS"];
    app.route({
      method: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].filter((method) => !methods.includes(method)),
      url,
      config: undocumented,
      // Ahead of the body, whose form is of no concern then.
      onRequest: async ({ method }) => {
        throw methodNotAllowed(method, allowed);
      },
      handler: async () => {},
    });
    app.options(url, { config: undocumented }, async (_, reply) =>
      reply.code(204).header("allow", allowed.join(", ")).send(),
    );
  }
}

function unknownUrl({ method, url }: FastifyRequest): ApiError {
  const path = url.split("?")[0] ?? "";
  return new ApiError(
    404,
    "invalid_request_error",
    "unknown_url",
    `Unknown request URL: ${method} ${path.slice(0, 200)}.`,
  );
}

function sendError(
  context: OpenAiContext,
  { toBody }: ApiFamily,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const failure = toApiError(error, context.settings);
  if (failure.status >= 500)
    context.logger.error(`${request.method} ${request.routeOptions.url ?? ""} failed: ${String(error)}`);
  reply
    .code(failure.status)
    .headers(failure.details.headers ?? {})
    .send(toBody(failure, String(reply.getHeader("x-request-id"))));
}

/** Where the server has not set it. */
function setRequestId(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  if (!reply.hasHeader("x-request-id")) reply.header("x-request-id", readRequestId(request));
  done();
}
