import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { readPackageInfo } from "../base/package_info.js";
import { readKeys } from "./http/api_keys.js";
import type { ServerState } from "./http/app.js";
import { requestEndHook } from "./http/request_end.js";
import { readGroup } from "./launched_ranks.js";
import { makeListener } from "./listener.js";
import { accessLog, createLog } from "./log.js";
import { ServerMetrics } from "./metrics/server_metrics.js";
import { archiveKind, removeLeftOvers, workerKind } from "./owned_names.js";
import { pageRoutes } from "./page/plugin.js";
import { observePool } from "./pool_metrics.js";
import { ReadinessProbe } from "./readiness.js";
import { ModelRegistry, type RegisteredModel, type Registration, type RegistryOptions } from "./registry.js";
import { anthropicRoutes } from "./routes/anthropic/plugin.js";
import { describeOthers } from "./routes/document.js";
import { healthRoutes } from "./routes/health.js";
import { kserveRoutes } from "./routes/kserve/plugin.js";
import { metricsRoutes } from "./routes/metrics.js";
import { ApiError } from "./routes/openai/errors.js";
import { openAiRoutes } from "./routes/openai/plugin.js";
import { methodNotAllowed, notFound, sendError } from "./routes/torchserve/errors.js";
import { inferenceRoutes } from "./routes/torchserve/inference.js";
import { managementRoutes } from "./routes/torchserve/management.js";
import { type Address, showAddress } from "./settings/address.js";
import type { ResolvedSettings } from "./settings/resolved.js";
import type { ServerSettings } from "./settings/table.js";
import { WholeMatch } from "./settings/whole_match.js";
import { ModelSources } from "./sources/model_sources.js";
import { engineOptionsOf, listStartModels, startWorkers } from "./start_models.js";

/** A server that listens. */
export interface RunningServer {
  /** Where each API is. */
  readonly urls: { inference: string; management: string | undefined; metrics: string };
  readonly registry: ModelRegistry;
  readonly metrics: ServerMetrics;
  /** Resolves when the models of the start are ready. Rejects where one cannot be served and is the only one. */
  readonly ready: Promise<void>;
  /** Resolves when the server has ended. */
  readonly ended: Promise<void>;
  /** Answers what was accepted, refuses what comes, and ends. May be called again. */
  stop(): Promise<void>;
  /** Ends at once. */
  kill(): Promise<void>;
}

/**
 * Serves models. It listens before they are loaded: /live answers at once, /ready when they are.
 *
 * @throws ShardspeedError ERR_CONFIG, ERR_INVALID_ARGUMENT for settings that are wrong; ERR_CONFIG for an address that is taken.
 */
export async function startServer(resolved: ResolvedSettings, given: { log?: Log } = {}): Promise<RunningServer> {
  const { values } = resolved;
  const log = given.log ?? createLog({ level: values.logLevel, format: values.logFormat });
  for (const warning of resolved.warnings) log.warn(warning);
  await Promise.all([archiveKind, workerKind].map((kind) => removeLeftOvers(tmpdir(), kind)));
  const sources = new ModelSources({ ...values, logger: log });
  const models = await listStartModels(values, sources);
  const server = await Serving.open(resolved, log, sources);
  const registered = server.register(models);
  try {
    // The only model is known before anybody asks for it. Archives of a store may take long to be unpacked.
    if (values.modelFolder !== undefined) await Promise.allSettled(registered);
    await server.listen();
  } catch (error) {
    await server.close();
    throw error;
  }
  const { urls } = server;
  log.info(`Listening: inference ${urls.inference}, management ${urls.management ?? "off"}, metrics ${urls.metrics}`);
  const ready = server.load(models, registered);
  ready.catch(() => {}); // whoever waits for it hears of it
  const { registry, metrics } = server;
  return {
    ...{ urls, registry, metrics, ready },
    ended: server.ended,
    stop: () => server.stop(),
    kill: () => server.kill(),
  };
}

type Log = Logger & Parameters<typeof accessLog>[0];

/** How long replies that are written may take to reach their clients, once all work is done. */
const flushMs = 2000;

class Serving {
  readonly registry: ModelRegistry;
  readonly metrics: ServerMetrics;
  readonly ended: Promise<void>;
  readonly #resolved: ResolvedSettings;
  readonly #log: Log;
  readonly #sources: ModelSources;
  readonly #state: ServerState = { draining: false, registering: false };
  readonly #apps = new Map<Address, FastifyInstance>();
  readonly #probe: ReadinessProbe;
  #inFlight = 0;
  #setEnded!: () => void;
  #stopping: Promise<void> | undefined;

  private constructor(resolved: ResolvedSettings, log: Log, sources: ModelSources) {
    const { values } = resolved;
    this.#resolved = resolved;
    this.#log = log;
    this.#sources = sources;
    this.ended = new Promise((resolve) => {
      this.#setEnded = resolve;
    });
    this.metrics = new ServerMetrics({
      version: readPackageInfo().version,
      device: values.device,
      disableSystemMetrics: values.disableSystemMetrics,
    });
    this.registry = new ModelRegistry(registryOptions(resolved, log, this.metrics));
    this.#probe = new ReadinessProbe(this.registry, this.#state, values.stallTimeoutS * 1000);
  }

  static async open(resolved: ResolvedSettings, log: Log, sources: ModelSources): Promise<Serving> {
    const serving = new Serving(resolved, log, sources);
    await serving.#addRoutes();
    return serving;
  }

  get urls(): RunningServer["urls"] {
    const { inference, management, metrics } = this.#resolved.listeners;
    const show = (address: Address) => urlOf(address, this.#apps.get(address) as FastifyInstance);
    return {
      inference: show(inference),
      management: management === undefined ? undefined : show(management),
      metrics: show(metrics),
    };
  }

  async listen(): Promise<void> {
    for (const [address, app] of this.#apps) {
      try {
        await app.listen(
          "socketPath" in address ? { path: address.socketPath } : { host: address.host, port: address.port },
        );
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        const reason = code === "EADDRINUSE" ? "another program listens there" : message;
        throw new ShardspeedError("ERR_CONFIG", `The server cannot listen on ${showAddress(address)}: ${reason}.`);
      }
    }
  }

  /** Makes the models of the start known. Until all are the server is not ready, whatever the others are. */
  register(models: readonly Registration[]): Promise<RegisteredModel>[] {
    this.#state.registering = true;
    const registered = models.map((model) => this.registry.register(model));
    void Promise.allSettled(registered).then(() => {
      this.#state.registering = false;
    });
    return registered;
  }

  /** Loads the models of the start, all at the same time. */
  async load(models: readonly Registration[], registered: readonly Promise<RegisteredModel>[]): Promise<void> {
    const { modelSettings, modelFolder } = this.#resolved.values;
    const outcomes = await Promise.allSettled(registered.map(startWorkers));
    for (const { model, version, isDefault } of modelSettings) {
      if (!isDefault) continue;
      const isThere = this.registry.all().some(({ pool }) => pool.name === model && pool.version === version);
      if (isThere) this.registry.setDefault(model, version);
    }
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.status === "fulfilled") continue;
      if (modelFolder !== undefined) throw outcome.reason;
      this.#log.error(`The model ${models[i]?.url} cannot be served: ${(outcome.reason as Error).message}`);
    }
    if (outcomes.every(({ status }) => status === "fulfilled")) this.#log.info("All models are ready");
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async kill(): Promise<void> {
    this.#sources.close();
    await this.registry.kill();
    await this.close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#apps.values()].map((app) => app.close()));
    this.metrics.close();
    this.#setEnded();
  }

  async #stop(): Promise<void> {
    const { drainDelayS, shutdownTimeoutS } = this.#resolved.values;
    this.#state.draining = true;
    this.#log.info(`Shutting down: ${this.registry.pending} requests are to be answered`);
    await sleep(drainDelayS * 1000);
    // From now on requests are refused, by the APIs themselves: the listeners stay open.
    this.#sources.close();
    this.registry.drain();
    const until = performance.now() + shutdownTimeoutS * 1000;
    while (this.registry.pending > 0 && performance.now() < until) await sleep(10);
    if (this.registry.pending > 0)
      this.#log.warn(`${this.registry.pending} requests were not done in ${shutdownTimeoutS} s, and are aborted`);
    await this.registry.dispose(this.registry.pending > 0 ? 0 : 10_000);
    const flushed = performance.now() + flushMs;
    while (this.#inFlight > 0 && performance.now() < flushed) await sleep(10);
    await this.close();
    this.#log.info("Shut down");
  }

  async #addRoutes(): Promise<void> {
    const { values, listeners } = this.#resolved;
    const keys = await readKeys(values);
    const log = this.#log;
    const onEnd = accessLog(log, values.noAccessLogFor);
    const onRequest = requestEndHook({
      onStart: () => {
        this.#inFlight++;
        this.metrics.requestReceived();
      },
      onEnd: (end, request) => {
        this.#inFlight--;
        this.metrics.requestFinished(end);
        onEnd(end, request);
      },
    });
    for (const address of new Set(Object.values(listeners)))
      if (address !== undefined)
        this.#apps.set(address, makeListener(address, { values, state: this.#state, keys, onRequest }));
    const chatTemplate = values.chatTemplate === undefined ? undefined : await readFile(values.chatTemplate, "utf8");
    await this.#addInference(this.#app(listeners.inference), chatTemplate);
    if (listeners.management !== undefined) await this.#addManagement(this.#app(listeners.management));
    await this.#addMetrics(this.#app(listeners.metrics));
    for (const app of this.#apps.values()) {
      if (app !== this.#app(listeners.inference)) await app.register(healthRoutes, this.#healthOptions());
      app.setNotFoundHandler((request, reply) => {
        if (values.modelFolder === undefined || app !== this.#app(listeners.inference))
          return sendError(reply, /^\/(\?|$)/.test(request.url) ? methodNotAllowed() : notFound());
        const text = `Unknown request URL: ${request.method} ${request.url.split("?")[0]?.slice(0, 200)}.`;
        return reply.code(404).send(new ApiError(404, "invalid_request_error", "unknown_url", text).body);
      });
    }
  }

  #app(address: Address): FastifyInstance {
    return this.#apps.get(address) as FastifyInstance;
  }

  #healthOptions() {
    return { probe: this.#probe, pending: () => this.registry.pending };
  }

  async #addInference(app: FastifyInstance, chatTemplate: string | undefined): Promise<void> {
    const { values } = this.#resolved;
    const { registry, metrics } = this;
    const logger = this.#log;
    const isHealthy = () =>
      registry.defaults().every(({ pool, minWorkers }) => minWorkers === 0 || pool.replicas.hasHope);
    const options = {
      models: registry,
      logger,
      settings: {
        servedNames: servedNames(values),
        anyModelName: values.anyModelName,
        generationConfig: values.generationConfig,
        overrideGenerationConfig: values.overrideGenerationConfig as Record<string, unknown>,
        chatTemplate,
        trustRequestChatTemplate: values.trustRequestChatTemplate,
        toolCallParser: values.toolCallParser as "auto",
        strictMaxTokens: values.strictMaxTokens,
        queueFullStatus: values.queueFullStatus,
        ssePingIntervalMs: values.ssePingIntervalS * 1000,
        bodyLimitBytes: values.bodyLimitBytes,
      },
      onIgnoredField: (field: string) => metrics.ignoredField(field),
      alsoServed: describeOthers({ hasMetrics: this.#placeOfMetrics() === "here" }),
    };
    await app.register(healthRoutes, this.#healthOptions());
    await app.register(pageRoutes, { rootPath: values.rootPath, metrics: this.#placeOfMetrics() });
    await app.register(openAiRoutes, options);
    await app.register(anthropicRoutes, options);
    await app.register(kserveRoutes, {
      ...options,
      isReady: () => this.#probe.look().ready,
      versionsOf: ({ name }) => registry.versions(name).map(({ pool }) => pool.version),
    });
    await app.register(inferenceRoutes, {
      ...{ models: registry, logger, isHealthy, hasManagement: this.#isOneListener() },
      queueFullStatus: values.queueFullStatus,
      onlyModel: () => {
        const started = this.registry.all().filter(({ isLoadedAtStart }) => isLoadedAtStart);
        const names = new Set(started.map(({ pool }) => pool.name));
        return names.size === 1 ? started[0]?.pool.name : undefined;
      },
    });
  }

  /** Whether the management API is on the listener of inference. */
  #isOneListener(): boolean {
    const { management, inference } = this.#resolved.listeners;
    return management !== undefined && this.#app(management) === this.#app(inference);
  }

  /** Whether the page finds the metrics on its own listener. */
  #placeOfMetrics(): "here" | "elsewhere" | "off" {
    const { values, listeners } = this.#resolved;
    if (!values.enableMetricsApi) return "off";
    return this.#app(listeners.metrics) === this.#app(listeners.inference) ? "here" : "elsewhere";
  }

  async #addManagement(app: FastifyInstance): Promise<void> {
    const { values } = this.#resolved;
    await app.register(managementRoutes, {
      registry: this.registry,
      logger: this.#log,
      hasInference: this.#isOneListener(),
      enableModelApi: values.enableModelApi,
      sources: this.#sources,
      defaultWorkersPerModel: values.defaultWorkersPerModel,
      unregisterTimeoutMs: values.unregisterModelTimeoutS * 1000,
    });
  }

  async #addMetrics(app: FastifyInstance): Promise<void> {
    if (!this.#resolved.values.enableMetricsApi) return;
    await app.register(metricsRoutes, { metrics: this.metrics, registry: this.registry });
  }
}

function registryOptions(resolved: ResolvedSettings, logger: Logger, metrics: ServerMetrics): RegistryOptions {
  const { values } = resolved;
  return {
    server: {
      responseTimeout: values.defaultResponseTimeoutS,
      startupTimeout: values.defaultStartupTimeoutS,
      jobQueueSize: values.maxQueuedRequests,
      clientTimeoutInMills: Math.round(values.queueTimeoutS * 1000),
      minWorkers: values.defaultWorkersPerModel,
    },
    maxConcurrentRequests: values.maxNumSeqs ?? defaultConcurrent,
    maxQueuedSequences: values.maxQueuedRequests,
    requestTimeoutMs: values.requestTimeoutS * 1000,
    handlerMap: values.handlerMap,
    environment: environmentOf(values),
    engineOptions: engineOptionsOf(resolved),
    streamIntervalMs: values.streamIntervalMs,
    streamChunksPerSecond: values.streamChunksPerSecond,
    group: readGroup(),
    logger,
    onRemoved: (name) => void metrics.modelRemoved(name),
    observe: (model) => {
      metrics.modelRegistered(model.name);
      return observePool(metrics, model);
    },
  };
}

/** Sequences that a worker gets at a time: those that its KV cache does not hold wait in it. */
const defaultConcurrent = 256;

/** What workers find in their environment. */
function environmentOf({ hiddenVariables, decodeInputRequest }: ServerSettings): NodeJS.ProcessEnv {
  const hidden = hiddenVariables === undefined ? undefined : new WholeMatch(hiddenVariables, { ignoresCase: false });
  // Keys of the server are none of a handler's business.
  const kept = Object.entries(process.env).filter(([name]) => name !== "SHARDSPEED_API_KEY" && !hidden?.test(name));
  return { ...Object.fromEntries(kept), ...(decodeInputRequest ? {} : { TS_DECODE_INPUT_REQUEST: "false" }) };
}

/** The names of the command's model: it is registered under the first. */
function servedNames({ servedModelNames }: ServerSettings): Record<string, readonly string[]> {
  const [first] = servedModelNames;
  return first === undefined ? {} : { [first]: servedModelNames };
}

function urlOf(address: Address, app: FastifyInstance): string {
  const bound = app.server.address() as AddressInfo | string | null;
  if (bound === null || typeof bound === "string" || "socketPath" in address) return showAddress(address);
  return showAddress({ ...address, port: bound.port });
}
