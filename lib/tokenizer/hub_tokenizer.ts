import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { type ChatSettings, readChatOptions } from "./chat_options.js";
import { renderChat } from "./chat_template.js";
import { cleanUpSpaces, SpaceCleaner } from "./clean_up.js";
import { createDecoder, type DecoderFactory } from "./decoder.js";
import { checkRoom, encodeTexts, putAround } from "./encode_texts.js";
import type { AddedToken } from "./encoding/added_tokens.js";
import { Encoder } from "./encoding/encoder.js";
import type { JsonObject } from "./encoding/json.js";
import type { Vocabulary } from "./encoding/models.js";
import type { AddedIds } from "./encoding/post_processor.js";
import { countAdded, joinPair } from "./pairs.js";
import { type NamedToken, TokenizerSettings } from "./settings.js";
import { createTokenBytes, type TokenBytes } from "./token_bytes.js";
import type {
  BatchEncoding,
  ChatMessage,
  ChatTemplateOptions,
  DecodeOptions,
  DecodeStream,
  EncodeOptions,
  EncodePairOptions,
  Encoding,
  PairEncoding,
  Tokenizer,
  TokenizerCallOptions,
} from "./types.js";

/** Above this many characters encodeAsync gives way to other work. */
const shortText = 2000;
/** How long it works at a stretch, in milliseconds. */
const slice = 2;

/** What a tokenizer is made of. */
export interface TokenizerParts {
  /** In the form of tokenizer.json. */
  tokenizer: JsonObject;
  config: JsonObject;
  named: ReadonlyMap<string, NamedToken>;
  added: readonly AddedToken[];
  vocabulary: Vocabulary;
  templates: ReadonlyMap<string, string>;
}

/** A tokenizer of the Hugging Face Hub. */
export class HubTokenizer extends TokenizerSettings implements Tokenizer {
  readonly vocabSize: number;
  readonly specialTokenIds: ReadonlySet<number>;
  readonly chatTemplate: string | undefined;
  readonly #encoder: Encoder;
  readonly #createDecoder: DecoderFactory;
  readonly #tokenBytes: TokenBytes;
  readonly #addedIdSet: ReadonlySet<number>;
  readonly #cleansUp: boolean;
  /** (vocabSize), with holes. */
  readonly #tokens: readonly (string | undefined)[];
  readonly #ids: ReadonlyMap<string, number>;
  readonly #templates: ReadonlyMap<string, string>;
  readonly #addedIds: AddedIds;

  /** @throws Error for parts that are not known or damaged. */
  constructor({ tokenizer, config, named, added, vocabulary, templates }: TokenizerParts) {
    super(config, named);
    this.#encoder = new Encoder(tokenizer, added, vocabulary);
    this.#createDecoder = createDecoder(tokenizer.decoder);
    const tokens = [...vocabulary.tokens];
    const ids = new Map(vocabulary.ids);
    for (const { id, content } of added) {
      tokens[id] = content;
      ids.set(content, id);
    }
    this.#tokens = tokens;
    this.#tokenBytes = createTokenBytes(
      tokenizer.decoder,
      tokens.find((token) => token !== undefined && /^\p{L}+$/u.test(token)),
    );
    this.#addedIdSet = new Set(added.map(({ id }) => id));
    this.#ids = ids;
    this.vocabSize = tokens.length;
    this.#addedIds = this.#encoder.addedIds;
    const model = tokenizer.model as JsonObject;
    // Moses' words are put together by transformers' own Python code, which cleans up whatever the model is.
    const isBytePairs = Array.isArray(model.merges) && (tokenizer.decoder as JsonObject | null)?.type !== "Moses";
    this.#cleansUp = config.clean_up_tokenization_spaces === true && !isBytePairs;
    this.specialTokenIds = new Set(added.filter(({ special }) => special).map(({ id }) => id));
    this.#templates = templates;
    this.chatTemplate = templates.get("default");
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== "string") throw invalidArgument("text", "a string", text);
    try {
      return this.#complete(this.#encoder.encode(text), options);
    } catch (error) {
      throw encodingError(error);
    }
  }

  async encodeAsync(text: string, options: EncodeOptions = {}): Promise<number[]> {
    if (typeof text !== "string" || text.length <= shortText) return this.encode(text, options);
    try {
      return this.#complete(await this.#encoder.encodeInSlices(text, slice), options);
    } catch (error) {
      throw encodingError(error);
    }
  }

  encodePair(first: string, second: string, options?: EncodePairOptions): PairEncoding {
    const maxLength = this.#readPair(first, second, options);
    try {
      return this.#join(this.#encoder.encode(first), this.#encoder.encode(second), maxLength);
    } catch (error) {
      throw encodingError(error);
    }
  }

  async encodePairAsync(first: string, second: string, options?: EncodePairOptions): Promise<PairEncoding> {
    const maxLength = this.#readPair(first, second, options);
    const encode = async (text: string) =>
      text.length <= shortText ? this.#encoder.encode(text) : this.#encoder.encodeInSlices(text, slice);
    try {
      return this.#join(await encode(first), await encode(second), maxLength);
    } catch (error) {
      throw encodingError(error);
    }
  }

  /** Checks what encodePair() was given; returns maxLength. */
  #readPair(first: unknown, second: unknown, options: unknown): number | undefined {
    const reader = new OptionReader("encodePair option", options, ["maxLength"]);
    const maxLength = reader.integer("maxLength", 1, Number.MAX_SAFE_INTEGER, undefined);
    for (const [name, text] of Object.entries({ first, second }))
      if (typeof text !== "string") throw invalidArgument(name, "a string", text);
    if (maxLength !== undefined) checkRoom(maxLength, countAdded(this.#encoder.pairPieces), "pair of texts");
    return maxLength;
  }

  #join(first: number[], second: number[], maxLength: number | undefined): PairEncoding {
    return joinPair(this.#encoder.pairPieces, { first, second }, { maxLength, side: this.truncationSide });
  }

  /** With what is added to every text, cut where that is asked for. */
  #complete(ids: number[], { addSpecialTokens = true, maxLength }: EncodeOptions): number[] {
    const added = addSpecialTokens ? this.#addedIds : { before: [], behind: [] };
    if (maxLength !== undefined) {
      if (!Number.isSafeInteger(maxLength) || maxLength < 1)
        throw invalidArgument("maxLength", "an integer of at least 1", maxLength);
      checkRoom(maxLength, added.before.length + added.behind.length);
    }
    return putAround(ids, added, maxLength, this.truncationSide);
  }

  protected encodeTexts(texts: string | readonly string[], options?: TokenizerCallOptions): Encoding | BatchEncoding {
    return encodeTexts(this, texts, options);
  }

  /** What encode() adds to every text. */
  addedIds(): AddedIds {
    return this.#addedIds;
  }

  decode(ids: readonly number[], { skipSpecialTokens = false, cleanUpTokenizationSpaces }: DecodeOptions = {}): string {
    if (!Array.isArray(ids) && !ArrayBuffer.isView(ids)) throw invalidArgument("ids", "an array of token ids", ids);
    const stage = this.#createDecoder(true);
    const pieces: string[] = [];
    for (const id of ids) {
      const token = this.#tokenToDecode(id, skipSpecialTokens);
      if (token !== undefined) pieces.push(...stage.push(token));
    }
    pieces.push(...stage.flush());
    const text = pieces.join("");
    return (cleanUpTokenizationSpaces ?? this.#cleansUp) ? cleanUpSpaces(text) : text;
  }

  batchDecode(batch: readonly (readonly number[])[], options?: DecodeOptions): string[] {
    if (!Array.isArray(batch)) throw invalidArgument("batch", "an array of arrays of token ids", batch);
    return batch.map((ids) => this.decode(ids, options));
  }

  decodeStream({ skipSpecialTokens = false, cleanUpTokenizationSpaces }: DecodeOptions = {}): DecodeStream {
    const stage = this.#createDecoder(false);
    const cleaner = (cleanUpTokenizationSpaces ?? this.#cleansUp) ? new SpaceCleaner() : undefined;
    return {
      push: (id) => {
        const token = this.#tokenToDecode(id, skipSpecialTokens);
        if (token === undefined) return "";
        const text = stage.push(token).join("");
        return cleaner === undefined ? text : cleaner.push(text);
      },
      flush: () => {
        const text = stage.flush().join("");
        return cleaner === undefined ? text : cleaner.push(text) + cleaner.flush();
      },
    };
  }

  tokenToId(token: string): number | undefined {
    return this.#ids.get(token);
  }

  idToToken(id: number): string | undefined {
    return this.#tokens[id];
  }

  tokenBytes(id: number): Uint8Array | undefined {
    const token = this.#tokens[id];
    if (token === undefined) return undefined;
    return this.#addedIdSet.has(id) ? new TextEncoder().encode(token) : this.#tokenBytes(token);
  }

  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions & { tokenize: false }): string;
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions & { tokenize?: true }): number[];
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options?: ChatTemplateOptions & { tokenize?: boolean },
  ): string | number[] {
    const settings = readChatOptions(options);
    const text = renderChat(this.#chooseTemplate(settings), messages, settings, this.namedTokens());
    return settings.tokenize ? this.encode(text, { addSpecialTokens: false }) : text;
  }

  #tokenToDecode(id: number, skipSpecialTokens: boolean): string | undefined {
    if (!Number.isInteger(id) || id < 0) throw invalidArgument("a token id", "an integer of at least 0", id);
    if (skipSpecialTokens && this.specialTokenIds.has(id)) return undefined;
    return this.#tokens[id];
  }

  #chooseTemplate({ chatTemplate, tools }: ChatSettings): string {
    if (chatTemplate !== undefined) return this.#templates.get(chatTemplate) ?? chatTemplate;
    const template =
      (tools !== undefined ? this.#templates.get("tool_use") : undefined) ?? this.#templates.get("default");
    if (template !== undefined) return template;
    const names = [...this.#templates.keys()].sort().join(", ");
    throw new ShardspeedError(
      "ERR_TOKENIZER",
      names === ""
        ? "The model has no chat template. Pass one as chatTemplate, or give the prompt as plain text."
        : `The model has several chat templates and no default. Name one of them as chatTemplate: ${names}.`,
    );
  }
}

/** What a pattern of the tokenizer that takes too long for a text throws. */
function encodingError(error: unknown): ShardspeedError {
  if (ShardspeedError.isInstance(error)) return error;
  return new ShardspeedError("ERR_TOKENIZER", `The text cannot be encoded: ${(error as Error).message}`, {
    cause: error,
  });
}
