import { AsyncLocalStorage } from "node:async_hooks";
import { stat } from "node:fs/promises";
import { isAbsolute, resolve } from "node:path";

const currentFolder = new AsyncLocalStorage<string>();

/**
 * Makes a folder the current model folder of the caller and of what it does from now on: a handler's initialize, say, where relative paths
 * are the model's. An async function has to call it before its first await, or its caller does not see it.
 */
export function enterModelFolder(folder: string): void {
  currentFolder.enterWith(resolve(folder));
}

/** Runs a function with a folder as the current model folder; neither its caller nor anything else sees it. */
export function runInModelFolder<T>(folder: string, run: () => T): T {
  return currentFolder.run(resolve(folder), run);
}

/** Where a path of a model is looked for, in this order: from the working directory, then in the current model folder. */
export function modelPathCandidates(path: string): string[] {
  const folder = currentFolder.getStore();
  const candidates = [resolve(path)];
  if (folder !== undefined && !isAbsolute(path)) candidates.push(resolve(folder, path));
  return [...new Set(candidates)];
}

/** A path as it is given if it is there from the working directory, else in the current model folder if it is there, else as it is given. */
export async function resolveModelPath(path: string): Promise<string> {
  for (const [i, candidate] of modelPathCandidates(path).entries()) {
    if (await stat(candidate).catch(() => undefined)) return i === 0 ? path : candidate;
  }
  return path;
}
