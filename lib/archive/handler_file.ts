import { stat } from "node:fs/promises";
import path from "node:path";
import { findShippedName } from "../handler/shipped_names.js";
import { plainArchiveError } from "./errors.js";

/** The handlers that TorchServe has, by the names its archiver knows (model_packaging_utils.py). */
const torchServeHandlers: readonly string[] = [
  "base_handler",
  "text_classifier",
  "image_classifier",
  "object_detector",
  "image_segmenter",
  "dali_image_classifier",
  "vllm_handler",
  "trt_llm_handler",
];

/** The same for archives with the runtime LSP. */
const nativeHandlers: readonly string[] = ["BaseHandler", "TorchScriptHandler"];

const moduleExtensions = [".py", ".js", ".mjs", ".cjs", ".ts", ".mts"] as const;

/**
 * The file that a handler stands in: `handler.py`, `handler.mjs`, `handler.mjs:name`, or `handler` and `handler:name`
 * for a module whose extension is left out. undefined for handlers that are there without a file.
 *
 * @throws ERR_ARCHIVE where there is none.
 */
export async function findHandlerFile(handler: string, runtime: string): Promise<string | undefined> {
  if (runtime === "LSP") {
    if (nativeHandlers.includes(handler)) return undefined;
    return firstThatExists([`${withoutEntryPoint(handler)}${process.platform === "darwin" ? ".dylib" : ".so"}`]);
  }
  if (torchServeHandlers.includes(handler) || findShippedName(handler) !== undefined) return undefined;
  if (moduleExtensions.some((extension) => handler.endsWith(extension))) return firstThatExists([handler]);
  const module = withoutEntryPoint(handler);
  if (module.endsWith(".py")) return firstThatExists([handler], " A name in a Python module is given as module:name");
  if (moduleExtensions.some((extension) => module.endsWith(extension))) return firstThatExists([module]);
  return firstThatExists(moduleExtensions.map((extension) => `${module}${extension}`));
}

/** `folder/module:function` without the function. */
export function withoutEntryPoint(handler: string): string {
  const colon = handler.lastIndexOf(":");
  return colon > handler.lastIndexOf("/") ? handler.slice(0, colon) : handler;
}

/** The first of these files that is there. */
async function firstThatExists(candidates: readonly string[], advice = ""): Promise<string> {
  for (const candidate of candidates) {
    if ((await stat(candidate).catch(() => undefined)) !== undefined) return candidate;
  }
  const [first, ...others] = candidates as [string, ...string[]];
  const extensions = others.map((other) => path.extname(other)).join(", ");
  const more = others.length === 0 ? "" : ` (nor with ${extensions})`;
  throw plainArchiveError(`No such file or directory: '${first}'${more}, given as handler.${advice}`);
}
