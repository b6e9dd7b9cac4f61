import { ShardspeedError } from "../base/errors.js";
import { enterModelFolder } from "../base/model_folder_scope.js";
import { BaseHandler } from "./base_handler.js";
import type { Context } from "./context.js";

/**
 * Base class of handlers that open their model with getDsEngine() (ts/torch_handler/distributed/base_deepspeed_handler.py). Its initialize() sets
 * `device` only; a subclass sets context, manifest and `initialized`.
 */
export class BaseDeepSpeedHandler extends BaseHandler {
  /** Sets `device` to the number in the environment variable LOCAL_RANK, else 0. Relative model paths then start from the model folder. */
  override async initialize(ctx: Context): Promise<void> {
    // Before any await, so that it holds where the caller goes on.
    const modelDir = ctx?.systemProperties?.model_dir;
    // The original does not look at its context.
    if (typeof modelDir === "string") enterModelFolder(modelDir);
    this.device = readLocalRank();
  }
}

function readLocalRank(): number {
  const text = process.env.LOCAL_RANK ?? "0";
  if (/^\s*[+-]?\d+\s*$/.test(text)) return Number(text);
  throw new ShardspeedError(
    "ERR_CONFIG",
    `Found LOCAL_RANK=${JSON.stringify(text)}, expected an integer: start all ranks by one launcher (shardspeed run, torchrun), or unset it.`,
  );
}
