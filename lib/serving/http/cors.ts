import type { FastifyReply, FastifyRequest, onRequestHookHandler } from "fastify";
import type { OnRefuse } from "./refusal.js";

export interface CorsOptions {
  /** Origins whose pages may read answers; "*": all. */
  origins: readonly string[];
  /** Default: all that the server knows. */
  methods?: readonly string[];
  /** Default: all that a page asks for. */
  headers?: readonly string[];
  onRefuse: OnRefuse;
}

const knownMethods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
const readingMethods = ["GET", "HEAD", "OPTIONS"];
const exposedHeaders = "x-request-id, retry-after, openai-processing-ms, x-shardspeed-queue-ms";
const secondsToRemember = 600;

/** Headers as a browser lists them: names with commas between. */
const headerNames = /^[\w!#$%&'*+.^`|~-]+(?: *, *[\w!#$%&'*+.^`|~-]+)*$/;

/**
 * A hook for pages of other origins. Those that are allowed may read answers and send what needs a preflight; credentials of the browser are never
 * asked for. Pages of other origins must not change anything: without a key on the server any page could, since text/plain needs no preflight.
 */
export function corsHook(options: CorsOptions): onRequestHookHandler {
  const allowed = new Set(options.origins.map((origin) => origin.toLowerCase().replace(/\/$/, "")));
  return (request, reply, done) => {
    const { origin } = request.headers;
    if (origin === undefined) return done();
    const isPreflight = request.method === "OPTIONS" && "access-control-request-method" in request.headers;
    const isAllowed = allowed.has("*") || allowed.has(origin.toLowerCase());
    if (isAllowed) {
      reply.header("access-control-allow-origin", allowed.has("*") ? "*" : origin);
      reply.header("access-control-expose-headers", exposedHeaders);
    }
    if (!allowed.has("*")) reply.header("vary", "Origin");
    if (isAllowed && isPreflight) return void answerPreflight(request, reply, options);
    if (isAllowed || isSameOrigin(request, origin)) return done();
    if (!isPreflight && readingMethods.includes(request.method)) return done(); // the browser keeps the answer from the page
    options.onRefuse(
      reply,
      403,
      "origin_not_allowed",
      "Pages of this origin may not use this server: --allowed-origins.",
    );
  };
}

function answerPreflight(request: FastifyRequest, reply: FastifyReply, options: CorsOptions): FastifyReply {
  const { methods = [], headers = [] } = options;
  const asked = request.headers["access-control-request-headers"];
  const shown = headers.length > 0 ? headers.join(", ") : asked !== undefined && headerNames.test(asked) ? asked : "";
  reply.header("access-control-allow-methods", (methods.length > 0 ? methods : knownMethods).join(", "));
  if (shown !== "") reply.header("access-control-allow-headers", shown);
  return reply.header("access-control-max-age", secondsToRemember).code(204).send();
}

/** The server's own page: also behind a proxy that changes the host, where the browser's own word counts. */
function isSameOrigin(request: FastifyRequest, origin: string): boolean {
  if (request.headers["sec-fetch-site"] === "same-origin") return true;
  const host = request.headers["x-forwarded-host"] ?? request.headers.host;
  return typeof host === "string" && origin.replace(/^https?:\/\//i, "").toLowerCase() === host.toLowerCase();
}
