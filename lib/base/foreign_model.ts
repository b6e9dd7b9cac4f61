import { readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { hubCacheFolder, isHubName } from "./hub_cache.js";
import { modelPathCandidates } from "./model_folder_scope.js";
import { openRegularFile } from "./regular_file.js";
import { kindOfFile } from "./system_errors.js";
import { truncate } from "./text.js";

/** A form of models that is not read: how its files are named, what it is called, and what to do. */
export interface ForeignForm {
  pattern: RegExp;
  name: string;
  advice: string;
}

const takeOriginal = "Take the model's original checkpoint, in safetensors.";

export const foreignForms: readonly ForeignForm[] = [
  {
    pattern: /^adapter_(config\.json|.*\.(safetensors|bin))$/,
    name: "an adapter (LoRA) without its base model",
    advice: "Give the folder of its base model, and this one as adapter (--adapter), which merges the two.",
  },
  { pattern: /\.gguf$/i, name: "GGUF", advice: `That is llama.cpp's format. ${takeOriginal}` },
  { pattern: /\.(h5|keras)$/i, name: "TensorFlow/Keras", advice: takeOriginal },
  { pattern: /\.ckpt(\.|$)/i, name: "a TensorFlow or Lightning checkpoint", advice: takeOriginal },
  { pattern: /\.msgpack$/i, name: "Flax", advice: takeOriginal },
  { pattern: /(\.onnx|^onnx)$/i, name: "ONNX", advice: takeOriginal },
  { pattern: /\.(engine|plan)$/i, name: "TensorRT", advice: takeOriginal },
  {
    pattern: /^model_index\.json$/,
    name: "a diffusers pipeline",
    advice: "Give the folder of its language model, if it has one.",
  },
  {
    pattern: /^(params\.json|consolidated\.\d+\.pth)$/,
    name: "a checkpoint of the original code",
    advice: "Take the one for transformers, with a config.json, or convert it by transformers' script for its family.",
  },
  {
    pattern: /\.(mar|zip|tar|tgz|tar\.gz)$/i,
    name: "an archive",
    advice: "Open it with openModel() or openArchive(), or unpack it first.",
  },
];

export function findForeignForm(name: string): ForeignForm | undefined {
  return foreignForms.find(({ pattern }) => pattern.test(name));
}

/** For errors: that a model folder is not there, where it was looked for, and what to do. */
export function describeMissingFolder(given: string): string {
  const places = modelPathCandidates(given).join(" and ");
  const missing = `${given}: there is no such folder; looked for ${places}`;
  if (/^~(\/|$)/.test(given)) {
    return `${missing}. Only shells expand ~: give ${path.join(homedir(), given.slice(1))}`;
  }
  const needed = "Nothing is downloaded: give the path of a folder with the model's files";
  if (!isHubName(given) || !given.includes("/")) return `${missing}. ${needed}`;
  return (
    `${missing}, and in the Hugging Face cache ${hubCacheFolder()}. ${needed}. If ${given} is a model of the Hub, ` +
    `\`hf download ${given}\` puts it into that cache`
  );
}

/** For errors: what a path holds in place of a model folder with config.json, and what to do, as an unfinished sentence. */
export async function describeForeignModel(place: string): Promise<string> {
  const stats = await stat(place).catch(() => undefined);
  if (stats === undefined) return "there is no such folder";
  if (stats.isDirectory()) return describeFolder(place);
  if (!stats.isFile()) return `it is ${kindOfFile(stats)}`;
  const name = path.basename(place);
  const form = (await beginsWith(place, "GGUF")) ? findForeignForm("x.gguf") : findForeignForm(name);
  if (form !== undefined) return `it is a file: ${form.name}. ${form.advice}`;
  if (!/\.(json|safetensors|bin|pt|pth)$/i.test(name)) return "it is not a folder";
  return `it is not a folder but one file of a model. Give its folder, ${path.dirname(place)}`;
}

async function describeFolder(folder: string): Promise<string> {
  const names = (await readdir(folder).catch(() => [] as string[])).sort();
  const cached = names.filter((name) => name.startsWith("models--"));
  if (cached.length > 0) {
    const models = cached.map((name) => name.slice("models--".length).replace("--", "/"));
    return `it is the cache of Hugging Face, of several models. Give one of them: ${truncate(models.join(", "), 300)}`;
  }
  for (const name of names) {
    const form = findForeignForm(name);
    if (form !== undefined) return `it has no config.json, and ${name} (${form.name}). ${form.advice}`;
  }
  for (const name of names.slice(0, 1000)) {
    const inside = path.join(folder, name);
    if (await stat(path.join(inside, "config.json")).catch(() => undefined)) {
      return `it has no config.json, and its folder ${name} has one. Give ${inside}`;
    }
  }
  if (names.length === 0) return "it has no config.json: it is empty";
  return `it has no config.json, but ${truncate(names.join(", "), 200)}`;
}

async function beginsWith(file: string, start: string): Promise<boolean> {
  const opened = await openRegularFile(file, (reason) => new Error(reason)).catch(() => undefined);
  if (opened === undefined) return false;
  try {
    const bytes = Buffer.alloc(start.length);
    await opened.handle.read(bytes, 0, bytes.length, 0);
    return bytes.toString("latin1") === start;
  } catch {
    return false;
  } finally {
    await opened.handle.close();
  }
}
