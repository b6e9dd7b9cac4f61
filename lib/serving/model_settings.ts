import {
  effectiveConfig,
  effectiveSettings,
  type ModelConfigYaml,
  type ParsedModelConfig,
  type Settings,
} from "../torchserve_config/index.js";

/** What sets how a model is served, by the names of model-config.yaml, from what goes first to what goes last. */
export interface SettingSources {
  /** Of its registration. */
  settings?: Settings | undefined;
  /** Its own file. */
  yaml: ParsedModelConfig | undefined;
  /** Of the key `models`. */
  defaults?: Settings | undefined;
  /** Of the server, for all models. */
  server?: Settings | undefined;
}

/** Settings of a model, as the server takes them, and those that its workers open it with so that they count there as well. */
export interface ServedSettings {
  settings: ModelConfigYaml;
  workerSettings: Settings;
}

/**
 * What counts. The server's settings for all models are about queues and time, which the server alone looks at: handlers do not see them, as in
 * TorchServe.
 */
export function resolveServedSettings({
  settings: options = {},
  yaml,
  defaults = {},
  server = {},
}: SettingSources): ServedSettings {
  const sources = { options, yaml, server: { ...server, ...defaults } };
  const counted = effectiveConfig(sources).filter(
    ({ key, source }) => source === "server" && defaults[key] !== undefined,
  );
  const own = Object.fromEntries(counted.map(({ key }) => [key, defaults[key]]));
  return { settings: effectiveSettings(sources), workerSettings: { ...own, ...options } };
}

/** The GPUs of a worker: the next of deviceIds, round and round. What this process sees of them goes on counting. */
export function environmentOfWorker(settings: ModelConfigYaml, index: number, processes: number): NodeJS.ProcessEnv {
  const { deviceIds, parallelLevel, torchrun } = settings;
  const threads = torchrun.OMP_NUMBER_THREADS;
  const environment: NodeJS.ProcessEnv = threads > 0 ? { OMP_NUM_THREADS: String(threads) } : {};
  if (deviceIds.length === 0) return environment;
  const visible = process.env.CUDA_VISIBLE_DEVICES?.split(",").map((id) => id.trim());
  const count = Math.min(deviceIds.length, Math.max(1, parallelLevel, processes));
  const own = Array.from({ length: count }, (_, at) => deviceIds[(index * count + at) % deviceIds.length] as number);
  return { ...environment, CUDA_VISIBLE_DEVICES: own.map((id) => visible?.[id] ?? String(id)).join(",") };
}
