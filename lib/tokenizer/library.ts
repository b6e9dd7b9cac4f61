import * as tokenizers from "@huggingface/tokenizers";

interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[]; tokens: string[] };
  token_to_id(token: string): number | undefined;
  /** Puts special tokens around those of a text. */
  readonly post_processor: ((tokens: string[], pair: null, addSpecialTokens: boolean) => { tokens: string[] }) | null;
  /** fuse_unk: neighbouring characters that the vocabulary lacks become one unknown token. */
  readonly model: { fuse_unk: boolean };
}

interface LibraryDecoder {
  decode_chain(tokens: string[]): string[];
}

type DecoderClass = new (config: object) => LibraryDecoder;

/**
 * What is used of @huggingface/tokenizers. Its own declarations import each other without file extensions, which
 * TypeScript does not follow in an ESM package.
 */
interface Library {
  Tokenizer: new (tokenizer: object, config: object) => LibraryTokenizer;
  CTCDecoder: DecoderClass;
  ReplaceDecoder: DecoderClass;
  StripDecoder: DecoderClass;
  WordPieceDecoder: DecoderClass;
}

export const library: Library = tokenizers as unknown as Library;
