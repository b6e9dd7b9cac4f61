import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

const wellFormedId = /^[A-Za-z0-9._:-]{1,128}$/;

/** The client's x-request-id where it is well formed, else a new one: as genReqId of Fastify. */
export function readRequestId({ headers }: { headers: IncomingHttpHeaders }): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && wellFormedId.test(given) ? given : randomUUID();
}

/** The W3C trace context of a request; undefined where it is none. */
export function readTraceParent(headers: IncomingHttpHeaders): string | undefined {
  const given = headers.traceparent;
  return typeof given === "string" && /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(given) ? given : undefined;
}
