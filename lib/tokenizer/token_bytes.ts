import { byteOfCharacter } from "./byte_level.js";
import { createDecoder, type DecoderFactory } from "./decoder.js";
import { flattenSequence } from "./encoding/json.js";

/** The bytes of a token's text where other text stands before it. */
export type TokenBytes = (token: string) => Uint8Array;

/**
 * Of the tokens of a vocabulary, by the decoder that joins them. Tokens that are parts of a character have its bytes, which a decoder shows with
 * the last of them only.
 *
 * @param ordinary A token of some text, which the decoder is shown before: the first one may lose a space.
 */
export function createTokenBytes(decoder: unknown, ordinary: string | undefined): TokenBytes {
  const types = flattenSequence(decoder, "decoders", "decoder").map(({ type }) => type);
  const create = createDecoder(decoder);
  const encoder = new TextEncoder();
  const before = ordinary === undefined ? [] : [ordinary];
  const shown = decodeAll(create, before);
  return (token) => {
    if (types.includes("ByteLevel")) {
      const bytes = Array.from(token, (character) => byteOfCharacter.get(character));
      return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : encoder.encode(token);
    }
    const byte = types.includes("ByteFallback") ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    const text = decodeAll(create, [...before, token]);
    return encoder.encode(text.startsWith(shown) ? text.slice(shown.length) : token);
  };
}

function decodeAll(create: DecoderFactory, tokens: readonly string[]): string {
  const stage = create(true);
  const pieces = tokens.flatMap((token) => stage.push(token));
  return [...pieces, ...stage.flush()].join("");
}
