import { readFile } from "node:fs/promises";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { decodeText } from "../base/regular_file.js";
import type { Engine } from "../engine/engine.js";
import { initInference } from "../loading/init.js";
import type { InitOptions } from "../loading/options.js";
import type { SpeculationOptions } from "../loading/speculation.js";
import { inFlags, loadOptions } from "./flags.js";
import { progressBar, stderrLogger } from "./output.js";

/** Flags of the commands that load a model. */
export interface LoadFlags {
  dtype?: string;
  config?: string;
  checkpoint?: string;
  baseDir?: string;
  adapter?: string;
  device: string;
  tpSize?: number;
  communicationDtype?: string;
  threads?: number;
  maxBatchTokens?: number;
  kvCacheBytes?: number;
  prefixCache?: boolean;
  speculativeConfig?: SpeculationOptions;
  quiet?: boolean;
  verbose?: boolean;
}

/** Loads the model that flags describe, with a progress bar on a terminal. */
export async function loadModel(
  model: string,
  flags: LoadFlags,
  signal: AbortSignal,
): Promise<{ engine: Engine; loadMs: number }> {
  const bar = flags.quiet ? undefined : progressBar(process.stderr);
  let loadMs = 0;
  try {
    const engine = await initInference(model, {
      ...toInitOptions(flags),
      logger: flagLogger(flags),
      signal,
      onProgress(progress) {
        if (progress.phase === "ready") loadMs = progress.loadMs;
        else if (progress.phase === "save") bar?.update(progress.savedBytes, progress.totalBytes, "Saving");
        else bar?.update(progress.loadedBytes, progress.totalBytes);
      },
    });
    return { engine, loadMs };
  } finally {
    bar?.clear();
  }
}

/** The flags that are options of initInference(), which checks them. */
export function toInitOptions(flags: LoadFlags): InitOptions {
  const { speculativeConfig: speculation } = flags;
  const given = Object.fromEntries(
    loadOptions.map((name) => [name, flags[name]]).filter(([, value]) => value !== undefined),
  );
  return { ...given, ...(speculation === undefined ? {} : { speculation }) };
}

/** Messages of the engine, whose options are flags here. */
function flagLogger(flags: LoadFlags): Logger {
  const logger = stderrLogger(flags);
  return {
    debug: (message) => logger.debug(inFlags(message)),
    info: (message) => logger.info(inFlags(message)),
    warn: (message) => logger.warn(inFlags(message)),
    error: (message) => logger.error(inFlags(message)),
  };
}

/** The Jinja template in a file, as an option of applyChatTemplate(); none where no file is named. */
export async function readChatTemplate(
  file: string | undefined,
  signal: AbortSignal,
): Promise<{ chatTemplate?: string }> {
  if (file === undefined) return {};
  const bytes = await readFile(file, { signal }).catch((error: Error) => {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `Cannot read the chat template: ${error.message}`, {
      cause: error,
    });
  });
  return { chatTemplate: decodeText(bytes) };
}
