import * as z from "zod";
import { readPackageInfo } from "../../../base/package_info.js";
import { errorAnswer } from "./answers.js";
import type { ApiRoute } from "./api_route.js";
import { errorStatuses } from "./errors.js";

const statusTexts: Readonly<Record<number, string>> = {
  400: "The request is wrong, or asks for what is not supported",
  401: "There is no key, or an unknown one",
  403: "The key is for something else",
  404: "There is no such model",
  413: "The body is too large",
  415: "The body is not JSON",
  429: "The queue is full, or the key has used up its rate",
  500: "The engine failed",
  503: "The queue is full, or no worker is ready: try again after Retry-After",
  504: "The answer took too long",
  507: "There is not enough memory",
};

const errorReference = { $ref: "#/components/schemas/Error" };

/** An OpenAPI document of routes, from the schemas that check their requests. */
export function buildOpenApi(routes: readonly ApiRoute[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const url = (route.urls[0] as string).replace("*", "{id}");
    paths[url] = { ...paths[url], [route.method.toLowerCase()]: describe(route, url) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "shardspeed",
      version: readPackageInfo().version,
      description: "OpenAI's API over models that shardspeed serves, with extensions of vLLM and llama.cpp.",
    },
    servers: [{ url: "/" }],
    paths,
    components: {
      schemas: { Error: toSchema(errorAnswer, "output") },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
    security: [{}, { key: [] }],
  };
}

function describe({ operation, summary, body, answer, chunk }: ApiRoute, url: string): object {
  const parameters = url.includes("{id}")
    ? [{ name: "id", in: "path", required: true, schema: { type: "string", minLength: 1 } }]
    : [];
  const failures = errorStatuses.map((status) => [
    String(status),
    { description: statusTexts[status] as string, content: { "application/json": { schema: errorReference } } },
  ]);
  return {
    operationId: operation,
    summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: toSchema(body, "input") } } } }),
    responses: {
      200: {
        description: chunk === undefined ? "The answer" : "The answer, or with `stream` its chunks as events",
        content: {
          "application/json": { schema: toSchema(answer, "output") },
          ...(chunk === undefined ? {} : { "text/event-stream": { schema: { type: "string" } } }),
        },
      },
      ...Object.fromEntries(failures),
    },
  };
}

function toSchema(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}
