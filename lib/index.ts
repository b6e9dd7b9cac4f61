/**
 * Runs Hugging Face transformer checkpoints in Node on a native engine.
 *
 * @packageDocumentation
 */

export type { ArchiveManifest, ManifestModel } from "./archive/manifest.js";
export { type ModelArchive, openArchive } from "./archive/open.js";
export type { ExtractLimits, OpenArchiveOptions } from "./archive/open_options.js";
export { type PackedArchive, packArchive } from "./archive/pack.js";
export type { ArchiveFormat, ArchiveRuntime, PackOptions } from "./archive/pack_options.js";
export type { ArchiveProgress } from "./archive/progress.js";
export { type ErrorCode, errorCodes, httpStatuses, ShardspeedError } from "./base/errors.js";
export type { Logger } from "./base/logger.js";
export { type CheckpointsJson, type CheckpointsJsonOptions, createCheckpointsJson } from "./checkpoint/create_json.js";
export type {
  CheckpointConfig,
  ConfigBoolean,
  ConfigInteger,
  DeepSpeedConfig,
  DtypeName,
  ExpertsConfig,
  QkvQuantConfig,
  QuantConfig,
  QuantTargetConfig,
  QuantWeightConfig,
  TensorParallelConfig,
} from "./deepspeed_config/config_input.js";
export { DeepSpeedInferenceConfig } from "./deepspeed_config/inference_config.js";
export type { ConfigDtype, QuantTarget, ResolvedDeepSpeedConfig } from "./deepspeed_config/types.js";
export type { Classification, ClassifiedLabel, ClassifyOptions, TextOrPair } from "./engine/classify.js";
export type { Embeddings, EmbedOptions, PoolingName } from "./engine/embed.js";
export { Engine, type EngineModule, type EngineStats } from "./engine/engine.js";
export type { ForwardInputs, ForwardResult, Logits, Tensor } from "./engine/forward.js";
export type {
  FinishReason,
  GenerationChoice,
  GenerationChunk,
  GenerationResult,
  GenerationTimings,
  GenerationUsage,
  StreamPace,
} from "./engine/generation.js";
export type { EarlyStopping } from "./engine/generation_defaults.js";
export type { GenerationOptions } from "./engine/generation_options.js";
export type { GeneratedLogprob, LikelyToken, PromptLogprob } from "./engine/logprobs.js";
export type { AdapterInfo, ModelInfo, Task } from "./engine/model_info.js";
export type { ModuleGenerateInputs, ModuleGenerateOptions } from "./engine/module_generate.js";
export type { Prompt, TextPrompt } from "./engine/prompts.js";
export { manualSeed, sampleSeed } from "./engine/seed.js";
export type { Format, SchemaOptions, TaggedValue } from "./format/form.js";
export { BaseDeepSpeedHandler } from "./handler/base_deepspeed_handler.js";
export { BaseHandler } from "./handler/base_handler.js";
export { Context, type ContextOptions } from "./handler/context.js";
export { type DsEngineContext, getDsEngine } from "./handler/ds_engine.js";
export {
  EmbeddingHandler,
  QuestionAnsweringHandler,
  SequenceClassificationHandler,
  TokenClassificationHandler,
} from "./handler/encoder_handlers.js";
export { sendIntermediatePredictResponse } from "./handler/intermediate.js";
export { loadHandler } from "./handler/load_handler.js";
export { type Metric, type MetricDimension, Metrics } from "./handler/metrics.js";
export { PredictionException } from "./handler/prediction_exception.js";
export { decodeRequest, type HandlerRequest, type RequestPart, type Untyped } from "./handler/request.js";
export { type RequestHeader, RequestProcessor } from "./handler/request_processor.js";
export { type HandlerSource, resolveHandler } from "./handler/resolve_handler.js";
export type { IntermediateResponse, RequestResponse } from "./handler/response.js";
export {
  type BatchOutcome,
  type BatchRequest,
  type HandlerFunction,
  type HandlerObject,
  HandlerService,
  type PredictOptions,
  type ServiceOptions,
} from "./handler/service.js";
export type { SystemProperties, SystemPropertyValues } from "./handler/system_properties.js";
export { TextGenerationHandler } from "./handler/text_generation_handler.js";
export { AutoConfig, type ModelConfig } from "./loading/auto_config.js";
export { initInference } from "./loading/init.js";
export { MetaModel, type ModelFromConfigOptions, modelFromConfig } from "./loading/meta_model.js";
export type { InitOptions, LoadProgress } from "./loading/options.js";
export type {
  LookupSpeculationOptions,
  ModelSpeculationOptions,
  SpeculationOptions,
} from "./loading/speculation.js";
export type { TokenLogprob } from "./native/binding.js";
export { type OpenModel, type OpenModelOptions, openModel } from "./serving/open_model.js";
export {
  AutoTokenizer,
  type BatchEncoding,
  type ChatMessage,
  type ChatTemplateOptions,
  type DecodeOptions,
  type DecodeStream,
  type EncodeOptions,
  type EncodePairOptions,
  type Encoding,
  type PairEncoding,
  type Side,
  type Tokenizer,
  type TokenizerCall,
  type TokenizerCallOptions,
  type TokenizerOptions,
} from "./tokenizer/index.js";
export {
  type ConfigSources,
  type DeepSpeedSection,
  type EffectiveValue,
  effectiveConfig,
  effectiveSettings,
  type GivenKey,
  type ModelConfigOptions,
  type ModelConfigYaml,
  type ParsedModelConfig,
  parseModelConfigYaml,
  readModelConfigYaml,
  type Settings,
  type TorchrunSettings,
} from "./torchserve_config/index.js";
