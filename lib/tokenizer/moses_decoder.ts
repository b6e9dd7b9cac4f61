import type { DecoderStage } from "./decoder_stage.js";
import { currency, plainLetter, space } from "./encoding/moses_characters.js";

/** Scripts without spaces between words. */
const cjk =
  /[\u1100-\u11ff\u2e80-\ua4cf\ua840-\ua87f\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff65-\uffdc\u{17000}-\u{18aff}\u{1b000}-\u{1b12f}\u{1b170}-\u{1b2ff}\u{20000}-\u{2ffff}]/u;
const cjkStart = new RegExp(`^${cjk.source}`, "u");
const cjkEnd = new RegExp(`${cjk.source}$`, "u");
const opening = new RegExp(`^[${currency}\\(\\[\\{¿¡]+$`, "v");
const closing = /^[,.?!:;\\%}\])]+$/;
const contraction = new RegExp(`^'[${plainLetter}]`, "v");
const quotes = /^['"„“`]+$/;
const spaces = new RegExp(`[${space}]+`, "v");

const entities: Readonly<Record<string, string>> = {
  ...{
    "&bar;": "|",
    "&#124;": "|",
    "&lt;": "<",
    "&gt;": ">",
    "&bra;": "[",
    "&ket;": "]",
    "&quot;": '"',
    "&apos;": "'",
  },
  ...{ "&#91;": "[", "&#93;": "]", "&amp;": "&" },
};

/** Puts words together, one after another, as sacremoses' MosesDetokenizer does for English. */
class WordJoiner {
  #space = "";
  #before: string | undefined;
  readonly #quotes = new Map<string, number>();

  /** The text that a word adds. */
  add(word: string): string {
    const before = this.#before;
    this.#before = word;
    const [attaches, spaceBehind] = this.#place(word, before);
    const text = attaches ? word : this.#space + word;
    this.#space = spaceBehind ? " " : "";
    return text;
  }

  /** Whether a word stands right behind the one before it, and whether there is a space behind it. */
  #place(word: string, before: string | undefined): [attaches: boolean, spaceBehind: boolean] {
    if (cjkStart.test(word)) return [before !== undefined && cjkEnd.test(before), true];
    if (opening.test(word)) return [false, false];
    if (closing.test(word)) return [true, true];
    if (before !== undefined && contraction.test(word)) return [true, true];
    if (!quotes.test(word)) return [false, true];
    const kind = /^[„“]+$/.test(word) ? '"' : word;
    const count = this.#quotes.get(kind) ?? 0;
    const isPossessive = word === "'" && before?.endsWith("s") === true;
    if (count % 2 === 0 && isPossessive) return [true, true];
    this.#quotes.set(kind, count + 1);
    return count % 2 === 0 ? [false, false] : [true, true];
  }
}

/** Tokens whose "</w>" ends words, as Moses' tokenizer makes them. A word is written when the next one has begun: a dash may join them. */
export function mosesWords(): DecoderStage {
  const joiner = new WordJoiner();
  let part = "";
  let held: string | undefined;
  let isDashed = false;
  const release = (): string[] => {
    const text = (held ?? "").replace(/&[#a-z0-9]+;/g, (entity) =>
      Object.hasOwn(entities, entity) ? (entities[entity] as string) : entity,
    );
    held = undefined;
    return text === "" ? [] : [joiner.add(text)];
  };
  const addWord = (word: string): string[] => {
    if (word === "") return [];
    if (!isDashed && word !== "@-@") {
      const released = release();
      held = word;
      return released;
    }
    held = (held ?? "") + (isDashed ? word : "-");
    isDashed = !isDashed;
    return [];
  };
  return {
    push(token) {
      const [first = "", ...others] = token.replaceAll(" ", "").replaceAll("</w>", " ").split(spaces);
      const words = [part + first, ...others];
      part = words.pop() as string;
      return words.flatMap(addWord);
    },
    flush() {
      const released = addWord(part);
      part = "";
      return [...released, ...release()];
    },
  };
}
