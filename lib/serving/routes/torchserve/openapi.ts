import { httpStatuses } from "../../../base/errors.js";
import { servingStatuses } from "../../serving_error.js";
import { statusTexts } from "../openai/openapi.js";
import type { DocumentPart } from "../openai/session.js";
import { errorSchema, inferencePaths, type Operation, type Paths } from "./api_description.js";

// TorchServe's APIs for the server's own OpenAPI document, which has every method and status. The documents at /api-description have what TorchServe's have.

/** Calls of a handler take every method, as TorchServe's do. */
export const allMethods = ["get", "head", "post", "put", "patch", "delete", "options", "trace"] as const;

const handlerPaths: Readonly<Record<string, string>> = {
  "/predictions/{model_name}": "predictions",
  "/predictions/{model_name}/{model_version}": "version_predictions",
  "/predictions/{model_name}/{model_version}/{url_path}": "url_path_predictions",
  "/explanations/{model_name}": "explanations",
  "/explanations/{model_name}/{model_version}": "version_explanations",
  "/explanations/{model_name}/{model_version}/{url_path}": "url_path_explanations",
  "/models/{model_name}/invoke": "invoke",
  "/invocations": "invocations",
  "/{model_name}/predict": "sagemaker_predict",
  "/{model_name}/{model_version}/predict": "version_sagemaker_predict",
};

/** Of the server, of the engine, and of the bodies that it refuses. 499 is for those who have gone. */
const failureStatuses = [
  ...new Set([
    ...Object.values(httpStatuses),
    ...Object.values(servingStatuses),
    401,
    403,
    404,
    405,
    409,
    413,
    415,
    429,
  ]),
]
  .filter((status) => status !== 499)
  .sort((one, other) => one - other);

const errorReference = { $ref: "#/components/schemas/TorchServeError" };
const schemas = { TorchServeError: errorSchema };

const failures = Object.fromEntries(
  failureStatuses.map((status) => {
    // Such a body is refused without a word, as TorchServe's HTTP library does.
    const content = status === 413 ? {} : { content: { "application/json": { schema: errorReference } } };
    return [status, { description: statusTexts[status] ?? "Failure", ...content }];
  }),
);

function toParameters(url: string, query: Operation["query"] = {}): object[] {
  return [
    ...[...url.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      ...{ in: "path", name, required: true },
      schema: { type: "string", minLength: 1 },
    })),
    ...Object.entries(query).map(([name, { type, description, required = false }]) => ({
      ...{ in: "query", name, description, required },
      schema: { type },
    })),
  ];
}

/** A call that a handler answers, with a status, a type and a body of its choice. */
function toCall(url: string, operationId: string, query?: Operation["query"]): object {
  const parameters = toParameters(url, query);
  const byHandler = { description: "The answer of the model's handler", content: { "*/*": {} } };
  return {
    operationId,
    summary: "A call of a model's handler",
    ...(parameters.length > 0 ? { parameters } : {}),
    responses: { 200: byHandler, ...failures, default: byHandler },
  };
}

const anyBody = { content: { "*/*": { schema: {} } } };
const bodyMethods: readonly string[] = ["post", "put", "patch"];

function describeCalls(): DocumentPart["paths"] {
  const paths: Record<string, Record<string, object>> = {};
  for (const [url, operation] of Object.entries(handlerPaths)) {
    const query: Operation["query"] =
      url === "/invocations"
        ? { model_name: { type: "string", description: "Default: the model that the server was started with" } }
        : {};
    paths[url] = Object.fromEntries(
      allMethods.map((method) => [
        method,
        {
          ...toCall(url, `${operation}_${method}`, query),
          ...(bodyMethods.includes(method) ? { requestBody: anyBody } : {}),
        },
      ]),
    );
  }
  for (const verb of ["predict", "explain"]) {
    const url = `/v1/models/{model_name}:${verb}`;
    paths[url] = { post: { ...toCall(url, `kserve_v1_${verb}`), requestBody: anyBody } };
  }
  return paths;
}

const json = { "application/json": { schema: {} } };

/** What the server itself answers. */
function toOwn(url: string, { operationId, description, query, statuses = [] }: Operation): object {
  const parameters = toParameters(url, query);
  const successes = [200, ...statuses.filter((status) => status < 300)];
  return {
    operationId: `torchserve_${operationId}`,
    summary: description,
    ...(parameters.length > 0 ? { parameters } : {}),
    responses: {
      ...Object.fromEntries(successes.map((status) => [status, { description: "OK", content: json }])),
      ...failures,
    },
  };
}

function describeOwn(paths: Paths): DocumentPart["paths"] {
  return Object.fromEntries(
    Object.entries(paths).map(([url, operations]) => [
      url,
      Object.fromEntries(Object.entries(operations).map(([method, operation]) => [method, toOwn(url, operation)])),
    ]),
  );
}

export function describeInferenceRoutes(): DocumentPart {
  const { "/": self, "/ping": ping, "/api-description": description } = inferencePaths;
  const get = (ping as Record<string, Operation>).get as Operation;
  const pings = allMethods.map((method) => [method, { ...get, operationId: `ping_${method}` }]);
  const own = { "/": self, "/ping": Object.fromEntries(pings), "/api-description": description } as Paths;
  return { paths: { ...describeOwn(own), ...describeCalls() }, schemas };
}
