/** In this order; each takes away spaces that word-level tokenizers put before punctuation and contractions. */
const replacements: readonly [string, string][] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

/** What transformers calls clean_up_tokenization. */
export function cleanUpSpaces(text: string): string {
  let clean = text;
  for (const [from, to] of replacements) clean = clean.replaceAll(from, to);
  return clean;
}

/** What the WordPiece and CTC decoders do with each token. */
export function cleanUpWordPieces(token: string): string {
  return cleanUpSpaces(token.replaceAll(" do not", " don't"));
}

/** Cleans text that comes in pieces; joined, the results are `cleanUpSpaces` of the whole. */
export class SpaceCleaner {
  #tail = "";

  push(text: string): string {
    this.#tail += text;
    const cut = lastIndependentCut(this.#tail);
    const ready = this.#tail.slice(0, cut);
    this.#tail = this.#tail.slice(cut);
    return cleanUpSpaces(ready);
  }

  flush(): string {
    const ready = this.#tail;
    this.#tail = "";
    return cleanUpSpaces(ready);
  }
}

/**
 * The last place where nothing on its left side can become part of a pattern with what is on its right. Every pattern
 * begins with a space and has at most three characters more, and the only one with a second space has an apostrophe
 * before it.
 */
function lastIndependentCut(text: string): number {
  for (let cut = text.length; cut > 0; cut--) {
    if (cut >= 3 && !text.slice(cut - 3, cut).includes(" ")) return cut;
    const before = text[cut - 1];
    if (text[cut] === " " && before !== " " && before !== "'") return cut;
  }
  return 0;
}
