export interface EncodeOptions {
  /** Add the special tokens of the tokenizer's post-processor (a BOS token, say). Default true. */
  addSpecialTokens?: boolean;
}

/** Side of padding or truncation. */
export type Side = "left" | "right";

/** Options of a tokenizer call, with the names and rules of transformers. */
export interface TokenizerCallOptions {
  /**
   * Maximum number of ids for truncation, and target of "max_length" padding, special tokens included: an integer of at least 1. Without padding
   * and truncation options it truncates. Default: the tokenizer's modelMaxLength; if that is Infinity, no truncation or padding to it.
   */
  maxLength?: number;
  /** true or "longest": pad to the longest row; "max_length" or "maxLength": pad to maxLength; false (default) or "do_not_pad": do not pad. */
  padding?: boolean | "longest" | "max_length" | "maxLength" | "do_not_pad";
  /**
   * Truncate rows to maxLength at the tokenizer's truncationSide; added special tokens are kept. A row is one text, so "longest_first" and
   * "only_first" mean true, "do_not_truncate" means false.
   */
  truncation?: boolean | "longest_first" | "only_first" | "do_not_truncate";
  /** Add the special tokens of the tokenizer's post-processor (a BOS token, say). Default true. */
  addSpecialTokens?: boolean;
  /** Default: the tokenizer's. */
  paddingSide?: Side;
}

/** One encoded text. */
export interface Encoding {
  /** (sequence) */
  inputIds: number[];
  /** (sequence): 1 for tokens, 0 for padding. */
  attentionMask: number[];
}

/** Encoded texts, for `engine.module.generate` and, if the rows have equal length, `engine.forward`. */
export interface BatchEncoding {
  /** (batch, sequence); without padding, rows may have unequal lengths. */
  inputIds: number[][];
  /** (batch, sequence): 1 for tokens, 0 for padding. */
  attentionMask: number[][];
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
  /**
   * Remove spaces before punctuation and English contractions. Default: from tokenizer_config.json, else false; always false
   * for BPE vocabularies, because it would remove spaces of the text.
   */
  cleanUpTokenizationSpaces?: boolean;
}

/** One message of a conversation. Templates may read other fields too (`tool_calls`, `name`, `reasoning_content`). */
export interface ChatMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

export interface ChatTemplateOptions {
  /** End with the opening of the assistant's turn, so that the model answers. Default false. */
  addGenerationPrompt?: boolean;
  /** Leave the last message open, so that the model continues it. Excludes addGenerationPrompt. Default false. */
  continueFinalMessage?: boolean;
  /** JSON schemas of the functions that the model may call. */
  tools?: readonly object[];
  /** Documents for retrieval templates. */
  documents?: readonly object[];
  /** A Jinja template to use instead of the tokenizer's, or the name of one of its named templates. */
  chatTemplate?: string;
  /** More variables for the template, such as `{ enable_thinking: false }`. They override bos_token and similar variables. */
  templateVariables?: Record<string, unknown>;
}

/** Decodes ids one by one. The joined pieces equal `decode` of all ids. */
export interface DecodeStream {
  /** Takes the next id; returns the text that is complete, often "". Never a part of a character. */
  push(id: number): string;
  /** Ends the stream; returns the remaining text, with an incomplete character as U+FFFD. */
  flush(): string;
}

/**
 * Encodes, truncates and pads texts. As in transformers without return_tensors, an array of texts gives an array of rows, and a single text gives
 * one row.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT; ERR_TOKENIZER for padding without a padding token.
 */
export interface TokenizerCall {
  (texts: readonly string[], options?: TokenizerCallOptions): BatchEncoding;
  (text: string, options?: TokenizerCallOptions): Encoding;
}

/** Options for loading a tokenizer; each sets the property of the same name. */
export type TokenizerOptions = Partial<
  Pick<
    Tokenizer,
    "paddingSide" | "truncationSide" | "modelMaxLength" | "bosToken" | "eosToken" | "padToken" | "unkToken"
  >
>;

/**
 * Converts text to token ids and back. It is callable, as in transformers: `tokenizer(texts, { padding: true })`.
 * Setting a special token by text also sets its id, and the reverse; undefined removes it. A token that is not in the vocabulary is ERR_TOKENIZER.
 */
export interface Tokenizer extends TokenizerCall {
  /** The largest known id plus one. */
  readonly vocabSize: number;
  /** Longest input according to tokenizer_config.json; Infinity if it has none, or the usual placeholder of 1e30. May be set. */
  modelMaxLength: number;
  /** Default: tokenizer_config.json's padding_side, else "right". May be set. */
  paddingSide: Side;
  /** Side of truncation. Default: tokenizer_config.json's truncation_side, else "right". May be set. */
  truncationSide: Side;
  bosToken: string | undefined;
  eosToken: string | undefined;
  padToken: string | undefined;
  unkToken: string | undefined;
  bosTokenId: number | undefined;
  eosTokenId: number | undefined;
  padTokenId: number | undefined;
  unkTokenId: number | undefined;
  /** The ids that skipSpecialTokens leaves out. */
  readonly specialTokenIds: ReadonlySet<number>;
  /** The Jinja source of the default chat template. */
  readonly chatTemplate: string | undefined;

  encode(text: string, options?: EncodeOptions): number[];
  /** Ids that are not in the vocabulary (padding rows of an embedding) decode to nothing. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  batchDecode(batch: readonly (readonly number[])[], options?: DecodeOptions): string[];
  decodeStream(options?: DecodeOptions): DecodeStream;
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  /**
   * Turns a conversation into a prompt with the chat template: its ids, or with `tokenize: false` its text. Encode that
   * text with `addSpecialTokens: false`, because templates write special tokens themselves.
   *
   * @throws ShardspeedError ERR_TOKENIZER if there is no template, or it fails or refuses the conversation.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions & { tokenize: false }): string;
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions & { tokenize?: true }): number[];
}
