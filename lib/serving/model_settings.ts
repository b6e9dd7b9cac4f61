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
