import type { FastifyInstance, FastifyRequest } from "fastify";

const bodies = new WeakMap<FastifyRequest, string>();

/** Keeps the text of JSON bodies: written again, numbers may come out otherwise. */
export function keepRawBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeContentTypeParser("application/json");
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    bodies.set(request, body as string);
    parse(request, body as string, done);
  });
}

/** The body as it came. */
export function rawBodyOf(request: FastifyRequest): string {
  return bodies.get(request) ?? JSON.stringify(request.body);
}
