import type { PairPiece } from "./encoding/post_processor.js";
import type { PairEncoding, Side } from "./types.js";

/** The ids of two texts. */
interface Pair {
  first: readonly number[];
  second: readonly number[];
}

/** How many ids stand around two texts. */
export function countAdded(pieces: readonly PairPiece[]): number {
  return pieces.reduce((sum, piece) => sum + ("ids" in piece ? piece.ids.length : 0), 0);
}

/** Two encoded texts with what stands around them; of a row that would be too long, the longer text is cut at this side. */
export function joinPair(
  pieces: readonly PairPiece[],
  pair: Pair,
  { maxLength = Number.POSITIVE_INFINITY, side }: { maxLength?: number | undefined; side: Side },
): PairEncoding {
  const texts = shorten(pair, Math.max(0, maxLength - countAdded(pieces)), side);
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
function shorten({ first, second }: Pair, room: number, side: Side): Pair {
  if (first.length + second.length <= room) return { first, second };
  const [shorter, longer] = [Math.min(first.length, second.length), Math.max(first.length, second.length)];
  let [few, many] = [shorter, Math.max(shorter, room - shorter)];
  if (few + Math.min(many, longer) > room) [few, many] = [Math.floor(room / 2), Math.ceil(room / 2)];
  const [one, other] = first.length > second.length ? [many, few] : [few, many];
  const cut = (ids: readonly number[], length: number) =>
    side === "left" ? ids.slice(Math.max(0, ids.length - length)) : ids.slice(0, length);
  return { first: cut(first, one), second: cut(second, other) };
}
