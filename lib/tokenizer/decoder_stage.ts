/**
 * A stage of a tokenizer's decoder as a stream: tokens go in one by one, pieces come out as soon as later tokens cannot
 * change them. Results follow the Rust `tokenizers` package, which is what models are evaluated with.
 */
export interface DecoderStage {
  push(token: string): string[];
  flush(): string[];
}

/** A stage that treats each token by itself. */
export function eachToken(change: (token: string, first: boolean) => string): DecoderStage {
  let first = true;
  return {
    push(token) {
      const changed = change(token, first);
      first = false;
      return [changed];
    },
    flush: () => [],
  };
}

/** A stage that needs all tokens at once: nothing comes out before the end. */
export function allAtOnce(change: (tokens: string[]) => string[]): DecoderStage {
  const tokens: string[] = [];
  return {
    push(token) {
      tokens.push(token);
      return [];
    },
    flush: () => change(tokens.splice(0)),
  };
}
