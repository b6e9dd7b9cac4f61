export { type ConfigOptions, type ResolvedConfig, rejectConflicts, resolveConfig } from "./engine_config.js";
export { DeepSpeedInferenceConfig } from "./inference_config.js";
export { type ConfigEffect, type ConfigKey, configKeys, defaultOf } from "./keys.js";
export type { ConfigDtype, QuantTarget, ResolvedDeepSpeedConfig } from "./types.js";
