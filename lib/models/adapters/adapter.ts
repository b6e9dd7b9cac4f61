import { stat } from "node:fs/promises";
import path from "node:path";
import { ShardspeedError } from "../../base/errors.js";
import type { Logger } from "../../base/logger.js";
import { checkpointError, listed, quote } from "../../checkpoint/errors.js";
import { type CheckpointFile, openCheckpoint, type TensorEntry } from "../../checkpoint/index.js";
import { type AdapterConfig, readAdapterConfig } from "./config.js";

/** The factors of one module. */
export interface Factors {
  /** (rank, in) of a linear module, (rank, tokens) of an embedding. */
  a?: TensorEntry;
  /** (out, rank) of a linear module, (width, rank) of an embedding. */
  b?: TensorEntry;
  /** They are those of an embedding, which PEFT names differently and turns. */
  isEmbedding: boolean;
  magnitude?: TensorEntry;
}

/** A tensor of the model that the adapter has a whole one for. */
export interface Replacement {
  entry: TensorEntry;
  /** It is the module's own, which whatever is tied to it does not share: modules_to_save. */
  isOwn: boolean;
  /** Another of the same name counts in its place. */
  isCopy: boolean;
}

/** An opened PEFT adapter. Names are those of the model that it was trained on. */
export interface Adapter {
  folder: string;
  config: AdapterConfig;
  files: CheckpointFile[];
  /** By module: "model.layers.0.self_attn.q_proj". */
  factors: Map<string, Factors>;
  /** By tensor: "lm_head.weight". */
  replacements: Map<string, Replacement>;
}

const prefix = "base_model.model.";
/** A name of the adapter may stand behind each of these: "lora_A.default.weight". */
const factorName =
  /^(.+)\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(?:\.(?!weight$|bias$)\w+)?(?:\.(weight))?$/;
const wholeName =
  /^(.+?)(\.base_layer|\.modules_to_save(?:\.(?!weight$|bias$)\w+)?|\.original_module)?\.(weight|bias)$/;

/**
 * Reads what an adapter has, and where: adapter_config.json and the headers of adapter_model.safetensors or adapter_model.bin.
 *
 * @throws ShardspeedError ERR_CHECKPOINT, ERR_UNSUPPORTED_MODEL for what merging would not follow, ERR_ABORTED.
 */
export async function openAdapter(
  location: string,
  options: { logger?: Logger; signal?: AbortSignal } = {},
): Promise<Adapter> {
  const folder = path.resolve(location);
  const config = await readAdapterConfig(folder, options.signal);
  const checkpoint = await openCheckpoint(await findFile(folder), options);
  const file = (entry: TensorEntry) => checkpoint.files[entry.file]?.path ?? folder;
  const factors = new Map<string, Factors>();
  const replacements = new Map<string, Replacement>();
  const refused: string[] = [];
  for (const [name, entry] of checkpoint.tensors) {
    const inner = name.startsWith(prefix) ? name.slice(prefix.length) : undefined;
    const factor = inner === undefined ? null : factorName.exec(inner);
    const whole = inner === undefined ? null : wholeName.exec(inner);
    if (factor !== null) addFactor(factors, factor[1] as string, factor[2] as string, entry, file(entry));
    else if (whole === null || inner?.includes(".lora_")) refused.push(name);
    else if (whole[2] !== ".original_module") addReplacement(replacements, whole, config, entry, file(entry));
  }
  if (refused.length > 0) {
    throw new ShardspeedError(
      "ERR_UNSUPPORTED_MODEL",
      `${folder}: ${listed(refused.map(quote))} cannot be merged, expected tensors named ${prefix}MODULE.lora_A.weight, .lora_B.weight and such.`,
    );
  }
  checkFactors(factors, config, checkpoint.files[0]?.path ?? folder);
  return { folder, config, files: checkpoint.files, factors, replacements };
}

async function findFile(folder: string): Promise<string> {
  const names = ["adapter_model.safetensors", "adapter_model.bin"];
  for (const name of names) {
    if (await stat(path.join(folder, name)).catch(() => undefined)) return path.join(folder, name);
  }
  throw checkpointError({ file: folder }, `has neither ${names.join(" nor ")}, expected the weights of the adapter`);
}

function addFactor(
  factors: Map<string, Factors>,
  module: string,
  part: string,
  entry: TensorEntry,
  file: string,
): void {
  const known = factors.get(module) ?? { isEmbedding: part.startsWith("embedding") };
  const key = part === "magnitude_vector" ? "magnitude" : part.endsWith("A") ? "a" : "b";
  if (known[key] !== undefined) {
    throw checkpointError({ file, tensor: entry.name }, `is there twice, the other time as ${quote(known[key].name)}`);
  }
  const isEmbedding = known.isEmbedding || part.startsWith("embedding");
  factors.set(module, { ...known, isEmbedding, [key]: entry });
}

function addReplacement(
  replacements: Map<string, Replacement>,
  [, module, how, kind]: RegExpExecArray,
  config: AdapterConfig,
  entry: TensorEntry,
  file: string,
): void {
  const name = `${module}.${kind}`;
  const isCopy = how?.startsWith(".modules_to_save") === true;
  const other = replacements.get(name);
  // With bias "all" a bias of modules_to_save is there under this name as well, and PEFT reads the other.
  if (other !== undefined && isCopy) return;
  if (other !== undefined && !other.isCopy) {
    throw checkpointError({ file, tensor: entry.name }, `is there twice, the other time as ${quote(other.entry.name)}`);
  }
  const isNamed = config.modulesToSave.some((end) => module === end || module?.endsWith(`.${end}`));
  replacements.set(name, { entry, isCopy, isOwn: how !== ".base_layer" && isNamed });
}

function checkFactors(factors: ReadonlyMap<string, Factors>, { usesDora, path: config }: AdapterConfig, file: string) {
  if (factors.size === 0)
    throw checkpointError({ file }, "holds no factors of LoRA: no tensor's name ends with lora_A.weight");
  for (const [module, { a, b, magnitude, isEmbedding }] of factors) {
    const missing = a === undefined ? "A" : b === undefined ? "B" : undefined;
    if (missing !== undefined) {
      throw checkpointError(
        { file },
        `has no lora_${isEmbedding ? "embedding_" : ""}${missing} of ${quote(module)}, and has the other factor of it`,
      );
    }
    if ((magnitude !== undefined) === usesDora) continue;
    const found = usesDora
      ? "true, and there is no lora_magnitude_vector"
      : "false, and there is a lora_magnitude_vector";
    throw checkpointError({ file: config }, `use_dora is ${found} of ${quote(module)}`);
  }
}
