export { type ConfigOptions, type ResolvedConfig, rejectConflicts, resolveConfig } from "./engine_config.js";
export { DeepSpeedInferenceConfig, parseConfig } from "./inference_config.js";
export { type ConfigEffect, type ConfigKey, configKeys, defaultOf, keysOf, valueAt } from "./keys.js";
export type { ConfigDtype, QuantTarget, ResolvedDeepSpeedConfig } from "./types.js";
