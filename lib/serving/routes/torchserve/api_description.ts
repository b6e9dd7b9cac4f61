import { readPackageInfo } from "../../../base/package_info.js";

export interface Operation {
  description: string;
  operationId: string;
  /** Names of parameters in the path, then those of the query. */
  path?: readonly string[];
  query?: Readonly<Record<string, { type: "string" | "integer" | "boolean"; description: string; required?: true }>>;
  /** Whether it takes a body of any kind. */
  body?: true;
  /** Statuses besides 200 and 500. */
  statuses?: readonly number[];
  /** The body of 200: JSON of the server's, or whatever the handler makes. */
  answer?: "json" | "any" | "text";
}

export type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

const predictStatuses = [400, 404, 413, 503, 507] as const;

function predict(operationId: string, path: readonly string[]): Record<string, Operation> {
  const description = "Predictions entry point to get inference using default model version.";
  return { post: { description, operationId, path, body: true, statuses: predictStatuses, answer: "any" } };
}

const describeSelf = { description: "Get openapi description.", operationId: "apiDescription" };

export const inferencePaths: Paths = {
  "/": { options: describeSelf },
  "/ping": { get: { description: "Get the server's status.", operationId: "ping" } },
  "/predictions/{model_name}": predict("predictions", ["model_name"]),
  "/predictions/{model_name}/{model_version}": predict("version_predictions", ["model_name", "model_version"]),
  "/explanations/{model_name}": predict("explanations", ["model_name"]),
  "/v1/models/{model_name}:predict": predict("kserve_predictions", ["model_name"]),
  "/models/{model_name}/invoke": predict("invoke", ["model_name"]),
  "/invocations": {
    post: {
      ...(predict("invocations", []).post as Operation),
      query: { model_name: { type: "string", description: "Name of model", required: true } },
    },
  },
  "/api-description": { get: { ...describeSelf, operationId: "api-description" } },
};

const integer = (description: string) => ({ type: "integer" as const, description });
const boolean = (description: string) => ({ type: "boolean" as const, description });
const string = (description: string) => ({ type: "string" as const, description });

const workers = {
  min_worker: integer("Minimum number of workers; default 1"),
  max_worker: integer("Maximum number of workers; default min_worker"),
  synchronous: boolean("Answer when the workers are there; default false"),
};
const scale = { description: "Configure number of workers for a model.", query: workers, statuses: [202, 400, 404] };
const describe = {
  description: "Provides detailed information about the versions of a model.",
  query: { customized: boolean("With what the handler says of itself; default false") },
  statuses: [404],
};
const unregister = { description: "Unregister a version of a model.", statuses: [403, 404, 405] };

const managementPaths: Paths = {
  "/": { options: describeSelf },
  "/models": {
    get: {
      description: "List registered models.",
      operationId: "listModels",
      query: { limit: integer("Up to 100, the default"), next_page_token: integer("From the answer before") },
      statuses: [400],
    },
    post: {
      description: "Register a new model.",
      operationId: "registerModel",
      query: {
        url: { ...string("Archive or folder of the model store, or a URL that is allowed"), required: true },
        model_name: string("Default: that of the archive"),
        handler: string("In place of the archive's"),
        batch_size: integer("Default: that of the model's file, else 1"),
        max_batch_delay: integer("Milliseconds"),
        response_timeout: integer("Seconds"),
        startup_timeout: integer("Seconds"),
        initial_workers: integer("Default: that of the model's file, else that of the server"),
        synchronous: boolean("Answer when the workers are there; default true"),
      },
      statuses: [202, 400, 404, 405, 409, 507],
    },
  },
  "/models/{model_name}": {
    get: { ...describe, operationId: "describeModel", path: ["model_name"] },
    put: { ...scale, operationId: "setAutoScale", path: ["model_name"] },
    delete: { ...unregister, operationId: "unregisterModel", path: ["model_name"] },
  },
  "/models/{model_name}/{model_version}": {
    get: { ...describe, operationId: "version_describeModel", path: ["model_name", "model_version"] },
    put: { ...scale, operationId: "version_setAutoScale", path: ["model_name", "model_version"] },
    delete: { ...unregister, operationId: "version_unregisterModel", path: ["model_name", "model_version"] },
  },
  "/models/{model_name}/{model_version}/set-default": {
    put: {
      description: "Set default version of a model.",
      operationId: "setDefault",
      path: ["model_name", "model_version"],
      statuses: [404],
    },
  },
  "/api-description": { get: { ...describeSelf, operationId: "api-description" } },
};

/** The inference API as an OpenAPI document. */
export function describeInference(): object {
  return toDocument("shardspeed: TorchServe's inference API", inferencePaths);
}

/** The predictions of one model as an OpenAPI document. */
export function describePredictions({ name, version }: { name: string; version: string }): object {
  const one = (operationId: string) => predict(operationId, []);
  return toDocument(`Predictions of ${name}`, {
    [`/predictions/${name}`]: one("predictions"),
    [`/predictions/${name}/${version}`]: one("version_predictions"),
  });
}

/** The management of one model as an OpenAPI document. */
export function describeManagementOf({ name }: { name: string }): object {
  const { get, put, delete: remove } = managementPaths["/models/{model_name}"] as Record<string, Operation>;
  const operations = Object.entries({ get, put, delete: remove } as Record<string, Operation>);
  return toDocument(`Management of ${name}`, {
    [`/models/${name}`]: Object.fromEntries(operations.map(([method, one]) => [method, { ...one, path: [] }])),
  });
}

/** The management API as an OpenAPI document. */
export function describeManagement(): object {
  return toDocument("shardspeed: TorchServe's management API", managementPaths);
}

/** Both APIs as one OpenAPI document, where they share a listener. */
export function describeAll(): object {
  return toDocument("shardspeed: TorchServe's APIs", { ...managementPaths, ...inferencePaths });
}

export const errorSchema = {
  type: "object",
  required: ["code", "type", "message"],
  properties: {
    code: { type: "integer", description: "Error code." },
    type: { type: "string", description: "Error type." },
    message: { type: "string", description: "Error message." },
  },
};

function toDocument(title: string, paths: Paths): object {
  return {
    openapi: "3.0.1",
    info: { title, version: readPackageInfo().version },
    paths: Object.fromEntries(
      Object.entries(paths).map(([url, operations]) => [
        url,
        Object.fromEntries(Object.entries(operations).map(([method, operation]) => [method, toOperation(operation)])),
      ]),
    ),
  };
}

function toOperation({
  description,
  operationId,
  path = [],
  query = {},
  body,
  statuses = [],
  answer = "json",
}: Operation) {
  const failure = { content: { "application/json": { schema: errorSchema } } };
  const success =
    answer === "json"
      ? { "application/json": { schema: {} } }
      : { "*/*": { schema: { type: "string", format: "binary" } } };
  const accepted = [200, ...statuses.filter((status) => status < 300)];
  const failed = [...statuses.filter((status) => status >= 300), 500];
  return {
    description,
    operationId,
    parameters: [
      ...path.map((name) => ({ in: "path", name, required: true, schema: { type: "string" } })),
      ...Object.entries(query).map(([name, { type, description: text, required = false }]) => ({
        in: "query",
        name,
        description: text,
        required,
        schema: { type },
      })),
    ],
    ...(body ? { requestBody: { content: { "*/*": { schema: { type: "string", format: "binary" } } } } } : {}),
    responses: {
      ...Object.fromEntries(accepted.map((status) => [status, { description: "OK", content: success }])),
      ...Object.fromEntries(
        failed.map((status) => [status, { description: "Failure", ...(status === 413 ? {} : failure) }]),
      ),
    },
  };
}
