import { readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { type ErrorCode, ShardspeedError } from "./errors.js";
import { resolveModelPath } from "./model_folder_scope.js";
import { readRegularFile } from "./regular_file.js";
import { truncate } from "./text.js";

/**
 * The folder that a model lies in, as an absolute path: as resolveModelPath() finds it, and in the cache of the Hub's tools the snapshot that
 * transformers would take, of a cached model's folder (`models--facebook--opt-125m`, its `snapshots`) and of a name ("facebook/opt-125m").
 * What is nowhere stays as it is: reading it tells.
 *
 * @throws ShardspeedError `code` for a cached model of several snapshots where none is the main one.
 */
export async function findModelFolder(path: string, code: ErrorCode): Promise<string> {
  const found = resolve(await resolveModelPath(path));
  if (await isFolder(found)) return findSnapshot(basename(found) === "snapshots" ? dirname(found) : found, found, code);
  if (!isHubName(path) || (await exists(found))) return found;
  const cached = join(hubCacheFolder(), `models--${path.replace("/", "--")}`);
  return (await isFolder(cached)) ? findSnapshot(cached, cached, code) : found;
}

/** `owner/name`, or the name alone of the first models: nothing that begins as paths do. */
export function isHubName(path: string): boolean {
  return /^[A-Za-z0-9_][\w.-]*(\/[\w.-]+)?$/.test(path) && !path.includes("..");
}

/** Where huggingface_hub keeps what it downloads (its constants.py). */
export function hubCacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = environment;
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const folder = HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, "hub");
  return resolve(folder.replace(/^~(?=\/|$)/, homedir()));
}

/**
 * @param model The folder of a cached model, with `refs` and `snapshots`.
 * @param otherwise What it is if it is none.
 */
async function findSnapshot(model: string, otherwise: string, code: ErrorCode): Promise<string> {
  if (!/^models--/.test(basename(model))) return otherwise;
  const snapshots = join(model, "snapshots");
  const main = await readRegularFile(join(model, "refs", "main"), { code, limitBytes: 1000 });
  const commit = main?.toString("utf8").trim() ?? "";
  // As a name alone: whoever wrote the file leads to no other folder.
  if (/^[\w-]+$/.test(commit) && (await isFolder(join(snapshots, commit)))) return join(snapshots, commit);
  const names = (await readdir(snapshots).catch(() => [] as string[])).sort();
  if (names.length === 1) return join(snapshots, names[0] as string);
  const found =
    names.length === 0
      ? "no snapshot: its download did not finish. Download it again with `hf download`"
      : `several snapshots (${truncate(names.join(", "), 200)}), none of them the main one. Give the folder of the one that is meant`;
  throw new ShardspeedError(code, `${model}: this folder of a Hugging Face cache has ${found}.`);
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
