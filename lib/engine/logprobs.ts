import type { PromptScores, TokenLogprob } from "../native/binding.js";
import type { Tokenizer } from "../tokenizer/index.js";

/** A token that could have come, with its natural-log probability under the model's distribution, before penalties and temperature. */
export interface LikelyToken {
  /** A token. */
  id: number;
  /** Natural logarithm of its probability. */
  logprob: number;
  /** The token's text, special tokens too; U+FFFD for part of a character. Absent for a model without a tokenizer. */
  token?: string;
  /** Its UTF-8 bytes: those of several tokens joined may be one character. */
  bytes?: number[];
}

/** A new token with its log-probability. */
export interface GeneratedLogprob extends LikelyToken {
  /** The requested number of the most likely tokens, in descending order. */
  top: LikelyToken[];
}

/** A token of a prompt with its log-probability behind the tokens ahead of it. */
export interface PromptLogprob extends GeneratedLogprob {
  /** Its place among all tokens, the likeliest first: 1 for that one. Of equally likely ones the smaller id is first. */
  rank: number;
}

/** Adds texts to tokens. Remembers them: a prompt and its alternatives have few different ones. */
export function describeTokens(tokenizer: Tokenizer | undefined): (token: TokenLogprob) => LikelyToken {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const texts = new Map<number, Pick<LikelyToken, "token" | "bytes">>();
  return ({ id, logprob }) => {
    let text = texts.get(id);
    if (text === undefined) {
      const bytes = tokenizer?.tokenBytes(id);
      text = bytes === undefined ? {} : { token: decoder.decode(bytes), bytes: [...bytes] };
      texts.set(id, text);
    }
    return { id, logprob, ...text };
  };
}

/**
 * Makes one entry for each token of a prompt: null for the first one, ahead of which there is nothing.
 *
 * @param describe Adds texts.
 */
export function toPromptLogprobs(
  tokens: Int32Array,
  { logprobs, ranks, topTokens, topLogprobs }: PromptScores,
  describe: (token: TokenLogprob) => LikelyToken,
): (PromptLogprob | null)[] {
  const most = logprobs.length === 0 ? 0 : topTokens.length / logprobs.length;
  const entries: (PromptLogprob | null)[] = [null];
  for (let i = 0; i < logprobs.length; i++) {
    const top: LikelyToken[] = [];
    for (let at = i * most; at < (i + 1) * most; at++)
      top.push(describe({ id: topTokens[at] as number, logprob: topLogprobs[at] as number }));
    const own = describe({ id: tokens[i + 1] as number, logprob: logprobs[i] as number });
    entries.push({ ...own, top, rank: ranks[i] as number });
  }
  return entries;
}
