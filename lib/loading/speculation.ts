import { invalidArgument } from "../base/errors.js";
import { OptionReader } from "../base/option_reader.js";
import { rule } from "../base/rules.js";

/**
 * Tokens are drafted, and several are verified in one step. Text and log-probabilities are those of a run without; only the time differs.
 */
export type SpeculationOptions = LookupSpeculationOptions | ModelSpeculationOptions;

/** Drafts from the text itself. */
export interface LookupSpeculationOptions {
  /** "ngram": where the end of a text has occurred in it before, what followed there is the draft (prompt lookup). */
  method: "ngram";
  /** Most tokens of a draft: 1 to 64. Default 24. Drafts begin shorter, and grow while they are accepted. */
  draftTokens?: number;
  /** Tokens at the end that must have occurred before: 1 to 64. Default 3. */
  minMatch?: number;
  /** A longer occurrence counts no more than one of so many tokens: minMatch to 64. Default 8, or minMatch if that is more. */
  maxMatch?: number;
  /** Whether drafts are left out while they take longer than they save, as with many sequences at once. Default true. */
  adaptive?: boolean;
}

/** Drafts by a second model. */
export interface ModelSpeculationOptions {
  /** "draft": a smaller model with the same tokenizer and vocabulary says what it would say next. */
  method: "draft";
  /** Model folder of the smaller model, or its name in the Hugging Face cache. It is computed in the CPU threads of the first rank. */
  model: string;
  /** Most tokens of a draft: 1 to 64. Default 8. Drafts begin shorter, and grow while they are accepted. */
  draftTokens?: number;
  /** Whether drafts are left out while they take longer than they save, as with many sequences at once. Default true. */
  adaptive?: boolean;
}

/** Checked, with all defaults. */
export type ResolvedSpeculation = Required<LookupSpeculationOptions> | Required<ModelSpeculationOptions>;

const mostTokens = 64;

/** @throws ShardspeedError ERR_INVALID_ARGUMENT. */
export function readSpeculation(value: unknown): ResolvedSpeculation | undefined {
  if (value === undefined || value === false) return undefined;
  const kind = "speculation option";
  const method = new OptionReader(kind, value, [...modelNames, ...lookupNames]).read("method", methodName, "ngram");
  const reader = new OptionReader(kind, value, method === "draft" ? modelNames : lookupNames);
  const adaptive = reader.boolean("adaptive", true);
  if (method === "draft") {
    const model = reader.read("model", folderName, undefined);
    if (model === undefined) throw invalidArgument("speculation.model", "the folder of a model to draft with", model);
    return { method, model, draftTokens: reader.integer("draftTokens", 1, mostTokens, 8), adaptive };
  }
  const minMatch = reader.integer("minMatch", 1, mostTokens, 3);
  return {
    method,
    draftTokens: reader.integer("draftTokens", 1, mostTokens, 24),
    minMatch,
    maxMatch: reader.integer("maxMatch", minMatch, mostTokens, Math.max(8, minMatch)),
    adaptive,
  };
}

const lookupNames = ["method", "draftTokens", "minMatch", "maxMatch", "adaptive"];
const modelNames = ["method", "model", "draftTokens", "adaptive"];

const methodName = rule<"ngram" | "draft">('"ngram" or "draft"', (value) => value === "ngram" || value === "draft");

const folderName = rule<string>(
  "the path of a model folder",
  (value) => typeof value === "string" && value !== "" && !value.includes("\0"),
);
