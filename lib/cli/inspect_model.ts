import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { formatBytes } from "../base/memory.js";
import { openCheckpoint } from "../checkpoint/index.js";
import type { CheckpointFile } from "../checkpoint/types.js";
import { loadGenerationDefaults } from "../engine/generation_config.js";
import type { GenerationDefaults } from "../engine/generation_defaults.js";
import { type AdapterInfo, type ModelInfo, modelInfo } from "../engine/model_info.js";
import { describeAdapter, findAdapter } from "../loading/adapter.js";
import { readModelConfig } from "../loading/auto_config.js";
import { describeModel, resolveWeights, roleTensors } from "../models/index.js";
import type { ModelSpec, WeightView } from "../native/spec.js";
import { loadTokenizer } from "../tokenizer/index.js";
import { describeParts, type PartName } from "./describe_parts.js";
import { rankElements, shownTpSizes } from "./shard_memory.js";

/** What `shardspeed inspect --json` prints of a model folder. */
export interface ModelReport {
  model: string;
  spec: ModelInfo;
  /** What the model computes, in words. */
  details: Record<PartName, string>;
  /** Keys of config.json that do not change what the model computes, and those that nobody knows. */
  ignoredKeys: string[];
  parameters: number;
  storedDtype: string;
  files: CheckpointFile[];
  tensors: { role: string; name: string; dtype: string; shape: number[] }[];
  /** A row for each element type and number of ranks: what each rank needs. */
  memory: MemoryRow[];
  /** What --adapter would merge into the weights. */
  adapter: AdapterInfo | null;
  tokenizer: TokenizerReport | null;
  endTokenIds: number[];
}

interface MemoryRow {
  dtype: string;
  tpSize: number;
  weightBytes: number;
  /** On the CPU, which keeps keys and values in fp32. */
  kvBytesPerToken: number;
  kvBytesPerSequence: number;
  /** On CUDA, where they are of the engine's dtype; null for fp32, which is not computed there. */
  cudaKvBytesPerToken: number | null;
  cudaKvBytesPerSequence: number | null;
}

interface TokenizerReport {
  vocabSize: number;
  /** null: no limit stated. */
  modelMaxLength: number | null;
  bosToken: string | null;
  eosToken: string | null;
  padToken: string | null;
  chatTemplate: boolean;
}

/** Reads the headers of a model folder. What cannot be read of its tokenizer becomes a warning. */
export async function examineModel(
  model: string,
  adapterFolder: string | undefined,
  logger: Logger,
  signal: AbortSignal,
): Promise<ModelReport> {
  const warn = (message: string) => logger.warn(message);
  const description = describeModel(await readModelConfig(model, signal), { logger });
  const checkpoint = await openCheckpoint(model, { logger, signal });
  const adapter = await findAdapter({ adapter: adapterFolder, logger, signal });
  const merged = adapter && { adapter, layout: description.layout };
  const found = resolveWeights(description, checkpoint, { logger, merged });
  const { files, weights, additions, storedDtype, spec: resolved } = found;
  const { spec } = description;
  const { eosTokenIds } = await loadGenerationDefaults(model).catch(
    tolerate(warn, { eosTokenIds: [] as number[] } as GenerationDefaults),
  );
  return {
    model,
    spec: modelInfo(resolved, description.labels),
    details: describeParts(spec),
    ignoredKeys: [...description.keys.ignored, ...description.keys.neutral, ...description.keys.unknown].sort(),
    parameters: weights.reduce((sum, { shape }) => sum + elements(shape), 0),
    storedDtype,
    files,
    tensors: roleTensors(weights).map(({ role, tensor, dtype, shape }) => ({ role, name: tensor, dtype, shape })),
    memory: memoryTable(resolved, weights),
    adapter: adapter === undefined ? null : describeAdapter(adapter, additions),
    tokenizer: await describeTokenizer(model, spec, warn),
    endTokenIds: eosTokenIds,
  };
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

const dtypeBytes = { float32: 4, float16: 2, bfloat16: 2 } as const;

function memoryTable(spec: ModelSpec, weights: readonly WeightView[]): MemoryRow[] {
  return shownTpSizes(spec).flatMap((tpSize) => {
    const rank = rankElements(spec, weights, tpSize);
    const kvBytesPerToken = rank.kvPerToken * dtypeBytes.float32;
    return Object.entries(dtypeBytes).map(([dtype, bytes]) => {
      const cudaKvBytesPerToken = dtype === "float32" ? null : rank.kvPerToken * bytes;
      return {
        dtype,
        tpSize,
        weightBytes: rank.weights * bytes,
        kvBytesPerToken,
        kvBytesPerSequence: kvBytesPerToken * spec.maxPositions,
        cudaKvBytesPerToken,
        cudaKvBytesPerSequence: cudaKvBytesPerToken === null ? null : cudaKvBytesPerToken * spec.maxPositions,
      };
    });
  });
}

async function describeTokenizer(
  model: string,
  spec: ModelSpec,
  warn: (message: string) => void,
): Promise<TokenizerReport | null> {
  const tokenizer = await loadTokenizer(model).catch(tolerate(warn, undefined));
  if (tokenizer === undefined) return null;
  if (tokenizer.vocabSize > spec.vocabSize) {
    warn(
      `The tokenizer has ${tokenizer.vocabSize} tokens and the model ${spec.vocabSize}: the last ones cannot be used.`,
    );
  }
  const { modelMaxLength } = tokenizer;
  return {
    vocabSize: tokenizer.vocabSize,
    modelMaxLength: Number.isFinite(modelMaxLength) ? modelMaxLength : null,
    bosToken: tokenizer.bosToken ?? null,
    eosToken: tokenizer.eosToken ?? null,
    padToken: tokenizer.padToken ?? null,
    chatTemplate: tokenizer.chatTemplate !== undefined,
  };
}

/** Makes a warning of a part that cannot be read: the report is there to show such things. */
function tolerate<T>(warn: (message: string) => void, instead: T): (error: unknown) => T {
  return (error) => {
    if (!ShardspeedError.isInstance(error)) throw error;
    warn(error.message);
    return instead;
  };
}

/** The report as sections of text: title, and rows of cells. */
export function modelSections(report: ModelReport, allTensors: boolean): [title: string, rows: string[][]][] {
  return [
    ["Model", modelRows(report)],
    [`Tensors (${report.tensors.length})`, tensorRows(report, allTensors)],
    ["Memory of a rank", memoryRows(report)],
    ["Tokenizer", tokenizerRows(report)],
  ];
}

function modelRows(report: ModelReport): string[][] {
  const { model, spec, details, ignoredKeys, parameters, storedDtype, files, adapter } = report;
  const fileBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  return [
    ["folder", model],
    ["architecture", spec.family],
    ["parameters", `${parameters.toLocaleString("en-US")} in ${storedDtype}`],
    ["files", `${files.length}, ${formatBytes(fileBytes)}`],
    ...(adapter === null ? [] : [["adapter", describeMerged(adapter)]]),
    ...Object.entries(details),
    ["without effect", ignoredKeys.length === 0 ? "none" : ignoredKeys.join(", ")],
  ];
}

function describeMerged({ folder, method, modules, rank, replacedTensors }: AdapterInfo): string {
  const replaced = replacedTensors === 0 ? "" : `, ${replacedTensors} tensors replaced`;
  return `${folder}: ${method} of ${modules} modules, rank ${rank}${replaced}`;
}

/** Layers are alike as a rule, so only the first is listed; --tensors lists all. */
function tensorRows({ tensors, spec }: ModelReport, all: boolean): string[][] {
  const shown = all ? tensors : tensors.filter(({ role }) => !/^layers\.(?!0\.)/.test(role));
  const rows = shown.map(({ role, name, dtype, shape }) => [role, name, dtype, `[${shape.join(", ")}]`]);
  if (shown.length < tensors.length) rows.push([`... and so on to layers.${spec.layers - 1} (--tensors lists all)`]);
  return rows;
}

function memoryRows({ memory, spec }: ModelReport): string[][] {
  return [
    ["dtype", "tp_size", "weights", "KV cache a token", `KV cache of ${spec.maxPositions} tokens`, "the same on CUDA"],
    ...memory.map(({ dtype, tpSize, weightBytes, kvBytesPerToken, kvBytesPerSequence, cudaKvBytesPerSequence }) => [
      dtype,
      `${tpSize}`,
      formatBytes(weightBytes),
      formatBytes(kvBytesPerToken),
      formatBytes(kvBytesPerSequence),
      cudaKvBytesPerSequence === null ? "not in fp32" : formatBytes(cudaKvBytesPerSequence),
    ]),
  ];
}

function tokenizerRows({ tokenizer, endTokenIds }: ModelReport): string[][] {
  const end = ["end of sequence", endTokenIds.length === 0 ? "no token" : `token ${endTokenIds.join(", ")}`];
  if (tokenizer === null) return [["none: prompts must be token ids"], end];
  const token = (text: string | null) => (text === null ? "none" : JSON.stringify(text));
  return [
    ["tokens", tokenizer.vocabSize.toLocaleString("en-US")],
    ["longest input", tokenizer.modelMaxLength === null ? "not stated" : `${tokenizer.modelMaxLength}`],
    [
      "special",
      `begin ${token(tokenizer.bosToken)}, end ${token(tokenizer.eosToken)}, padding ${token(tokenizer.padToken)}`,
    ],
    end,
    ["chat template", tokenizer.chatTemplate ? "yes" : "no"],
  ];
}
