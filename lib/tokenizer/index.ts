import { stat } from "node:fs/promises";
import { invalidArgument, ShardspeedError } from "../errors.js";
import { describeMissingFolder, resolveModelPath } from "../model_folder_scope.js";
import { loadTokenizer } from "./load.js";
import type { Tokenizer } from "./types.js";

export { loadTokenizer } from "./load.js";
export type {
  BatchEncoding,
  ChatMessage,
  ChatTemplateOptions,
  DecodeOptions,
  DecodeStream,
  EncodeOptions,
  Encoding,
  Side,
  Tokenizer,
  TokenizerCall,
  TokenizerCallOptions,
} from "./types.js";

/** The name that transformers users know; `initInference` loads the same tokenizer as `engine.tokenizer`. */
export class AutoTokenizer {
  /**
   * Loads the tokenizer of a model folder.
   *
   * @param folder A folder with tokenizer.json; a relative path is looked for from the working directory, then in the model folder of the
   * handler that calls.
   * @throws ShardspeedError ERR_TOKENIZER when there is none or it cannot be read.
   */
  static async fromPretrained(folder: string): Promise<Tokenizer> {
    if (typeof folder !== "string" || folder === "") {
      throw invalidArgument("folder", "the path of a model folder", folder);
    }
    const path = await resolveModelPath(folder);
    const tokenizer = await loadTokenizer(path);
    if (tokenizer !== undefined) return tokenizer;
    const missing = (await stat(path).catch(() => undefined)) === undefined;
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      missing ? `${describeMissingFolder(folder)}, tokenizer.json among them.` : `${path} has no tokenizer.json`,
    );
  }
}
