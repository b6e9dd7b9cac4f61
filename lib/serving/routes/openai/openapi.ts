import * as z from "zod";
import { readPackageInfo } from "../../../base/package_info.js";
import { errorAnswer } from "./answers.js";
import type { ApiRoute } from "./api_route.js";
import { errorStatuses } from "./errors.js";
import type { DocumentPart } from "./session.js";

export const statusTexts: Readonly<Record<number, string>> = {
  400: "The request is wrong, or asks for what is not supported",
  401: "There is no key, or an unknown one",
  403: "The key is for something else, or pages of this origin or host name may not use the server",
  404: "There is no such model",
  405: "The URL takes other methods",
  409: "The model is there already",
  413: "The body is too large",
  415: "The body is not JSON",
  429: "The queue is full, or the key has used up its rate",
  500: "The engine failed",
  502: "Another server failed",
  503: "The queue is full, or no worker is ready: try again after Retry-After",
  504: "The answer took too long",
  507: "There is not enough memory",
};

/** The form in which an API tells failures. */
export interface ErrorForm {
  /** Its name among the document's schemas. */
  name: string;
  schema: z.ZodType;
}

const openAiErrors: ErrorForm = { name: "Error", schema: errorAnswer };

/** An OpenAPI document of the routes that a listener has. */
export function buildOpenApi(parts: readonly DocumentPart[]): object {
  const paths: Record<string, Record<string, object>> = {};
  const schemas: Record<string, object> = {};
  for (const part of parts) {
    for (const [url, operations] of Object.entries(part.paths)) paths[url] = { ...paths[url], ...operations };
    Object.assign(schemas, part.schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "shardspeed",
      version: readPackageInfo().version,
      description:
        "The APIs of OpenAI, Anthropic, KServe and TorchServe over models that shardspeed serves, with extensions of vLLM and llama.cpp.",
    },
    servers: [{ url: "/" }],
    paths,
    components: { schemas, securitySchemes: { key: { type: "http", scheme: "bearer" } } },
    security: [{}, { key: [] }],
  };
}

/** Routes from the schemas that check their requests. A route with several URLs has an operation for each, since names of operations are unique. */
export function describeRoutes(routes: readonly ApiRoute[], errors: ErrorForm = openAiErrors): DocumentPart {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    for (const [i, url] of route.urls.entries()) {
      const documented = url.replace("*", "{id}").replace(/:(\w+)/g, "{$1}");
      const operationId = i === 0 ? route.operation : `${route.operation}_${i + 1}`;
      paths[documented] = {
        ...paths[documented],
        [route.method.toLowerCase()]: describe({ ...route, operation: operationId }, documented, errors),
      };
    }
  }
  return { paths, schemas: { [errors.name]: toSchema(errors.schema, "output") } };
}

function describe(route: ApiRoute, url: string, errors: ErrorForm): object {
  const { operation, summary, body } = route;
  const parameters = [...url.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    ...{ name, in: "path", required: true },
    schema: { type: "string", minLength: 1 },
  }));
  return {
    operationId: operation,
    summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: toSchema(body, "input") } } } }),
    responses: describeAnswers(route, errors),
  };
}

function describeAnswers({ answer, chunk, otherAnswers = {}, isByHandler }: ApiRoute, errors: ErrorForm): object {
  const failure = { $ref: `#/components/schemas/${errors.name}` };
  const others = Object.entries(otherAnswers).map(([status, schema]) => [Number(status), toSchema(schema, "output")]);
  const bySchema = new Map<number, object>(others as [number, object][]);
  const failures = errorStatuses.map((status) => {
    const other = bySchema.get(status);
    const schema = other === undefined ? failure : { anyOf: [other, failure] };
    return [status, { description: statusTexts[status] as string, content: { "application/json": { schema } } }];
  });
  const success = {
    ...(answer === undefined ? {} : { "application/json": { schema: toSchema(answer, "output") } }),
    ...(chunk === undefined ? {} : { "text/event-stream": { schema: {} } }),
  };
  const byHandler = { description: "The answer of the model's handler", content: { "*/*": {} } };
  return {
    200: {
      description:
        chunk === undefined || answer === undefined
          ? "The answer"
          : "The answer, or with `stream` its chunks as events",
      content: isByHandler ? { ...success, ...byHandler.content } : success,
    },
    ...Object.fromEntries(failures),
    ...(isByHandler ? { default: byHandler } : {}),
  };
}

export function toSchema(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io });
  return rest;
}
