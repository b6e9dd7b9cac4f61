import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { type ChatSettings, readChatOptions } from "./chat_options.js";
import { renderChat } from "./chat_template.js";
import { cleanUpSpaces, SpaceCleaner } from "./clean_up.js";
import { createDecoder, type DecoderFactory } from "./decoder.js";
import { type AddedIds, encodeTexts } from "./encode_texts.js";
import type { JsonObject } from "./files.js";
import { library } from "./library.js";
import { toLibraryForm } from "./library_form.js";
import { type NamedToken, TokenizerSettings } from "./settings.js";
import type {
  BatchEncoding,
  ChatMessage,
  ChatTemplateOptions,
  DecodeOptions,
  DecodeStream,
  EncodeOptions,
  Encoding,
  Tokenizer,
  TokenizerCallOptions,
} from "./types.js";

/** A tokenizer.json of the Hugging Face Hub: encoding by @huggingface/tokenizers, decoding by our own stages. */
export class HubTokenizer extends TokenizerSettings implements Tokenizer {
  readonly vocabSize: number;
  readonly specialTokenIds: ReadonlySet<number>;
  readonly chatTemplate: string | undefined;
  readonly #core: InstanceType<typeof library.Tokenizer>;
  /** The library spells unknown characters in bytes for BPE but not for Unigram vocabularies. */
  readonly #byteFallback: boolean;
  readonly #createDecoder: DecoderFactory;
  readonly #cleansUp: boolean;
  /** (vocabSize), with holes. */
  readonly #tokens: readonly (string | undefined)[];
  readonly #templates: ReadonlyMap<string, string>;
  #addedIds: AddedIds | undefined;

  constructor(
    tokenizer: JsonObject,
    config: JsonObject,
    specialTokens: ReadonlyMap<string, NamedToken>,
    templates: ReadonlyMap<string, string>,
  ) {
    super(config, specialTokens);
    const model = tokenizer.model as JsonObject;
    this.#core = new library.Tokenizer(toLibraryForm(tokenizer), coreConfig(config, model));
    this.#byteFallback = model.byte_fallback === true && Array.isArray(model.vocab);
    // Fused, they could not be told apart again to be spelled in bytes.
    if (this.#byteFallback) this.#core.model.fuse_unk = false;
    this.#createDecoder = createDecoder(tokenizer.decoder);
    const added = tokenizer.added_tokens as { id: number; content: string; special?: boolean }[];
    this.#tokens = listTokens(model.vocab as JsonObject | [string, number][], added);
    this.vocabSize = this.#tokens.length;
    this.#cleansUp = config.clean_up_tokenization_spaces === true && !Array.isArray(model.merges);
    this.specialTokenIds = new Set(added.filter(({ special }) => special === true).map(({ id }) => id));
    this.#templates = templates;
    this.chatTemplate = templates.get("default");
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    if (typeof text !== "string") throw invalidArgument("text", "a string", text);
    const { ids, tokens } = this.#core.encode(text, { add_special_tokens: addSpecialTokens });
    if (this.#byteFallback) return tokens.flatMap((token, i) => this.#spellInBytes(token) ?? ids[i] ?? []);
    // Without an unknown token the library has no id for what the vocabulary cannot spell; the reference drops it.
    return ids.filter((id) => id !== undefined);
  }

  protected encodeTexts(texts: string | readonly string[], options?: TokenizerCallOptions): Encoding | BatchEncoding {
    return encodeTexts(this, texts, options);
  }

  /** What encode() adds to every text. */
  addedIds(): AddedIds {
    this.#addedIds ??= this.#findAddedIds();
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
    return this.#core.token_to_id(token);
  }

  idToToken(id: number): string | undefined {
    return this.#tokens[id];
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

  /** The ids of an unknown token's bytes; undefined for known tokens, and where a byte is missing too. */
  #spellInBytes(token: string): number[] | undefined {
    if (this.#core.token_to_id(token) !== undefined) return undefined;
    const ids = Array.from(new TextEncoder().encode(token), (byte) =>
      this.#core.token_to_id(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
    );
    return ids.every((id) => id !== undefined) ? ids : undefined;
  }

  #findAddedIds(): AddedIds {
    const text = "a text";
    const tokens = this.#core.post_processor?.([text], null, true).tokens ?? [text];
    const place = tokens.indexOf(text);
    const toIds = (names: string[]) =>
      names.map((token) => this.#core.token_to_id(token)).filter((id) => id !== undefined);
    return { before: toIds(tokens.slice(0, place)), behind: toIds(tokens.slice(place + 1)) };
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

/** The part of tokenizer_config.json that changes how the library encodes; the rest would only be decoding. */
function coreConfig(
  { remove_space, do_lowercase_and_remove_accent }: JsonObject,
  { unk_token }: JsonObject,
): JsonObject {
  // WordLevel models find their unknown token here.
  return { remove_space, do_lowercase_and_remove_accent, unk_token };
}

function listTokens(
  vocab: JsonObject | [string, number][],
  added: readonly { id: number; content: string }[],
): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  if (Array.isArray(vocab)) {
    for (const [token] of vocab) tokens.push(token);
  } else {
    for (const [token, id] of Object.entries(vocab)) {
      if (!Number.isSafeInteger(id) || (id as number) < 0)
        throw new Error(`the id of ${JSON.stringify(token)} is no integer`);
      tokens[id as number] = token;
    }
  }
  for (const { id, content } of added) tokens[id] = content;
  return tokens;
}
