import { ShardspeedError } from "../errors.js";
import { loadTokenizer } from "./load.js";
import type { Tokenizer } from "./types.js";

export { loadTokenizer } from "./load.js";
export type {
  ChatMessage,
  ChatTemplateOptions,
  DecodeOptions,
  DecodeStream,
  EncodeOptions,
  Tokenizer,
} from "./types.js";

/** The name that transformers users know; `initInference` loads the same tokenizer as `engine.tokenizer`. */
export class AutoTokenizer {
  /**
   * Loads the tokenizer of a model folder.
   *
   * @param folder A folder with tokenizer.json.
   * @throws ShardspeedError ERR_TOKENIZER when there is none or it cannot be read.
   */
  static async fromPretrained(folder: string): Promise<Tokenizer> {
    const tokenizer = await loadTokenizer(folder);
    if (tokenizer === undefined) {
      throw new ShardspeedError("ERR_TOKENIZER", `${folder} has no tokenizer.json`);
    }
    return tokenizer;
  }
}
