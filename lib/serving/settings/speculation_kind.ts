import { ShardspeedError } from "../../base/errors.js";
import { isObject } from "../../base/objects.js";
import { type ResolvedSpeculation, readSpeculation } from "../../loading/speculation.js";
import type { SettingKind } from "./kinds.js";

/** vLLM's names of the options. */
const names: Readonly<Record<string, string>> = {
  num_speculative_tokens: "draftTokens",
  prompt_lookup_min: "minMatch",
  prompt_lookup_max: "maxMatch",
};

/** A JSON object as vLLM's flag of this name takes it, or with the names of initInference's option. */
export const speculation: SettingKind<ResolvedSpeculation> = {
  placeholder: " <json>",
  words: 'a JSON object such as `{"method": "ngram", "num_speculative_tokens": 8}`',
  read(text) {
    try {
      const given: unknown = JSON.parse(text);
      if (!isObject(given)) return { expected: this.words };
      const options = Object.entries(given).map(([name, value]) => [
        names[name] ?? name,
        name === "method" && value === "draft_model" ? "draft" : value,
      ]);
      const value = readSpeculation(Object.fromEntries(options));
      return value === undefined ? { expected: this.words } : { value };
    } catch (error) {
      return { expected: ShardspeedError.isInstance(error) ? `${this.words}: ${error.message}` : this.words };
    }
  },
  show: (value) => JSON.stringify(value),
};
