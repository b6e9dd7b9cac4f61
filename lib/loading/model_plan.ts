import { dirname, join, resolve } from "node:path";
import { orAborted } from "../base/abort.js";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { openDeepSpeedCheckpoint } from "../checkpoint/deepspeed.js";
import { openCheckpoint } from "../checkpoint/index.js";
import type { ResolvedConfig } from "../deepspeed_config/engine_config.js";
import { loadGenerationDefaults } from "../engine/generation_config.js";
import type { GenerationDefaults } from "../engine/generation_defaults.js";
import { type AdapterInfo, seesLater } from "../engine/model_info.js";
import { loadSentenceSettings, type SentenceSettings } from "../engine/sentence_settings.js";
import type { Adapter } from "../models/adapters/adapter.js";
import {
  describeModel,
  type ModelDescription,
  type ModelLabels,
  type ResolvedWeights,
  resolveWeights,
} from "../models/index.js";
import { readAsMegatron } from "../models/weights/megatron.js";
import type { RankPlan } from "../native/binding.js";
import { mostBatchTokens } from "../native/limits.js";
import type { ModelSpec, WeightPlan } from "../native/spec.js";
import { layOutShards, type ShardLayout } from "../shards/layout.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/index.js";
import { describeTokenizerFiles } from "../tokenizer/load.js";
import { describeAdapter, findAdapter } from "./adapter.js";
import { chooseDtype, type Device } from "./device.js";
import type { ModelSource } from "./model_source.js";
import type { ResolvedInitOptions } from "./options.js";
import { checkTpSize } from "./sharding.js";

/** What is to be loaded: everything of a model but its weights. */
export interface ModelPlan {
  readonly spec: ModelSpec;
  readonly labels: ModelLabels;
  /** Null: random weights. */
  readonly weights: WeightPlan | null;
  /** What is merged into them. */
  readonly adapter: AdapterInfo | undefined;
  readonly dtype: RankPlan["dtype"];
  /** Ranks that it is divided among. */
  readonly tpSize: number;
  /** Longest sequence that model and config allow. */
  readonly maxSequenceTokens: number;
  /** With less room the model is not opened: min_out_tokens. */
  readonly minSequenceTokens: number;
  readonly tokenizer: Tokenizer | undefined;
  /** Where there is no tokenizer, the files that are there in place of one. */
  readonly tokenizerFiles: string | undefined;
  readonly generationDefaults: GenerationDefaults;
  /** What the files of a sentence-transformers folder say. */
  readonly sentenceSettings: SentenceSettings;
  /** To be written before the model is loaded: save_mp_checkpoint_path. */
  readonly shards: { readonly folder: string; readonly layout: ShardLayout } | undefined;
  /** Of rank 0. */
  readonly draft?: DraftPlan | undefined;
}

/** A model that drafts for another one, planned. */
export interface DraftPlan {
  /** Most tokens of a draft. */
  readonly draftTokens: number;
  readonly model: ModelPlan;
}

/**
 * Reads everything of a model but its weights.
 *
 * @param device Of the first rank: CUDA and the CPU compute in different dtypes.
 */
export async function planModel(
  source: ModelSource,
  config: ResolvedConfig,
  device: Device,
  options: ResolvedInitOptions,
): Promise<ModelPlan> {
  const { logger } = options;
  const { tpSize, saveMpCheckpointPath } = config;
  const own = describeSource(source, logger);
  checkTpSize(own.spec, tpSize, config.namesTpSize ? "tensor_parallel.tp_size" : "tpSize");
  const adapter = await findAdapter(options, config);
  const { resolved, folder } = await findWeights(source, own, config, options, adapter);
  const { spec, files, weights, additions, storedDtype } = resolved;
  // Of a meta model the folder of the weights may know what the config's does not.
  const about = source.folder ?? folder;
  const reading = Promise.all([
    about === undefined ? undefined : loadTokenizer(about),
    loadGenerationDefaults(about, source.config as { [key: string]: unknown }), // an object: it was described
    loadSentenceSettings(about),
  ]);
  const [tokenizer, generationDefaults, sentenceSettings] = await orAborted(
    reading,
    options.signal,
    "Reading the tokenizer",
  );
  return {
    spec,
    labels: own.labels,
    weights: { files, weights, ...(additions ? { additions } : {}) },
    adapter: adapter && describeAdapter(adapter, additions),
    dtype: chooseDtype(config.dtype, source.dtype ?? storedDtype, device, logger),
    tpSize,
    maxSequenceTokens: Math.min(
      spec.maxPositions,
      config.maxOutTokens ?? Number.POSITIVE_INFINITY,
      // A sequence that is computed as a whole has to fit into a step.
      seesLater(spec) ? mostBatchTokens : Number.POSITIVE_INFINITY,
    ),
    minSequenceTokens: config.minOutTokens,
    tokenizer,
    tokenizerFiles:
      tokenizer !== undefined || about === undefined ? undefined : await describeTokenizerFiles(resolve(about)),
    generationDefaults,
    sentenceSettings,
    shards:
      saveMpCheckpointPath === undefined
        ? undefined
        : { folder: saveMpCheckpointPath, layout: layOutShards(own, spec, weights, tpSize) },
  };
}

function describeSource({ folder, config }: ModelSource, logger: Logger): ModelDescription {
  try {
    return describeModel(config, { logger });
  } catch (error) {
    if (!(error instanceof ShardspeedError) || folder === undefined) throw error;
    throw new ShardspeedError(error.code, `${join(folder, "config.json")}: ${error.message}`, { cause: error });
  }
}

/** The checkpoint that the options or the config name, or the one in the model's folder. */
async function findWeights(
  source: ModelSource,
  description: ModelDescription,
  config: ResolvedConfig,
  { checkpoint: option, baseDir: optionDir, logger, signal }: ResolvedInitOptions,
  adapter: Adapter | undefined,
): Promise<{ resolved: ResolvedWeights; folder: string | undefined }> {
  const common = { logger, ...(signal ? { signal } : {}) };
  const merged = adapter && { adapter, layout: description.layout };
  const json = option ?? config.checkpoint;
  const baseDir = optionDir ?? config.baseDir;
  if (json !== undefined) {
    const opened = await openDeepSpeedCheckpoint(json, { ...common, roots: [baseDir, source.folder] });
    const { checkpoint, megatronVersion } = opened;
    const read =
      megatronVersion === undefined
        ? { description, checkpoint }
        : readAsMegatron(description, checkpoint, megatronVersion);
    const resolved = resolveWeights(read.description, read.checkpoint, { logger, merged });
    const [first] = checkpoint.files;
    return { resolved, folder: baseDir ?? (first && dirname(first.path)) };
  }
  const folder = source.isMeta ? (baseDir ?? source.folder) : source.folder;
  if (folder === undefined) {
    throw new ShardspeedError(
      "ERR_CHECKPOINT",
      "The model was made from a config and has no weights. Pass a checkpoint JSON as checkpoint, or the folder of the weights as baseDir.",
    );
  }
  const resolved = resolveWeights(description, await openCheckpoint(folder, common), { logger, merged });
  return { resolved, folder };
}
