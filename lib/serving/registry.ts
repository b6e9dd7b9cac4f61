import { rm } from "node:fs/promises";
import type { ModelArchive } from "../archive/open.js";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { processorShare, processorsVariable } from "../base/machine.js";
import { describeSystemError } from "../base/system_errors.js";
import type { ModelConfigYaml, Settings } from "../torchserve_config/index.js";
import { openModelFiles } from "./model_files.js";
import { ModelPool, type PoolObserver } from "./model_pool.js";
import { environmentOfWorker, resolveServedSettings, type ServedSettings } from "./model_settings.js";
import { archiveKind, ownedPrefix } from "./owned_names.js";
import type { ModelDirectory } from "./served_model.js";
import { ServingError } from "./serving_error.js";
import type { WorkerPlan } from "./worker/protocol.js";
import type { GroupStart } from "./worker/worker.js";

/** What a server sets for all its models. */
export interface RegistryOptions {
  /** By the names of model-config.yaml: what counts where neither a request nor the model's own file says it. */
  server: Settings;
  /** Requests that a worker works on at a time, where they overlap. */
  maxConcurrentRequests: number;
  /** Sequences that may wait for the engine. */
  maxQueuedSequences: number;
  /** 0: any time. */
  requestTimeoutMs: number;
  handlerMap: Readonly<Record<string, string>>;
  /** The ranks of the one model, where a launcher has started them on several hosts. */
  group?: GroupStart | undefined;
  /** What workers find in their environment. Default: this process's. */
  environment?: NodeJS.ProcessEnv;
  engineOptions: WorkerPlan["engineOptions"];
  /** Least milliseconds between two chunks of a stream of tokens; 0: none. */
  streamIntervalMs: number;
  /** Most chunks a second of all streams of a worker together. Default: by its processors. */
  streamChunksPerSecond?: number | undefined;
  logger: Logger;
  observe(model: { name: string; version: string }): PoolObserver;
  /** The last version of a model is gone, and its workers are. */
  onRemoved?(name: string): void;
}

/** A model to be served. */
export interface Registration {
  /** Archive or folder: an absolute path, or what gets the archive there and then says it. */
  location: string | (() => Promise<string>);
  /** The archive is a copy of the server's own: it goes with the model. */
  isCopy?: boolean;
  /** Under which it is known in lists. Default: location. */
  url?: string;
  /** Default: that of its manifest. */
  name?: string;
  /** Default: that of its manifest. */
  version?: string;
  /** Before what its model-config.yaml says, by names of that. */
  settings?: Settings;
  /** What counts where that says nothing: before the server's. */
  defaults?: Settings;
  handlerMap?: Readonly<Record<string, string>>;
  modelConfigYaml?: string;
  /** Name of a handler in place of its own. */
  handler?: string;
  isLoadedAtStart?: boolean;
}

/** A version of a model and what it is served with. */
export interface RegisteredModel {
  readonly pool: ModelPool;
  readonly url: string;
  readonly settings: ModelConfigYaml;
  /** Workers that are kept, and at most. */
  minWorkers: number;
  maxWorkers: number;
  readonly runtime: string;
  readonly isLoadedAtStart: boolean;
  /** Its files, which are unpacked as long as it is known. */
  readonly archive: ModelArchive;
  /** The file that was copied to the store for it. */
  readonly copy?: string;
}

/** What the files of a model say. */
interface ReadModel extends ServedSettings {
  name: string;
  version: string;
  archive: ModelArchive;
}

interface Versions {
  defaultVersion: string;
  byVersion: Map<string, RegisteredModel>;
}

/** The models of a server, each with its versions, of which one is the default. */
export class ModelRegistry implements ModelDirectory {
  readonly #options: RegistryOptions;
  readonly #models = new Map<string, Versions>();
  /** Whose files are being read. */
  readonly #registering = new Set<Promise<RegisteredModel>>();
  readonly #ending = new AbortController();

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  find(name: string, version?: string): ModelPool {
    return this.get(name, version).pool;
  }

  list(): ModelPool[] {
    return this.defaults().map(({ pool }) => pool);
  }

  /** @throws ServingError model_not_found, version_not_found. */
  get(name: string, version?: string): RegisteredModel {
    const versions = this.#models.get(name);
    if (versions === undefined) throw new ServingError("model_not_found", `Model not found: ${name}`);
    const found = versions.byVersion.get(version ?? versions.defaultVersion);
    if (found === undefined)
      throw new ServingError("version_not_found", `Model version: ${version} does not exist for model: ${name}`);
    return found;
  }

  /** All versions of a model, the default one first. @throws ServingError model_not_found. */
  versions(name: string): RegisteredModel[] {
    const first = this.get(name);
    const { byVersion } = this.#models.get(name) as Versions;
    return [first, ...[...byVersion.values()].filter((one) => one !== first)];
  }

  /** The default version of each model, by name. */
  defaults(): RegisteredModel[] {
    const names = [...this.#models.keys()].sort();
    return names.map((name) => this.get(name));
  }

  /** Every version of every model. */
  all(): RegisteredModel[] {
    return [...this.#models.values()].flatMap(({ byVersion }) => [...byVersion.values()]);
  }

  /**
   * Makes a model known, without workers.
   *
   * @throws ShardspeedError ERR_ARCHIVE, ERR_CONFIG, ERR_INVALID_ARGUMENT; AlreadyRegistered.
   */
  async register(registration: Registration): Promise<RegisteredModel> {
    const registered = this.#register(registration);
    this.#registering.add(registered);
    try {
      return await registered;
    } catch (error) {
      throw this.#ending.signal.aborted ? shuttingDown() : error;
    } finally {
      this.#registering.delete(registered);
    }
  }

  async #register(registration: Registration): Promise<RegisteredModel> {
    const { location, isCopy } = registration;
    const file = typeof location === "string" ? location : await location();
    let read: ReadModel | undefined;
    try {
      read = await this.#read(registration, file);
      return this.#add(registration, file, read);
    } catch (error) {
      await read?.archive.close();
      if (isCopy) await this.#removeCopy(file);
      throw error;
    }
  }

  #add(registration: Registration, file: string, read: ReadModel): RegisteredModel {
    const { name, version, settings, archive } = read;
    const { runtime } = archive.manifest;
    const versions = this.#models.get(name);
    if (versions?.byVersion.has(version)) throw new AlreadyRegistered(name, version);
    if (this.#ending.signal.aborted) throw shuttingDown();
    const pool = this.#makePool(registration, file, read);
    const { minWorkers, maxWorkers } = settings;
    const { isLoadedAtStart = false, isCopy = false, url = file } = registration;
    const registered: RegisteredModel = {
      ...{ pool, url, settings, minWorkers, maxWorkers, runtime, isLoadedAtStart, archive },
      ...(isCopy ? { copy: file } : {}),
    };
    if (versions === undefined)
      this.#models.set(name, { defaultVersion: version, byVersion: new Map([[version, registered]]) });
    else versions.byVersion.set(version, registered);
    return registered;
  }

  /** @throws ServingError model_not_found, version_not_found. */
  setDefault(name: string, version: string): void {
    this.get(name, version);
    (this.#models.get(name) as Versions).defaultVersion = version;
  }

  /**
   * Forgets a version and ends its workers, which first do what they have begun.
   *
   * @throws ServingError model_not_found, version_not_found; DefaultVersionInUse where others would be left without one.
   */
  async unregister(name: string, version: string | undefined, graceMs: number): Promise<void> {
    const registered = this.get(name, version);
    const versions = this.#models.get(name) as Versions;
    const { version: own } = registered.pool;
    if (own === versions.defaultVersion && versions.byVersion.size > 1) throw new DefaultVersionInUse(name);
    versions.byVersion.delete(own);
    if (versions.byVersion.size === 0) this.#models.delete(name);
    await this.#dispose(registered, graceMs);
  }

  /** Forgets a version whose workers could not be started. */
  async remove(registered: RegisteredModel, graceMs: number): Promise<void> {
    const { pool } = registered;
    const versions = this.#models.get(pool.name);
    if (versions?.byVersion.get(pool.version) === registered) {
      versions.byVersion.delete(pool.version);
      const [next] = versions.byVersion.keys();
      if (next === undefined) this.#models.delete(pool.name);
      else if (versions.defaultVersion === pool.version) versions.defaultVersion = next;
    }
    await this.#dispose(registered, graceMs);
  }

  async #dispose({ pool, archive, copy }: RegisteredModel, graceMs: number): Promise<void> {
    await pool.dispose(graceMs);
    await this.#close(archive);
    if (copy !== undefined) await this.#removeCopy(copy);
    if (!this.#models.has(pool.name)) this.#options.onRemoved?.(pool.name);
  }

  /** What cannot be removed is of no harm to others. */
  async #close(archive: ModelArchive): Promise<void> {
    await archive.close().catch((error) => this.#options.logger.warn((error as Error).message));
  }

  /** Of an archive of another server, unless another model is of the same file. */
  async #removeCopy(file: string): Promise<void> {
    if (this.all().some(({ copy }) => copy === file)) return;
    await rm(file, { force: true }).catch((error) => {
      this.#options.logger.warn(`The file ${file} cannot be removed: ${describeSystemError(error)}`);
    });
  }

  /** Takes no more requests. */
  drain(): void {
    this.#ending.abort();
    for (const { pool } of this.all()) pool.drain();
  }

  /** Requests that are queued or worked on. */
  get pending(): number {
    return this.all().reduce((sum, { pool }) => sum + pool.pending, 0);
  }

  async dispose(graceMs: number): Promise<void> {
    this.drain();
    await Promise.all(this.all().map(({ pool }) => pool.dispose(graceMs)));
    await this.#closeAll();
  }

  /** Ends all workers at once. */
  async kill(): Promise<void> {
    this.drain();
    for (const { pool } of this.all()) pool.replicas.kill();
    await this.#closeAll();
  }

  async #closeAll(): Promise<void> {
    await Promise.allSettled(this.#registering);
    await Promise.all(this.all().map(({ archive }) => this.#close(archive)));
  }

  /** Workers compute at the same time: each gets its part of the processors. One that has begun keeps what it got. */
  #processorShare(logger: Logger): NodeJS.ProcessEnv {
    const kept = this.all().reduce((sum, { minWorkers, pool }) => {
      const running = pool.replicas.all.filter(({ state }) => state !== "stopping" && state !== "failed").length;
      return sum + Math.max(minWorkers, running);
    }, 0);
    // Archives that are still being read have a worker each, as far as is known.
    const workers = kept + this.#registering.size;
    if (workers <= 1) return {};
    const processors = processorShare();
    const share = Math.max(1, Math.floor(processors / workers));
    if (this.#options.engineOptions.threads === undefined && share < processors)
      logger.info(`A worker gets ${share} of ${processors} processors, which ${workers} workers share`);
    return { [processorsVariable]: String(share) };
  }

  /** What the model's files say, without running any of its code. */
  async #read(registration: Registration, file: string): Promise<ReadModel> {
    const { modelConfigYaml, handlerMap } = registration;
    const { archive, yaml } = await openModelFiles(file, {
      modelConfigYaml,
      handlerMap: { ...this.#options.handlerMap, ...handlerMap },
      logger: this.#options.logger,
      signal: this.#ending.signal,
      temporaryPrefix: ownedPrefix(archiveKind),
    });
    try {
      const { settings, defaults } = registration;
      return {
        name: registration.name ?? archive.modelName,
        version: registration.version ?? archive.version,
        ...resolveServedSettings({ settings, yaml: yaml?.parsed, defaults, server: this.#options.server }),
        archive,
      };
    } catch (error) {
      await archive.close();
      throw error;
    }
  }

  #makePool(registration: Registration, location: string, read: ReadModel): ModelPool {
    const { name, version, settings, workerSettings, archive } = read;
    const { modelConfigYaml } = registration;
    const { engineOptions, streamIntervalMs, streamChunksPerSecond, logger } = this.#options;
    const { maxConcurrentRequests, maxQueuedSequences, requestTimeoutMs } = this.#options;
    const handlerMap = { ...this.#options.handlerMap, ...registration.handlerMap };
    if (registration.handler !== undefined) handlerMap[archive.handler] = registration.handler;
    const processes = settings.torchrun["nproc-per-node"];
    const label = (message: string) => `${name}: ${message}`;
    const own: Logger = {
      debug: (message) => logger.debug(label(message)),
      info: (message) => logger.info(label(message)),
      warn: (message) => logger.warn(label(message)),
      error: (message) => logger.error(label(message)),
    };
    return new ModelPool({
      name,
      version,
      settings: {
        batchSize: settings.batchSize,
        maxBatchDelayMs: settings.maxBatchDelay,
        responseTimeoutMs: settings.responseTimeout * 1000,
        jobQueueSize: settings.jobQueueSize,
        queueTimeoutMs: settings.clientTimeoutInMills,
        useJobTicket: settings.useJobTicket,
        overlaps: settings.continuousBatching,
        maxConcurrentRequests,
        maxQueuedSequences,
        requestTimeoutMs,
        maxRetryTimeoutS: settings.maxRetryTimeoutInSec,
      },
      start: (index) => ({
        plan: {
          location,
          ...(archive.temporary ? { unpacked: archive.folder } : {}),
          modelName: name,
          settings: workerSettings,
          modelConfigYaml,
          handlerMap,
          gpuId: null,
          engineOptions,
          streamIntervalMs,
          streamChunksPerSecond,
        },
        processes,
        group: this.#options.group,
        startupTimeoutMs: settings.startupTimeout * 1000,
        environment: {
          ...(this.#options.environment ?? process.env),
          ...this.#processorShare(own),
          ...environmentOfWorker(settings, index, processes),
        },
        logger: own,
      }),
      logger: own,
      observer: this.#options.observe({ name, version }),
    });
  }
}

function shuttingDown(): ServingError {
  return new ServingError("shutting_down", "The server is shutting down.", { final: true });
}

/** A version is registered already. */
export class AlreadyRegistered extends ShardspeedError {
  constructor(name: string, version: string) {
    super("ERR_INVALID_ARGUMENT", `Model version ${version} is already registered for model ${name}`);
  }
}

/** The default version cannot go while there are others. */
export class DefaultVersionInUse extends ShardspeedError {
  constructor(name: string) {
    super("ERR_INVALID_ARGUMENT", `Cannot remove default version for model ${name}`);
  }
}
