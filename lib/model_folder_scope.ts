import { AsyncLocalStorage } from "node:async_hooks";
import { stat } from "node:fs/promises";
import path from "node:path";

const scope = new AsyncLocalStorage<string>();

/** From here on, in the caller too, relative paths of models may be meant within this folder. To be called before any await. */
export function enterModelFolder(folder: string): void {
  scope.enterWith(folder);
}

/** Runs a function in whose calls relative paths of models may be meant within this folder. */
export function runInModelFolder<T>(folder: string, run: () => T): T {
  return scope.run(folder, run);
}

/** A path as given where it is there from the working directory, else within the model folder where it is there, else as given. */
export async function resolveModelPath(given: string): Promise<string> {
  const folder = scope.getStore();
  if (folder === undefined || (await exists(given))) return given;
  const within = path.resolve(folder, given);
  return (await exists(within)) ? within : given;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
