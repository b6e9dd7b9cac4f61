import { stat } from "node:fs/promises";
import path from "node:path";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { nearestKey } from "../base/nearest.js";
import { isObject } from "../base/objects.js";
import type { Engine } from "../engine/engine.js";
import { initInference } from "../loading/init.js";
import type { InitOptions } from "../loading/options.js";
import type { InitEngine } from "./ds_engine.js";
import { loadHandler, moduleEndings, shippedHandlers, splitSpec } from "./load_handler.js";
import type { HandlerFunction, HandlerObject } from "./service.js";
import { findShippedName, shippedHandlerNames } from "./shipped_names.js";

/** Sources of a model's handler. */
export interface HandlerSource {
  /** `handler` of the archive's manifest: the file of a module, `file:name`, or the name of a shipped handler. */
  handler: string;
  /** Folder of the extracted archive. */
  modelDir: string;
  /** model-config.yaml, parsed. Its `handler`, or `handler.type`, may be the name of a shipped handler. */
  yaml?: unknown;
  /** Replacements for handlers of manifests (`custom_handler.py`, `custom_handler` or `custom_handler:handle`): a shipped handler or a module. */
  handlerMap?: Readonly<Record<string, string>>;
}

/**
 * Makes the handler of a model: the one that handlerMap selects, else the module of the archive, else the shipped handler that the manifest or
 * the yaml names. For a Python handler, handlerMap or the yaml has to name a replacement.
 *
 * @throws ShardspeedError ERR_HANDLER, with the configuration that is needed.
 */
export async function resolveHandler(source: HandlerSource): Promise<HandlerObject | HandlerFunction> {
  return makeHandler(source, {});
}

/** As resolveHandler(). @param engineOptions What a shipped handler opens its engine with, before what the model's files say. */
export async function makeHandler(
  source: HandlerSource,
  engineOptions: InitOptions,
): Promise<HandlerObject | HandlerFunction> {
  const found = await findHandler(source);
  if ("module" in found) return loadHandler(found.module, source.modelDir);
  return new found.shipped((model, options) => initInference(model, { ...options, ...engineOptions }));
}

/** A handler that comes with the package, or a module in the model's folder: `file`, or `file:name`. */
type FoundHandler = { shipped: new (init?: InitEngine<Engine>) => HandlerObject } | { module: string };

/**
 * What resolveHandler() would make, found without running any of the model's code.
 *
 * @throws ShardspeedError ERR_HANDLER that says what to write where.
 */
export async function findHandler(source: HandlerSource): Promise<FoundHandler> {
  const { handler, modelDir, yaml, handlerMap = {} } = source ?? {};
  if (typeof handler !== "string" || handler === "")
    throw invalidArgument("handler", "the file or name of a handler", handler);
  if (typeof modelDir !== "string") throw invalidArgument("modelDir", "the folder of the model", modelDir);
  if (!isObject(handlerMap)) throw invalidArgument("handlerMap", "an object", handlerMap);
  const mapped = mappedName(handler, handlerMap);
  if (mapped !== undefined) return findNamed(mapped, modelDir, `The handler map names ${mapped} for ${handler}`);
  const { file } = splitSpec(handler);
  const module = isPython(file) ? undefined : await findModule(file, modelDir);
  if (module !== undefined) return { module: handler.replace(file, module) };
  const python = isPython(file) || (await exists(path.resolve(modelDir, `${file}.py`)));
  if (!python && findShippedName(handler) !== undefined) return findNamed(handler, modelDir, "");
  const inYaml = handlerInYaml(yaml);
  if (inYaml !== undefined) return findNamed(inYaml, modelDir, `The model config yaml names the handler ${inYaml}`);
  if (python) throw pythonError(handler);
  return findNamed(handler, modelDir, `The model's handler is ${handler}`);
}

function isPython(file: string): boolean {
  return file.endsWith(".py");
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isFile(),
    () => false,
  );
}

/** A module's file within the model folder; a name without an ending may have any. */
async function findModule(file: string, modelDir: string): Promise<string | undefined> {
  if (moduleEndings.some((ending) => file.endsWith(ending))) return file;
  for (const ending of moduleEndings) {
    if (await exists(path.resolve(modelDir, file + ending))) return file + ending;
  }
  return undefined;
}

/** `file:handle` and `file` are the same, with the ending .py and without, with a folder before them and without. */
function mappedName(handler: string, map: Readonly<Record<string, string>>): string | undefined {
  const plain = (spec: string) => {
    const { file, name = "handle" } = splitSpec(spec);
    return `${path.basename(file).replace(/\.py$/, "")}:${name}`;
  };
  const entry = Object.entries(map).find(([key]) => key === handler || plain(key) === plain(handler));
  if (entry === undefined) return undefined;
  const [key, name] = entry;
  if (typeof name !== "string" || name === "")
    throw invalidArgument(`handlerMap[${JSON.stringify(key)}]`, "a name", name);
  return name;
}

/** The handler that a model-config.yaml names, as `handler` or as its `type`. */
export function handlerInYaml(yaml: unknown): string | undefined {
  const handler = isObject(yaml) ? yaml.handler : undefined;
  const name = isObject(handler) ? handler.type : handler;
  return typeof name === "string" ? name : undefined;
}

async function findNamed(name: string, modelDir: string, found: string): Promise<FoundHandler> {
  const known = findShippedName(name);
  if (known !== undefined) return { shipped: shippedHandlers[known] };
  const { file } = splitSpec(name);
  const module = await findModule(file, modelDir);
  if (module !== undefined) return { module: name.replace(file, module) };
  const near = nearestKey(name, shippedHandlerNames);
  throw new ShardspeedError(
    "ERR_HANDLER",
    `${found}: there is no such module in ${modelDir}, and no shipped handler of that name. ` +
      (near === undefined ? `Shipped: ${shippedHandlerNames.join(", ")}.` : `Did you mean ${near}?`),
  );
}

function pythonError(handler: string): ShardspeedError {
  const { file } = splitSpec(handler);
  const script = isPython(file) ? file : `${file}.py`;
  const [name] = shippedHandlerNames;
  return new ShardspeedError(
    "ERR_HANDLER",
    `The model's handler is ${script}, which is Python, expected a JavaScript module or a shipped handler. For a shipped one write ` +
      `"handler: { type: ${name}, ... }" into the model config yaml, or give --handler-map ${script}=${name} (handlerMap: ` +
      `{ ${JSON.stringify(script)}: ${JSON.stringify(name)} }). Shipped: ${shippedHandlerNames.join(", ")}. A handler of your own is ported ` +
      "line by line to a class that extends BaseDeepSpeedHandler.",
  );
}
