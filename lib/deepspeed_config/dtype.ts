import type { ConfigDtype } from "./types.js";

/** All spellings of DeepSpeed (DtypeEnum), in small letters, without the "torch." that each may begin with. */
const dtypes: ReadonlyMap<string, ConfigDtype> = new Map([
  ...["float16", "fp16", "half"].map((name) => [name, "torch.float16"] as const),
  ...["float32", "fp32", "float"].map((name) => [name, "torch.float32"] as const),
  ...["bfloat16", "bf16", "bfloat"].map((name) => [name, "torch.bfloat16"] as const),
  ["int8", "torch.int8"],
]);

/** What a spelling of a dtype means; undefined for what is none. */
export function canonicalDtype(found: unknown): ConfigDtype | undefined {
  return typeof found === "string" ? dtypes.get(found.toLowerCase().replace(/^torch\./, "")) : undefined;
}

/** The same without "torch.", as weights and the native addon name it. */
export function elementTypeOf(found: unknown): string | undefined {
  return canonicalDtype(found)?.replace("torch.", "");
}
