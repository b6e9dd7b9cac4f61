/** Options of encode(). */
export interface EncodeOptions {
  /** Add the special tokens of the tokenizer's post-processor (a BOS token, say). Default true. */
  addSpecialTokens?: boolean;
  /** Cut to so many ids at the tokenizer's truncationSide; special tokens that are added stay, and count. Default: not cut. */
  maxLength?: number;
}

/** Options of encodePair(). */
export interface EncodePairOptions {
  /**
   * Cut to so many ids at the tokenizer's truncationSide, of the longer text first, as with transformers' "longest_first"; special tokens stay,
   * and count. Default: not cut.
   */
  maxLength?: number;
}

/** Where padding is put, or text is cut off. */
export type Side = "left" | "right";

/** Options of calling a tokenizer, by the names and with the rules of transformers. */
export interface TokenizerCallOptions {
  /**
   * Ids that truncation leaves, and that "max_length" pads to, special tokens included: an integer of at least 1. Given without padding and
   * truncation it truncates. Default: the tokenizer's modelMaxLength, and where that is Infinity nothing is cut or padded for it.
   */
  maxLength?: number;
  /** true or "longest": to the longest row; "max_length" ("maxLength" too): to maxLength; false, the default, or "do_not_pad". */
  padding?: boolean | "longest" | "max_length" | "maxLength" | "do_not_pad";
  /**
   * Cut rows to maxLength at the tokenizer's truncationSide; the special tokens that the tokenizer adds stay. "longest_first" and "only_first"
   * are true, "do_not_truncate" is false: a row is one text.
   */
  truncation?: boolean | "longest_first" | "only_first" | "do_not_truncate";
  /** Add the special tokens of the tokenizer's post-processor (a BOS token, say). Default true. */
  addSpecialTokens?: boolean;
  /** Default: the tokenizer's. */
  paddingSide?: Side;
}

/** One text as the model takes it. */
export interface Encoding {
  /** (sequence) */
  inputIds: number[];
  /** (sequence): 1 for tokens, 0 for padding. */
  attentionMask: number[];
}

/** Texts as the model takes them: what `engine.module.generate` and, where rows are of equal length, `engine.forward` accept. */
export interface BatchEncoding {
  /** (batch, sequence); rows are of unequal length where texts are and nothing was padded. */
  inputIds: number[][];
  /** (batch, sequence): 1 for tokens, 0 for padding. */
  attentionMask: number[][];
}

/** Two texts as a model takes them together: a question and where its answer is, say. */
export interface PairEncoding {
  /** The row. */
  inputIds: number[];
  /** Which of the two each token is of, as the tokenizer tells them apart; all 0 for models that do not. */
  tokenTypeIds: number[];
}

/** Options of decode(). */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean;
  /**
   * Remove the spaces before punctuation and English contractions. Default: what tokenizer_config.json says, else false;
   * never for BPE vocabularies but BioGPT's unless asked for here, since it would eat spaces that the text has.
   */
  cleanUpTokenizationSpaces?: boolean;
}

/** One message of a conversation. Templates may read other fields too (`tool_calls`, `name`, `reasoning_content`). */
export interface ChatMessage {
  /** "user", "assistant", "system" or what else the template knows. */
  role: string;
  /** A text, or parts as in OpenAI's API, whose texts are joined. */
  content?: unknown;
  [field: string]: unknown;
}

/** Options of applyChatTemplate(). */
export interface ChatTemplateOptions {
  /** End with the opening of the assistant's turn, so that the model answers. Default false, as in transformers. */
  addGenerationPrompt?: boolean;
  /** End inside the last message instead, so that the model continues it. Excludes addGenerationPrompt. Default false. */
  continueFinalMessage?: boolean;
  /** JSON schemas of the functions that the model may call. */
  tools?: readonly object[];
  /** Documents for retrieval templates. */
  documents?: readonly object[];
  /** A Jinja template instead of the tokenizer's, or the name of one of its named templates. */
  chatTemplate?: string;
  /** More variables for the template, such as `{ enable_thinking: false }`. They win over bos_token and the like. */
  templateVariables?: Record<string, unknown>;
}

/** Turns ids into text as they come. The pieces joined are what `decode` makes of all the ids. */
export interface DecodeStream {
  /** Takes the next id; returns the text that is certain by now, often "". Never half of a character. */
  push(id: number): string;
  /** The text that was held back, an unfinished character as U+FFFD. The stream is over. */
  flush(): string;
}

/**
 * Encodes texts, cuts and pads them. As in transformers without return_tensors, an array gives rows and a single text gives one row that is in
 * no array.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT; ERR_TOKENIZER for padding without a padding token.
 */
export interface TokenizerCall {
  (texts: readonly string[], options?: TokenizerCallOptions): BatchEncoding;
  (text: string, options?: TokenizerCallOptions): Encoding;
}

/** What a tokenizer may be loaded with, each as the property of a tokenizer. */
export type TokenizerOptions = Partial<
  Pick<
    Tokenizer,
    "paddingSide" | "truncationSide" | "modelMaxLength" | "bosToken" | "eosToken" | "padToken" | "unkToken"
  >
>;

/**
 * Text to token ids and back, as the model was trained with. It is called as in transformers: `tokenizer(texts, { padding: true })`.
 * Tokens can be set by text or by id, and the other follows; undefined unsets. ERR_TOKENIZER for one that the vocabulary lacks.
 */
export interface Tokenizer extends TokenizerCall {
  /** The largest known id plus one. */
  readonly vocabSize: number;
  /** Longest input that tokenizer_config.json states; Infinity where it states none, or the usual placeholder of 1e30. May be set. */
  modelMaxLength: number;
  /** Default: tokenizer_config.json's padding_side, else "right". May be set. */
  paddingSide: Side;
  /** Where truncation cuts. Default: tokenizer_config.json's truncation_side, else "right". May be set. */
  truncationSide: Side;
  /** Begins a sequence; undefined where there is none. */
  bosToken: string | undefined;
  /** Ends a sequence; undefined where there is none. */
  eosToken: string | undefined;
  /** Fills rows up to one length; undefined where there is none. */
  padToken: string | undefined;
  /** Stands for what the vocabulary lacks; undefined where there is none. */
  unkToken: string | undefined;
  /** Id of bosToken. */
  bosTokenId: number | undefined;
  /** Id of eosToken. */
  eosTokenId: number | undefined;
  /** Id of padToken. */
  padTokenId: number | undefined;
  /** Id of unkToken. */
  unkTokenId: number | undefined;
  /** What skipSpecialTokens leaves out. */
  readonly specialTokenIds: ReadonlySet<number>;
  /** The Jinja source of the default chat template. */
  readonly chatTemplate: string | undefined;

  /** Token ids of a text. */
  encode(text: string, options?: EncodeOptions): number[];
  /** As encode(), but a long text gives way to other work every few milliseconds. */
  encodeAsync(text: string, options?: EncodeOptions): Promise<number[]>;
  /** Two texts as one row, with special tokens as the tokenizer's post-processor puts them. */
  encodePair(first: string, second: string, options?: EncodePairOptions): PairEncoding;
  /** As encodePair(), but long texts give way to other work every few milliseconds. */
  encodePairAsync(first: string, second: string, options?: EncodePairOptions): Promise<PairEncoding>;
  /** Ids that the vocabulary does not have (the padding rows of an embedding) decode to nothing. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** decode() of each. */
  batchDecode(batch: readonly (readonly number[])[], options?: DecodeOptions): string[];
  /** Decodes tokens that come one after another. */
  decodeStream(options?: DecodeOptions): DecodeStream;
  /** Id of a token's text; undefined for what is none. */
  tokenToId(token: string): number | undefined;
  /** A token's text, as the vocabulary has it; undefined for an id of none. */
  idToToken(id: number): string | undefined;
  /** The bytes that a token adds to a text: UTF-8, or some of a character's where it takes several tokens. undefined for an unknown id. */
  tokenBytes(id: number): Uint8Array | undefined;
  /**
   * A conversation as the prompt that the model was trained on: its ids, or with `tokenize: false` its text. Encode that
   * text with `addSpecialTokens: false`: templates write the special tokens themselves.
   *
   * @throws ShardspeedError ERR_TOKENIZER when there is no template, or it fails or refuses the conversation.
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions & { tokenize: false }): string;
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions & { tokenize?: true }): number[];
}
