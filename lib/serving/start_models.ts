import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { ShardspeedError } from "../base/errors.js";
import type { RegisteredModel, Registration } from "./registry.js";
import type { ModelToLoad } from "./settings/model_kinds.js";
import type { ResolvedSettings } from "./settings/resolved.js";
import type { ServerSettings } from "./settings/table.js";
import type { Located, ModelSources } from "./sources/model_sources.js";
import type { WorkerPlan } from "./worker/protocol.js";

/**
 * The models that a server begins with: the folder of its command, those that are named, or all of the store.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for one that is not there.
 */
export async function listStartModels(values: ServerSettings, sources: ModelSources): Promise<Registration[]> {
  const { modelFolder, loadModels, modelSettings, servedModelNames } = values;
  const [name] = servedModelNames;
  if (modelFolder !== undefined) {
    const location = path.resolve(modelFolder);
    await checkIsThere(location, modelFolder);
    return [{ location, url: modelFolder, isLoadedAtStart: true, ...(name === undefined ? {} : { name }) }];
  }
  const named = loadModels === "all" ? await listStore(values.modelStore as string) : loadModels;
  const found = await Promise.all(named.map((one) => toRegistration(one, values, sources)));
  const missing = modelSettings.filter(
    ({ archive }) =>
      archive !== undefined && loadModels !== "all" && !named.some(({ location }) => location === archive),
  );
  // Versions that only the key `models` names.
  const others = await Promise.all(
    missing.map(({ archive, model }) => toRegistration({ name: model, location: archive as string }, values, sources)),
  );
  return [...found, ...others];
}

async function listStore(store: string): Promise<ModelToLoad[]> {
  const entries = await readdir(store, { withFileTypes: true }).catch((error) => {
    throw new ShardspeedError("ERR_CONFIG", `The model store ${store} cannot be read: ${(error as Error).message}`);
  });
  const isModel = (name: string) => /\.(mar|zip|tar\.gz|tgz)$/i.test(name);
  const found = await Promise.all(
    entries
      .filter(({ name }) => !name.startsWith("."))
      .map(async ({ name }) => {
        const about = await stat(path.join(store, name)).catch(() => undefined);
        return about?.isDirectory() || (about?.isFile() && isModel(name)) ? [{ location: name }] : [];
      }),
  );
  return found.flat().sort((one, other) => (one.location < other.location ? -1 : 1));
}

async function toRegistration(
  { name, location }: ModelToLoad,
  { modelStore, modelSettings }: ServerSettings,
  sources: ModelSources,
): Promise<Registration> {
  const own = modelSettings.find(
    ({ archive, model }) => archive === location || (name !== undefined && model === name && archive === undefined),
  );
  const located = await sources.locate(location, { isStart: true }).catch((error): Promise<Located> => {
    // Who starts the server may name any file of the machine.
    const file = path.resolve(location);
    return checkIsThere(file, location).then(
      () => ({ location: file, url: location }),
      () => {
        throw new ShardspeedError("ERR_CONFIG", `${(error as Error).message}${whereLooked(location, modelStore)}`);
      },
    );
  });
  return {
    ...located,
    isLoadedAtStart: true,
    ...(name === undefined ? {} : { name }),
    ...(own === undefined ? {} : { defaults: own.settings }),
  };
}

function whereLooked(location: string, store: string | undefined): string {
  if (/^https?:/i.test(location)) return "";
  return store === undefined
    ? ", looked for in the current folder. --model-store FOLDER names a folder of models"
    : `, looked for in ${path.resolve(store)} and in the current folder`;
}

async function checkIsThere(location: string, given: string): Promise<void> {
  const found = await stat(location).catch(() => undefined);
  if (found === undefined)
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `There is no model folder or archive ${given} (${location}).`);
}

/** Starts the workers of a model once it is registered. @throws the error of the first one that could not be started. */
export async function startWorkers(registration: Promise<RegisteredModel>): Promise<void> {
  const { pool, minWorkers } = await registration;
  await pool.replicas.scaleTo(minWorkers);
}

/** What engines are opened with, before what the models' files say. */
export function engineOptionsOf({ values, origins }: ResolvedSettings): WorkerPlan["engineOptions"] {
  const { tpSize, dtype, communicationDtype, threads, maxNumBatchedTokens, kvCacheBytes, maxModelLen, device } = values;
  const { adapter, speculation, noPrefixCache } = values;
  return {
    ...(origins.device.source === "default" ? {} : { device }),
    ...(tpSize === undefined ? {} : { tpSize }),
    ...(dtype === undefined ? {} : { dtype }),
    ...(communicationDtype === undefined ? {} : { communicationDtype }),
    ...(adapter === undefined ? {} : { adapter: path.resolve(adapter) }),
    ...(threads === undefined ? {} : { threads }),
    ...(maxNumBatchedTokens === undefined ? {} : { maxBatchTokens: maxNumBatchedTokens }),
    ...(kvCacheBytes === undefined ? {} : { kvCacheBytes }),
    ...(speculation === undefined ? {} : { speculation }),
    ...(noPrefixCache ? { prefixCache: false } : {}),
    ...(maxModelLen === undefined ? {} : { config: { max_out_tokens: maxModelLen } }),
  };
}
