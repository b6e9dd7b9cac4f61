import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { invalidArgument, isError, ShardspeedError } from "../base/errors.js";
import { BaseDeepSpeedHandler } from "./base_deepspeed_handler.js";
import { BaseHandler } from "./base_handler.js";
import {
  EmbeddingHandler,
  QuestionAnsweringHandler,
  SequenceClassificationHandler,
  TokenClassificationHandler,
} from "./encoder_handlers.js";
import { makePackageFindable } from "./module_hooks.js";
import type { HandlerFunction, HandlerObject } from "./service.js";
import type { ShippedHandlerName } from "./shipped_names.js";
import { TextGenerationHandler } from "./text_generation_handler.js";
import { describeMissingTypeScript } from "./typescript.js";

/** Endings of handler modules, in the order in which they are tried for a name without one. */
export const moduleEndings = [".mjs", ".js", ".cjs", ".mts", ".ts"] as const;

type HandlerClass = new () => HandlerObject;

/** The handlers that come with the package. */
export const shippedHandlers: Readonly<Record<ShippedHandlerName, HandlerClass>> = {
  TextGenerationHandler,
  SequenceClassificationHandler,
  TokenClassificationHandler,
  QuestionAnsweringHandler,
  EmbeddingHandler,
};

/**
 * Loads a handler module, which exports a function `handle`, or exactly one class with a method `handle`, as default or by name.
 *
 * @param spec The file, or `file:name` for one export of it; relative to modelDir.
 * @returns The function, an instance of the class, or the default export if it is itself a handler object.
 * @throws ShardspeedError ERR_HANDLER that names the file and the cause.
 */
export async function loadHandler(spec: string, modelDir: string): Promise<HandlerObject | HandlerFunction> {
  if (typeof spec !== "string" || spec === "") throw invalidArgument("handler", "the file of a handler", spec);
  if (typeof modelDir !== "string") throw invalidArgument("modelDir", "the folder of the model", modelDir);
  const { file, name } = splitSpec(spec);
  const full = path.resolve(modelDir, file);
  const exports = await importModule(full);
  const entry = name === undefined ? findEntry(full, exports) : namedEntry(full, exports, name);
  return isClass(entry) ? construct(full, entry) : (entry as HandlerObject | HandlerFunction);
}

/** `handler.mjs:entry` as its parts. */
export function splitSpec(spec: string): { file: string; name: string | undefined } {
  const match = /^(.+):([\p{ID_Start}$_][\p{ID_Continue}$]*)$/u.exec(spec);
  return match === null ? { file: spec, name: undefined } : { file: match[1] as string, name: match[2] };
}

function handlerError(file: string, reason: string, cause?: unknown): ShardspeedError {
  return new ShardspeedError("ERR_HANDLER", `${file}: ${reason}`, cause === undefined ? {} : { cause });
}

async function importModule(file: string): Promise<Record<string, unknown>> {
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) throw handlerError(file, "there is no such handler file");
  if (!found.isFile()) throw handlerError(file, "is no file, expected a handler module");
  if (!moduleEndings.some((ending) => file.endsWith(ending))) {
    throw handlerError(file, `is no module, expected a file that ends in ${moduleEndings.join(", ")}`);
  }
  makePackageFindable();
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    throw handlerError(file, await describeImportFailure(file, error), error);
  }
}

async function describeImportFailure(file: string, error: unknown): Promise<string> {
  if (!isError(error)) return `threw ${String(error)} while it was loaded`;
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") {
    return describeMissingTypeScript();
  }
  if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return `an import is missing: ${error.message}`;
  if (error instanceof SyntaxError || code === "ERR_INVALID_TYPESCRIPT_SYNTAX") {
    return `syntax error: ${error.message}${await syntaxErrorPlace(file)}`;
  }
  return `${error.name} while it was loaded: ${error.message}`;
}

/** The error of an import does not say where in a file it is; Node's check of the file does. Empty where that finds nothing: the fault is in another file. */
async function syntaxErrorPlace(file: string): Promise<string> {
  const { stderr = "" } = await promisify(execFile)(process.execPath, ["--check", file], { timeout: 10_000 }).catch(
    (failure: { stderr?: string }) => failure,
  );
  const line = /:(\d+)$/.exec(stderr.split("\n", 1)[0] ?? "")?.[1];
  return line === undefined ? "" : ` (line ${line})`;
}

function namedEntry(file: string, exports: Record<string, unknown>, name: string): unknown {
  const entry = flatten(exports).get(name);
  if (typeof entry === "function") return entry;
  const found = [...flatten(exports).keys()].join(", ") || "nothing";
  throw handlerError(file, `exports no function or class ${name}, found ${found}`);
}

function findEntry(file: string, exports: Record<string, unknown>): unknown {
  const all = flatten(exports);
  if (isHandlerObject(exports.default)) return exports.default;
  const handle = all.get("handle");
  if (typeof handle === "function" && !isClass(handle)) return handle;
  const classes = [...new Set([...all.values()].filter(isClass))];
  // Classes of this package that it passes on besides its own are what it was made from.
  const own = classes.filter((one) => !isBase(one));
  const candidates = own.length > 0 ? own : classes;
  if (candidates.length === 1) return candidates[0];
  const expected = "expected one class with a method handle, or a function handle";
  if (candidates.length === 0 && typeof exports.default === "function") return exports.default;
  if (candidates.length === 0) throw handlerError(file, `exports no class: ${expected}`);
  const names = candidates.map(({ name }) => name || "a class without a name").join(", ");
  throw handlerError(file, `exports more than one class (${names}): ${expected}`);
}

/** A handler that is made already, and not just a function among the exports of a CommonJS module. */
function isHandlerObject(value: unknown): value is HandlerObject {
  if (typeof value !== "object" || value === null || !("handle" in value)) return false;
  const isInstance = Object.getPrototypeOf(value) !== Object.prototype;
  return typeof value.handle === "function" && (isInstance || "initialize" in value);
}

/** Exports by name, those of `module.exports` among them. */
function flatten(exports: Record<string, unknown>): Map<string, unknown> {
  const all = new Map(Object.entries(exports));
  for (const inner of [exports.default, exports["module.exports"]]) {
    if (typeof inner !== "object" || inner === null) continue;
    for (const [name, value] of Object.entries(inner)) if (!all.has(name)) all.set(name, value);
  }
  return all;
}

function isClass(value: unknown): value is HandlerClass {
  if (typeof value !== "function") return false;
  if (/^class\b/.test(Function.prototype.toString.call(value))) return true;
  // As compilers wrote classes once.
  const prototype: unknown = value.prototype;
  return typeof prototype === "object" && prototype !== null && Object.getOwnPropertyNames(prototype).length > 1;
}

function isBase(value: HandlerClass): boolean {
  const bases: readonly unknown[] = [BaseHandler, BaseDeepSpeedHandler, ...Object.values(shippedHandlers)];
  return bases.includes(value);
}

function construct(file: string, entry: HandlerClass): HandlerObject {
  if (typeof entry.prototype.handle !== "function") {
    throw handlerError(file, `the class ${entry.name} has no method handle: extend BaseHandler, or write one`);
  }
  try {
    return new entry();
  } catch (error) {
    throw handlerError(file, `the constructor of ${entry.name} failed: ${(error as Error)?.message ?? error}`, error);
  }
}
