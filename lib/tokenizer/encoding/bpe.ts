import { arrayOf, type JsonObject } from "./json.js";

/** Pairs of ids as one number: ids are below 2 ** 26. */
const pairBase = 2 ** 26;
/** Words that are kept with their ids, and how long they may be. */
const mostKept = 20_000;
const longestKept = 64;

/** Byte pair encoding as in the Rust tokenizers package. */
export class Bpe {
  readonly #vocab: ReadonlyMap<string, number>;
  /** By pair: rank and the id of what it becomes. */
  readonly #merges = new Map<number, { rank: number; id: number }>();
  readonly #unknown: number | undefined;
  readonly #fuseUnknown: boolean;
  readonly #byteIds: readonly number[] | undefined;
  readonly #ignoreMerges: boolean;
  /** Tokens that merges make on their way and that are none of the vocabulary, by ids behind its own; undefined: there must be none. */
  readonly #others: Map<string, number> | undefined;
  readonly #idLimit: number;
  readonly #prefix: string;
  readonly #suffix: string;
  readonly #kept = new Map<string, number[]>();

  constructor(config: JsonObject, vocab: ReadonlyMap<string, number>, idLimit: number) {
    if (idLimit >= pairBase) throw new Error("an id of the vocabulary is too large");
    this.#vocab = vocab;
    this.#idLimit = idLimit;
    this.#others = config.merges_beyond_vocab === true ? new Map() : undefined;
    const text = (value: unknown) => (typeof value === "string" ? value : "");
    this.#prefix = text(config.continuing_subword_prefix);
    this.#suffix = text(config.end_of_word_suffix);
    this.#unknown = vocab.get(text(config.unk_token));
    this.#fuseUnknown = config.fuse_unk === true;
    this.#ignoreMerges = config.ignore_merges === true;
    this.#byteIds = config.byte_fallback === true ? byteTokens(vocab) : undefined;
    for (const [rank, merge] of arrayOf(config.merges, "model.merges").entries()) this.#addMerge(merge, rank);
  }

  #addMerge(merge: unknown, rank: number): void {
    const [left, right, ...rest] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    if (typeof left !== "string" || typeof right !== "string" || rest.length > 0) {
      throw new Error(`model.merges[${rank}] is no pair`);
    }
    const a = this.#idOfPart(left);
    const b = this.#idOfPart(right);
    const joined = left + (right.startsWith(this.#prefix) ? right.slice(this.#prefix.length) : right);
    const id = this.#idOfPart(joined);
    if (a === undefined || b === undefined || id === undefined) {
      const missing = a === undefined ? left : b === undefined ? right : joined;
      throw new Error(`model.merges[${rank}] needs the token ${JSON.stringify(missing)}, which model.vocab lacks`);
    }
    // A pair that comes twice has the later rank, as in a Rust map.
    this.#merges.set(a * pairBase + b, { rank, id });
  }

  #idOfPart(token: string): number | undefined {
    const id = this.#vocab.get(token) ?? this.#others?.get(token);
    if (id !== undefined || this.#others === undefined) return id;
    const added = this.#idLimit + this.#others.size;
    this.#others.set(token, added);
    return added;
  }

  *tokenize(word: string, ids: number[]): Generator<void> {
    const kept = this.#kept.get(word);
    if (kept !== undefined) {
      for (const id of kept) ids.push(id);
      return;
    }
    const whole = this.#ignoreMerges ? this.#vocab.get(word) : undefined;
    if (whole !== undefined) {
      ids.push(whole);
      return;
    }
    const found = this.#inVocabulary(yield* this.#mergeAll(yield* this.#spell(word)));
    for (let i = 0; i < found.length; i++) {
      ids.push(found[i] as number);
      if ((i & 16383) === 16383) yield;
    }
    if (word.length <= longestKept) {
      if (this.#kept.size >= mostKept) this.#kept.clear();
      this.#kept.set(word, found);
    }
  }

  /** Tokens of merges alone are unknown ones. */
  #inVocabulary(ids: number[]): number[] {
    if (this.#others === undefined) return ids;
    return ids.map((id) => (id < this.#idLimit ? id : this.#unknown)).filter((id) => id !== undefined);
  }

  /** The ids of a word's characters. */
  *#spell(word: string): Generator<void, number[]> {
    const ids: number[] = [];
    let lastUnknown = false;
    let place = 0;
    let spelled = 0;
    for (const character of word) {
      const end = place + character.length;
      const token = (place > 0 ? this.#prefix : "") + character + (end === word.length ? this.#suffix : "");
      place = end;
      if ((++spelled & 1023) === 0) yield;
      const id = this.#vocab.get(token) ?? this.#others?.get(token);
      if (id !== undefined) {
        ids.push(id);
        lastUnknown = false;
        continue;
      }
      const bytes = this.#byteIds === undefined ? undefined : spellInBytes(token, this.#byteIds);
      if (bytes !== undefined) {
        ids.push(...bytes);
        lastUnknown = false;
      } else if (this.#unknown !== undefined) {
        if (!lastUnknown || !this.#fuseUnknown) ids.push(this.#unknown);
        lastUnknown = true;
      }
    }
    return ids;
  }

  *#mergeAll(ids: number[]): Generator<void, number[]> {
    if (ids.length < 2) return ids;
    if (ids.length <= 24) return this.#mergeFew(ids);
    // A chain of the ids that are left: -1 ends it, and is the id of what has been merged into its neighbour.
    const chain = new Int32Array(ids);
    const previous = new Int32Array(ids.length);
    const next = new Int32Array(ids.length);
    for (let i = 0; i < ids.length; i++) {
      previous[i] = i - 1;
      next[i] = i + 1 < ids.length ? i + 1 : -1;
    }
    const queue = new MergeQueue();
    const offer = (place: number): void => {
      const after = place < 0 ? -1 : (next[place] as number);
      if (after < 0) return;
      const merge = this.#merges.get((chain[place] as number) * pairBase + (chain[after] as number));
      if (merge !== undefined) queue.push(merge.rank, place, merge.id);
    };
    for (let i = 0; i < ids.length; i++) {
      offer(i);
      if ((i & 1023) === 1023) yield;
    }
    for (let taken = 0; queue.pop(); taken++) {
      if ((taken & 511) === 511) yield;
      const { place, id } = queue;
      const left = chain[place] as number;
      const after = left < 0 ? -1 : (next[place] as number);
      // The pair may have changed since it was queued.
      if (after < 0 || this.#merges.get(left * pairBase + (chain[after] as number))?.id !== id) continue;
      chain[place] = id;
      chain[after] = -1;
      next[place] = next[after] as number;
      if ((next[place] as number) >= 0) previous[next[place] as number] = place;
      offer(previous[place] as number);
      offer(place);
    }
    const left: number[] = [];
    for (let i = 0; i < chain.length; i++) {
      if ((chain[i] as number) >= 0) left.push(chain[i] as number);
      if ((i & 16383) === 16383) yield;
    }
    return left;
  }

  /** For words of usual length looking through all pairs is quicker than a queue. */
  #mergeFew(ids: number[]): number[] {
    const parts = ids;
    for (;;) {
      let best = Number.POSITIVE_INFINITY;
      let place = -1;
      let id = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const merge = this.#merges.get((parts[i] as number) * pairBase + (parts[i + 1] as number));
        if (merge === undefined || merge.rank >= best) continue;
        best = merge.rank;
        place = i;
        id = merge.id;
      }
      if (place < 0) return parts;
      parts.splice(place, 2, id);
    }
  }
}

/** The ids of <0x00> to <0xFF>, -1 for one that is missing. */
export function byteTokens(vocab: ReadonlyMap<string, number>): number[] {
  return Array.from(
    { length: 256 },
    (_, byte) => vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`) ?? -1,
  );
}

/** undefined where a byte is missing. */
export function spellInBytes(text: string, byteIds: readonly number[]): number[] | undefined {
  const ids = Array.from(new TextEncoder().encode(text), (byte) => byteIds[byte] as number);
  return ids.every((id) => id >= 0) ? ids : undefined;
}

/** Merges by rank, then by place: a binary heap of three numbers each. */
class MergeQueue {
  readonly #entries: number[] = [];
  place = 0;
  id = 0;

  push(rank: number, place: number, id: number): void {
    const entries = this.#entries;
    let at = entries.length / 3;
    entries.push(rank, place, id);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** Takes the first: `place` and `id` are its. False where there is none. */
  pop(): boolean {
    const entries = this.#entries;
    if (entries.length === 0) return false;
    this.place = entries[1] as number;
    this.id = entries[2] as number;
    const last = entries.length / 3 - 1;
    this.#swap(0, last);
    entries.length -= 3;
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < last && this.#before(child, least)) least = child;
      if (least === at) return true;
      this.#swap(at, least);
      at = least;
    }
  }

  #before(a: number, b: number): boolean {
    const entries = this.#entries;
    const difference = (entries[a * 3] as number) - (entries[b * 3] as number);
    return difference < 0 || (difference === 0 && (entries[a * 3 + 1] as number) < (entries[b * 3 + 1] as number));
  }

  #swap(a: number, b: number): void {
    const entries = this.#entries;
    for (let i = 0; i < 3; i++) {
      const kept = entries[a * 3 + i] as number;
      entries[a * 3 + i] = entries[b * 3 + i] as number;
      entries[b * 3 + i] = kept;
    }
  }
}
