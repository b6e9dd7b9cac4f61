import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ShardspeedError } from "../../../base/errors.js";
import type { Logger } from "../../../base/logger.js";
import { isObject } from "../../../base/objects.js";
import type { ModelRegistry, RegisteredModel, Registration } from "../../registry.js";
import { ServingError } from "../../serving_error.js";
import type { ModelSources } from "../../sources/model_sources.js";
import { describeManagement, describeManagementOf } from "./api_description.js";
import { describeModel } from "./describe.js";
import {
  badRequest,
  handlerFailed,
  methodNotAllowed,
  sendError,
  sendJson,
  TorchServeError,
  toTorchServeError,
} from "./errors.js";
import { forbidCaching, takeAllBodies } from "./inference.js";

export interface ManagementOptions {
  registry: ModelRegistry;
  logger: Logger;
  /** Whether the inference API is on the same listener. */
  hasInference: boolean;
  /** Whether models may be registered and unregistered. */
  enableModelApi: boolean;
  sources: ModelSources;
  /** Of a model that is registered without a number. */
  defaultWorkersPerModel: number;
  unregisterTimeoutMs: number;
}

interface Target {
  model: string;
  version?: string;
}

/** TorchServe's management API as a Fastify plugin. */
export async function managementRoutes(app: FastifyInstance, options: ManagementOptions): Promise<void> {
  const { registry, logger, enableModelApi } = options;
  takeAllBodies(app);
  app.setErrorHandler((error, request, reply) => {
    const failure = toTorchServeError(error);
    if (failure.status >= 500) logger.error(`${request.method} ${request.url.split("?")[0]} failed: ${String(error)}`);
    sendError(reply, failure);
  });
  app.addHook("onRequest", forbidCaching);
  if (!options.hasInference) addOwn(app, registry);

  app.get("/models", async (request, reply) => sendJson(reply, 200, listModels(registry, new Parameters(request))));
  app.post("/models", async (request, reply) => {
    if (!enableModelApi) throw methodNotAllowed();
    return register(reply, new Parameters(request), options);
  });
  app.get("/models/:model", (request, reply) => describe(request, reply, registry));
  app.get("/models/:model/:version", (request, reply) => describe(request, reply, registry));
  for (const url of ["/models/:model", "/models/:model/:version"]) {
    app.put(url, (request, reply) => scale(request, reply, registry));
    app.delete(url, async (request, reply) => {
      if (!enableModelApi) throw methodNotAllowed();
      const { model, version } = request.params as Target;
      await registry.unregister(model, version, options.unregisterTimeoutMs);
      return sendJson(reply, 200, { status: `Model "${model}" unregistered` });
    });
  }
  for (const url of ["/models/:model", "/models/:model/:version"])
    app.options(url, async (request, reply) => {
      const { model, version } = request.params as Target;
      return sendJson(reply, 200, describeManagementOf(registry.find(model, version)));
    });
  refuseOtherMethods(app);
  app.put("/models/:model/:version/set-default", async (request, reply) => {
    const { model, version } = request.params as Required<Target>;
    setDefault(registry, model, version);
    const status = `Default version successfully updated for model "${model}" to "${version}"`;
    return sendJson(reply, 200, { status });
  });
}

/** What the inference listener answers itself: version 1 of KServe's protocol has the URL of OpenAI's API there. */
function addOwn(app: FastifyInstance, registry: ModelRegistry): void {
  app.options("/", async (_, reply) => sendJson(reply, 200, describeManagement()));
  app.get("/api-description", async (_, reply) => sendJson(reply, 200, describeManagement()));
  app.get("/v1/models/:model", async (request, reply) => {
    const { model } = request.params as Target;
    return sendJson(reply, 200, { name: model, ready: registry.find(model).state === "ready" });
  });
}

/** Fastify takes them for URLs that are not there. */
function refuseOtherMethods(app: FastifyInstance): void {
  const refuse = async () => {
    throw methodNotAllowed();
  };
  app.route({ method: ["PUT", "PATCH", "DELETE", "OPTIONS"], url: "/models", handler: refuse });
  for (const url of ["/models/:model", "/models/:model/:version"])
    app.route({ method: ["POST", "PATCH"], url, handler: refuse });
}

/** Parameters of a call, in its query, or in a body of JSON or of a form. */
class Parameters {
  readonly #values = new Map<string, string>();

  constructor({ url, body, headers }: FastifyRequest) {
    const text = Buffer.isBuffer(body) ? body.toString("utf8") : "";
    const type = headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
    if (type === "application/json" && text.trim() !== "") this.#takeJson(text);
    else if (type === "application/x-www-form-urlencoded") this.#take(new URLSearchParams(text));
    this.#take(new URLSearchParams(url.split("?").slice(1).join("?")));
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return value === "" ? undefined : value;
  }

  integer(name: string, least = 0): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    if (!/^[+-]?\d{1,9}$/.test(value) || Number(value) < least)
      throw badRequest(
        `Expected ${name} to be an integer of at least ${least}, found ${JSON.stringify(value.slice(0, 40))}`,
      );
    return Number(value);
  }

  flag(name: string): boolean | undefined {
    const value = this.text(name)?.toLowerCase();
    if (value === undefined) return undefined;
    if (value !== "true" && value !== "false")
      throw badRequest(`Expected ${name} to be true or false, found ${JSON.stringify(value.slice(0, 40))}`);
    return value === "true";
  }

  #take(parameters: URLSearchParams): void {
    for (const [name, value] of parameters) this.#values.set(name, value);
  }

  #takeJson(text: string): void {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch {
      throw badRequest("The body is no JSON.");
    }
    if (!isObject(parsed)) throw badRequest("Expected the body to be a JSON object.");
    for (const [name, value] of Object.entries(parsed)) {
      if (value === null) continue;
      if (typeof value === "object") throw badRequest(`Expected ${name.slice(0, 40)} to be a single value.`);
      this.#values.set(name, String(value));
    }
  }
}

const mostListed = 100;

function listModels(registry: ModelRegistry, parameters: Parameters) {
  const limit = Math.min(parameters.integer("limit", 1) ?? mostListed, mostListed);
  const from = parameters.integer("next_page_token") ?? 0;
  const all = registry.defaults();
  const to = from + limit;
  return {
    // As TorchServe, also where the next page is empty.
    ...(to <= all.length ? { nextPageToken: String(to) } : {}),
    models: all.slice(from, to).map(({ pool, url }) => ({ modelName: pool.name, modelUrl: url })),
  };
}

async function describe(request: FastifyRequest, reply: FastifyReply, registry: ModelRegistry): Promise<FastifyReply> {
  const { model, version } = request.params as Target;
  const found = version === "all" ? registry.versions(model) : [registry.get(model, version)];
  const customized = version !== "all" && (new Parameters(request).flag("customized") ?? false);
  return sendJson(reply, 200, await Promise.all(found.map((one) => describeOne(one, customized))));
}

/** @param customized With what the handler says of itself. */
async function describeOne(registered: RegisteredModel, customized: boolean): Promise<object> {
  const description = describeModel(registered);
  if (!customized) return description;
  const request = { id: "describe", parts: [], headers: { describe: "True" } };
  const { code, message, response } = await registered.pool.predict(request, { signal: new AbortController().signal });
  if (code !== 200) throw handlerFailed(code, message);
  const said = parseJson(response.body.toString("utf8"));
  // Handlers say null unless they have something to say; what is no object has no place in TorchServe's answer.
  if (said === null) return description;
  return { ...description, customizedMetadata: isObject(said) ? said : {} };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function register(
  reply: FastifyReply,
  parameters: Parameters,
  options: ManagementOptions,
): Promise<FastifyReply> {
  const { registry, sources, defaultWorkersPerModel, unregisterTimeoutMs, logger } = options;
  const url = parameters.text("url");
  if (url === undefined) throw badRequest("Parameter url is required.");
  if (parameters.flag("s3_sse_kms")) throw badRequest("Requests to S3 are not signed here: give a presigned URL.");
  const synchronous = parameters.flag("synchronous") ?? true;
  const initial = parameters.integer("initial_workers");
  const name = parameters.text("model_name");
  const handler = parameters.text("handler");
  const registration: Registration = {
    ...(await sources.locate(url)),
    ...(name === undefined ? {} : { name }),
    ...(handler === undefined ? {} : { handler }),
    settings: {
      batchSize: parameters.integer("batch_size", 1),
      maxBatchDelay: parameters.integer("max_batch_delay"),
      responseTimeout: parameters.integer("response_timeout", 1),
      startupTimeout: parameters.integer("startup_timeout", 1),
    },
  };
  const registered = await registry.register(registration);
  const { pool } = registered;
  const count = initial ?? Math.max(registered.minWorkers, defaultWorkersPerModel);
  setWorkers(registered, count, Math.max(count, registered.maxWorkers));
  const status = `Model "${pool.name}" Version: ${pool.version} registered with ${count} initial workers`;
  if (count === 0)
    return sendJson(reply, 200, { status: `${status}. Use scale workers API to add workers for the model.` });
  const started = pool.replicas.scaleTo(count);
  if (!synchronous) {
    started.catch((error) => logger.error(`${pool.name}: ${(error as Error).message}`));
    return sendJson(reply, 202, { status: "Processing worker updates..." });
  }
  try {
    await started;
  } catch (error) {
    await registry.remove(registered, unregisterTimeoutMs);
    const text = `Failed to start workers for model ${pool.name} version: ${pool.version}`;
    const status = ShardspeedError.isInstance(error) && error.code === "ERR_OUT_OF_MEMORY" ? 507 : 500;
    throw new TorchServeError(status, "InternalServerException", `${text}: ${(error as Error).message}`);
  }
  return sendJson(reply, 200, { status });
}

async function scale(request: FastifyRequest, reply: FastifyReply, registry: ModelRegistry): Promise<FastifyReply> {
  const parameters = new Parameters(request);
  const { model, version = parameters.text("model_version") } = request.params as Target;
  const registered = registry.get(model, version);
  const least = parameters.integer("min_worker") ?? 1;
  const most = parameters.integer("max_worker") ?? least;
  if (most < least) throw badRequest("max_worker cannot be less than min_worker.");
  const synchronous = parameters.flag("synchronous") ?? false;
  setWorkers(registered, least, most);
  const { replicas } = registered.pool;
  const current = replicas.all.filter(({ state }) => state !== "stopping" && state !== "failed").length;
  const scaled = replicas.scaleTo(Math.min(Math.max(current, least), most));
  if (!synchronous) {
    scaled.catch(() => {}); // the log has it
    return sendJson(reply, 202, { status: "Processing worker updates..." });
  }
  try {
    await scaled;
  } catch (error) {
    const text = `Failed to start workers for model ${model} version: ${registered.pool.version}`;
    throw new TorchServeError(500, "InternalServerException", `${text}: ${(error as Error).message}`);
  }
  const suffix = version === undefined ? "" : `, version: ${version}`;
  return sendJson(reply, 200, { status: `Workers scaled to ${replicas.ready.length} for model: ${model}${suffix}` });
}

function setWorkers(registered: RegisteredModel, least: number, most: number): void {
  registered.minWorkers = least;
  registered.maxWorkers = most;
}

function setDefault(registry: ModelRegistry, model: string, version: string): void {
  try {
    registry.setDefault(model, version);
  } catch (error) {
    if (!(error instanceof ServingError) || error.code !== "version_not_found") throw error;
    const text = `Model version ${version} does not exist for model ${model}`;
    throw new TorchServeError(404, "ModelVersionNotFoundException", text);
  }
}
