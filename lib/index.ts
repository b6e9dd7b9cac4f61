/**
 * Runs Hugging Face transformer checkpoints in Node on a native engine.
 *
 * @packageDocumentation
 */
export { Engine, type EngineModule, type EngineStats, type Prompt } from "./engine.js";
export { type ErrorCode, errorCodes, ShardspeedError } from "./errors.js";
export type { ForwardInputs, ForwardResult, Logits } from "./forward.js";
export type {
  FinishReason,
  GeneratedLogprob,
  GenerationChunk,
  GenerationResult,
  GenerationTimings,
  GenerationUsage,
} from "./generation.js";
export { initInference } from "./init.js";
export type { Logger } from "./logger.js";
export type { Activation, ModelSpec, RotarySpec } from "./models/spec.js";
export type { TokenLogprob } from "./native.js";
export type { GenerationOptions, InitOptions, LoadProgress } from "./options.js";
export {
  AutoTokenizer,
  type ChatMessage,
  type ChatTemplateOptions,
  type DecodeOptions,
  type DecodeStream,
  type EncodeOptions,
  type Tokenizer,
} from "./tokenizer/index.js";
