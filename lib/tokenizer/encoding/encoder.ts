import { type AddedToken, AddedTokens } from "./added_tokens.js";
import type { JsonObject } from "./json.js";
import { createModel, type Model, modelOf, readVocabulary, type Vocabulary } from "./models.js";
import { createNormalizer } from "./normalizers.js";
import { type AddedIds, createAddedIds, createPairPieces, type PairPiece } from "./post_processor.js";
import { createPreTokenizer, type PreTokenizer } from "./pre_tokenizers.js";
import { nextTurn } from "./turns.js";

/** Text to ids by a tokenizer.json, as the Rust tokenizers package does it. */
export class Encoder {
  readonly addedIds: AddedIds;
  readonly pairPieces: readonly PairPiece[];
  readonly #added: AddedTokens;
  readonly #preTokenizer: PreTokenizer;
  readonly #model: Model;

  /** @throws Error for what is not known or damaged. */
  constructor(tokenizer: JsonObject, added: Iterable<AddedToken>, vocabulary?: Vocabulary) {
    const model = modelOf(tokenizer);
    this.#added = new AddedTokens(added, createNormalizer(tokenizer.normalizer));
    this.#preTokenizer = createPreTokenizer(tokenizer.pre_tokenizer);
    this.#model = createModel(model, vocabulary ?? readVocabulary(model));
    this.addedIds = createAddedIds(tokenizer.post_processor);
    this.pairPieces = createPairPieces(tokenizer.post_processor);
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    const steps = this.#run(text, ids);
    while (steps.next().done !== true);
    return ids;
  }

  /** As encode(), giving way to other work every few milliseconds. */
  async encodeInSlices(text: string, slice: number): Promise<number[]> {
    const ids: number[] = [];
    const steps = this.#run(text, ids);
    await nextTurn(); // several texts that come at once begin one after another
    for (let end = performance.now() + slice; steps.next().done !== true; ) {
      if (performance.now() < end) continue;
      await nextTurn();
      end = performance.now() + slice;
    }
    return ids;
  }

  *#run(text: string, ids: number[]): Generator<void> {
    let words = 0;
    for (const part of this.#added.split(text)) {
      if ("token" in part) {
        ids.push(part.token.id);
        if ((++words & 255) === 0) yield;
        continue;
      }
      for (const word of this.#preTokenizer(part.text, part.first)) {
        yield* this.#model.tokenize(word, ids);
        if ((++words & 15) === 0) yield;
      }
    }
  }
}
