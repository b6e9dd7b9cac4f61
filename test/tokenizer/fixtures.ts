import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const tokenizersFolder = fileURLToPath(new URL("../../test/fixtures/tokenizers/", import.meta.url));
export const demoFolder = fileURLToPath(new URL("../../models/demo/", import.meta.url));

/** Made by test/fixtures/tokenizers/make.py with the Rust tokenizers package. */
export const kinds = [
  "byte_level",
  "byte_fallback",
  "metaspace",
  "metaspace_never",
  "word_piece",
  "word_suffix",
  "split_regex",
  "unigram_bytes",
  "word_level",
  "no_decoder",
] as const;

export interface Cases {
  size: number;
  special: number[];
  encode: { text: string; ids: number[]; plain: number[] }[];
  decode: { ids: number[]; text: string; skipped: string }[];
}

export function readCases(kind: string): Cases {
  return JSON.parse(readFileSync(`${tokenizersFolder}${kind}/cases.json`, "utf8"));
}
