import type { PairPiece } from "./encoding/post_processor.js";
import type { PairEncoding } from "./types.js";

/** Two encoded texts with what stands around them; of a row that would be too long, tokens are left out at the end of the longer text. */
export function joinPair(
  pieces: readonly PairPiece[],
  first: readonly number[],
  second: readonly number[],
  maxLength = Number.POSITIVE_INFINITY,
): PairEncoding {
  const added = pieces.reduce((sum, piece) => sum + ("ids" in piece ? piece.ids.length : 0), 0);
  const texts = shorten(first, second, Math.max(0, maxLength - added));
  const inputIds: number[] = [];
  const tokenTypeIds: number[] = [];
  for (const piece of pieces) {
    const ids = "ids" in piece ? piece.ids : texts[piece.text];
    for (const id of ids) {
      inputIds.push(id);
      tokenTypeIds.push(piece.type);
    }
  }
  return { inputIds, tokenTypeIds };
}

/** The longer text loses what there is no room for; where both are longer than half of it, each gets a half. As the Rust tokenizers package. */
function shorten(first: readonly number[], second: readonly number[], room: number) {
  if (first.length + second.length <= room) return { first, second };
  const [shorter, longer] = [Math.min(first.length, second.length), Math.max(first.length, second.length)];
  let [few, many] = [shorter, Math.max(shorter, room - shorter)];
  if (few + Math.min(many, longer) > room) [few, many] = [Math.floor(room / 2), Math.ceil(room / 2)];
  const [one, other] = first.length > second.length ? [many, few] : [few, many];
  return { first: first.slice(0, one), second: second.slice(0, other) };
}
