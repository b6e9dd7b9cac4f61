import { stat } from "node:fs/promises";
import { orAborted, throwIfAborted } from "../base/abort.js";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { describeMissingFolder } from "../base/foreign_model.js";
import { findModelFolder } from "../base/hub_cache.js";
import { OptionReader } from "../base/option_reader.js";
import { describeTokenizerFiles, loadTokenizer } from "./load.js";
import type { Tokenizer, TokenizerOptions } from "./types.js";

export { loadTokenizer } from "./load.js";
export type {
  BatchEncoding,
  ChatMessage,
  ChatTemplateOptions,
  DecodeOptions,
  DecodeStream,
  EncodeOptions,
  EncodePairOptions,
  Encoding,
  PairEncoding,
  Side,
  Tokenizer,
  TokenizerCall,
  TokenizerCallOptions,
  TokenizerOptions,
} from "./types.js";

const optionNames = [
  "paddingSide",
  "truncationSide",
  "modelMaxLength",
  "bosToken",
  "eosToken",
  "padToken",
  "unkToken",
] as const satisfies (keyof TokenizerOptions)[];

/** The name that transformers users know; `initInference` loads the same tokenizer as `engine.tokenizer`. */
export class AutoTokenizer {
  /**
   * Loads the tokenizer of a model folder.
   *
   * @param folder A folder with tokenizer.json or a vocabulary in another form (docs/tokenizers.md); a relative path is looked for from the working directory, then in the model folder of the
   * handler that calls.
   * @param options What to set of it, as in transformers: `{ paddingSide: "left" }`. Default: as its files say.
   * @param options.signal Cancels the call with ERR_ABORTED.
   * @throws ShardspeedError ERR_TOKENIZER when there is none or it cannot be read, or it lacks a token; ERR_INVALID_ARGUMENT for options.
   */
  static async fromPretrained(
    folder: string,
    options?: TokenizerOptions & { signal?: AbortSignal },
  ): Promise<Tokenizer> {
    if (typeof folder !== "string" || folder === "") {
      throw invalidArgument("folder", "the path of a model folder", folder);
    }
    const reader = new OptionReader("AutoTokenizer.fromPretrained option", options, [...optionNames, "signal"]);
    const signal = reader.signal("signal");
    throwIfAborted(signal);
    return orAborted(AutoTokenizer.#load(folder, reader), signal);
  }

  static async #load(folder: string, reader: OptionReader): Promise<Tokenizer> {
    const path = await findModelFolder(folder, "ERR_TOKENIZER");
    const tokenizer = await loadTokenizer(path);
    if (tokenizer !== undefined) {
      const given = optionNames.map((name) => [name, reader.get(name)]).filter(([, value]) => value !== undefined);
      return Object.assign(tokenizer, Object.fromEntries(given));
    }
    const missing = (await stat(path).catch(() => undefined)) === undefined;
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      missing ? `${describeMissingFolder(folder)}, tokenizer.json among them.` : await describeTokenizerFiles(path),
    );
  }
}
