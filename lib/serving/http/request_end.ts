import type { FastifyReply, FastifyRequest, onRequestHookHandler } from "fastify";

/** How a request ended. */
export interface RequestEnd {
  /** The pattern of its route, never its URL, which may hold anything. */
  route: string;
  method: string;
  /** The status that was sent; 499 where the client went away before one was. */
  code: number;
  seconds: number;
  /** The client went away, or was dropped, before it had the whole answer. */
  isAborted: boolean;
}

/**
 * A hook that sees the end of every request: the first of all hooks. Fastify's onResponse runs only for answers that were sent to their end, so a client
 * that went away would be neither logged nor counted.
 */
export function requestEndHook(handlers: {
  onStart?(request: FastifyRequest): void;
  onEnd(end: RequestEnd, request: FastifyRequest): void;
}): onRequestHookHandler {
  return (request, reply, done) => {
    const startedAt = performance.now();
    let isWhole = false;
    handlers.onStart?.(request);
    reply.raw.once("finish", () => {
      isWhole = true;
    });
    reply.raw.once("close", () => {
      const seconds = (performance.now() - startedAt) / 1000;
      handlers.onEnd({ seconds, isAborted: !isWhole, ...describeEnd(request, reply, isWhole) }, request);
    });
    done();
  };
}

function describeEnd(request: FastifyRequest, { raw, statusCode }: FastifyReply, isWhole: boolean) {
  return {
    route: request.routeOptions.url ?? "unmatched",
    method: request.method,
    code: raw.headersSent ? raw.statusCode : isWhole ? statusCode : 499,
  };
}
