import { OptionReader } from "../base/option_reader.js";
import { rule } from "../base/rules.js";

/**
 * Tokens are drafted, and several are verified in one step. Text and log-probabilities are those of a run without; only the time differs.
 */
export interface SpeculationOptions {
  /** "ngram": where the end of a text has occurred in it before, what followed there is the draft (prompt lookup). */
  method: "ngram";
  /** Most tokens of a draft: 1 to 64. Default 24. Drafts begin shorter, and grow while they are accepted. */
  draftTokens?: number;
  /** Tokens at the end that must have occurred before: 1 to 64. Default 3. */
  minMatch?: number;
  /** A longer occurrence counts no more than one of so many tokens: minMatch to 64. Default 8, or minMatch if that is more. */
  maxMatch?: number;
}

/** Checked, with all defaults. */
export type ResolvedSpeculation = Required<SpeculationOptions>;

const mostTokens = 64;

/** @throws ShardspeedError ERR_INVALID_ARGUMENT. */
export function readSpeculation(value: unknown): ResolvedSpeculation | undefined {
  if (value === undefined || value === false) return undefined;
  const reader = new OptionReader("speculation option", value, ["method", "draftTokens", "minMatch", "maxMatch"]);
  const method = reader.read("method", ngram, undefined) ?? "ngram";
  const minMatch = reader.integer("minMatch", 1, mostTokens, 3);
  return {
    method,
    draftTokens: reader.integer("draftTokens", 1, mostTokens, 24),
    minMatch,
    maxMatch: reader.integer("maxMatch", minMatch, mostTokens, Math.max(8, minMatch)),
  };
}

const ngram = rule<"ngram">('"ngram"', (value) => value === "ngram");
