import { setImmediate } from "node:timers/promises";
import { ShardspeedError } from "../base/errors.js";
import { compileAside } from "../format/aside.js";
import type { NativeGrammar, NativeVocabulary } from "../native/binding.js";
import type { Tokenizer } from "../tokenizer/index.js";
import type { Session } from "./session.js";

/** Grammars that are kept, and the states of these together: 100 bytes or so each. */
const mostGrammars = 64;
const mostStates = 1_000_000;
/** Tokens whose bytes are found at a stretch. */
const slice = 2048;

/** The model that formats are compiled for. */
export interface FormatContext {
  session: Pick<Session, "openVocabulary">;
  tokenizer: Tokenizer | undefined;
  /** Tokens that the model has; the tokenizer may know fewer. */
  vocabSize: number;
  /** The model's end-of-sequence tokens. */
  eosTokenIds: readonly number[];
}

/** Formats of generated texts as grammars of the engine's vocabulary. The vocabulary is read once, and the grammars used last are kept. */
export class Formats {
  readonly #context: FormatContext;
  #vocabulary: Promise<NativeVocabulary> | undefined;
  /** By format, the one used last at the end. */
  readonly #grammars = new Map<string, { grammar: Promise<NativeGrammar>; states: number }>();

  constructor(context: FormatContext) {
    this.#context = context;
  }

  /**
   * @param format As readFormat() wrote it.
   * @param stopTokenIds Of the request.
   * @returns The grammar, which must be held until the request that names it has been submitted.
   * @throws ShardspeedError ERR_TOKENIZER without a tokenizer; ERR_INVALID_ARGUMENT for what of the format is not supported or too large, and
   * where no stop token can end the text.
   */
  async compile(format: string, stopTokenIds: readonly number[]): Promise<NativeGrammar> {
    const { tokenizer } = this.#context;
    if (tokenizer === undefined)
      throw new ShardspeedError("ERR_TOKENIZER", "A format needs a tokenizer, and the model has none.");
    if (!stopTokenIds.some((id) => this.#bytesOf(tokenizer, id).length === 0)) {
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        "A format needs a token that ends the text: the model's end-of-sequence token without ignoreEos, or a special token among stopTokenIds.",
      );
    }
    const known = this.#grammars.get(format);
    const entry = known ?? { grammar: this.#make(tokenizer, format), states: 0 };
    this.#grammars.delete(format);
    this.#grammars.set(format, entry);
    try {
      const grammar = await entry.grammar;
      entry.states = grammar.states;
      this.#forgetOld();
      return grammar;
    } catch (error) {
      if (this.#grammars.get(format) === entry) this.#grammars.delete(format);
      throw error;
    }
  }

  async #make(tokenizer: Tokenizer, format: string): Promise<NativeGrammar> {
    const nodes = await compileAside(format);
    this.#vocabulary ??= this.#readVocabulary(tokenizer);
    return (await this.#vocabulary).compileGrammar(nodes);
  }

  #forgetOld(): void {
    let states = 0;
    for (const entry of this.#grammars.values()) states += entry.states;
    for (const [format, entry] of this.#grammars) {
      if (this.#grammars.size <= mostGrammars && (states <= mostStates || this.#grammars.size === 1)) return;
      this.#grammars.delete(format);
      states -= entry.states;
    }
  }

  async #readVocabulary(tokenizer: Tokenizer): Promise<NativeVocabulary> {
    const { session, vocabSize, eosTokenIds } = this.#context;
    const texts: Uint8Array[] = [];
    const ends = new Int32Array(vocabSize);
    let end = 0;
    for (let id = 0; id < vocabSize; id++) {
      if (id % slice === slice - 1) await setImmediate();
      const bytes = this.#bytesOf(tokenizer, id);
      texts.push(bytes);
      end += bytes.length;
      ends[id] = end;
    }
    const known = eosTokenIds.filter((id) => id < vocabSize);
    return session.openVocabulary(Buffer.concat(texts), ends, Int32Array.from(known));
  }

  /** Of a token in a text; none for tokens that are not shown, and for those that end it. */
  #bytesOf(tokenizer: Tokenizer, id: number): Uint8Array {
    const isSilent = tokenizer.specialTokenIds.has(id) || this.#context.eosTokenIds.includes(id);
    return (isSilent ? undefined : tokenizer.tokenBytes(id)) ?? new Uint8Array(0);
  }
}
