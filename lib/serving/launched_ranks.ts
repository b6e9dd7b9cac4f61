import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { readLaunchEnvironment } from "../launch/environment.js";
import { openModelFiles } from "./model_files.js";
import { resolveServedSettings } from "./model_settings.js";
import { startModel } from "./open_model.js";
import type { ResolvedSettings } from "./settings/resolved.js";
import { ModelSources } from "./sources/model_sources.js";
import { engineOptionsOf, listStartModels } from "./start_models.js";
import type { GroupStart } from "./worker/worker.js";

/** The group that a launcher has started this process in as rank 0: its worker is that rank. undefined: no launcher has. */
export function readGroup(env: NodeJS.ProcessEnv = process.env): GroupStart | undefined {
  const launch = readLaunchEnvironment(env);
  if (launch === undefined || launch.worldSize === 1) return undefined;
  const { worldSize, masterAddr, masterPort } = launch;
  const secret = env.SHARDSPEED_SECRET;
  if (secret === undefined || secret === "") {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `A launcher has started this server as one of ${worldSize} ranks, which know each other by a secret: set SHARDSPEED_SECRET for all of ` +
        "them (shardspeed run does so by itself on one host).",
    );
  }
  return { worldSize, masterAddr, masterPort, secret };
}

/** Whether this process is a rank that follows: it has no listener, and computes with rank 0's worker. */
export function isFollowingRank(env: NodeJS.ProcessEnv = process.env): boolean {
  return (readLaunchEnvironment(env)?.rank ?? 0) > 0;
}

/** How a rank that follows is ended before rank 0 ends it. */
export interface FollowSignals {
  /** Ends the loading. */
  opening: AbortSignal;
  /** Ends the rank, and with it the group. */
  stop: AbortSignal;
}

/**
 * Serves as a rank that follows, until rank 0 ends: a launcher that shuts down tells all ranks so, and rank 0 still needs this one for the requests
 * that it has accepted.
 *
 * @throws ShardspeedError ERR_CONFIG where there is not exactly one model; ERR_COMM, and the errors of openModelFiles() and startModel().
 */
export async function followServer(
  resolved: ResolvedSettings,
  logger: Logger,
  { opening, stop }: FollowSignals,
): Promise<void> {
  const { values } = resolved;
  const sources = new ModelSources({ ...values, logger });
  opening.addEventListener("abort", () => sources.close(), { once: true });
  const [model, ...others] = await listStartModels(values, sources);
  if (model === undefined || others.length > 0) {
    const message = `Found ${others.length + (model === undefined ? 0 : 1)} models for ranks that are processes, expected one.`;
    throw new ShardspeedError("ERR_CONFIG", message);
  }
  const { handlerMap } = values;
  const { name, defaults } = model;
  const location = typeof model.location === "string" ? model.location : await model.location();
  const files = await openModelFiles(location, { handlerMap, signal: opening, logger });
  // As rank 0's server resolves them for its worker: the ranks have the same engine.
  const { workerSettings } = resolveServedSettings({ yaml: files.yaml?.parsed, defaults });
  await using opened = await startModel(files, location, {
    ...(name === undefined ? {} : { modelName: name }),
    settings: workerSettings,
    engineOptions: engineOptionsOf(resolved),
    signal: opening,
    logger,
  });
  if (opened.engine === undefined)
    throw new ShardspeedError("ERR_CONFIG", "The model's handler has no engine, so its ranks cannot be processes.");
  const stopped = new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }));
  await Promise.race([opened.engine.finished, stopped]);
}
