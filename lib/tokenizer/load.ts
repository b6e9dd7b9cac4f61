import { join } from "node:path";
import { ShardspeedError } from "../base/errors.js";
import type { Around } from "./class_builder.js";
import { type CollectedTokens, collectAddedTokens } from "./collect_added_tokens.js";
import type { JsonObject } from "./encoding/json.js";
import { modelOf, readVocabulary } from "./encoding/models.js";
import { readTokenizerFiles, type TokenizerFiles } from "./files.js";
import { HubTokenizer } from "./hub_tokenizer.js";
import { mergeSettings, type Settings } from "./merge_settings.js";
import type { NamedToken } from "./settings.js";
import { readSource, type TokenizerSource } from "./source.js";
import type { Tokenizer } from "./types.js";

/**
 * Loads the tokenizer of a model folder: tokenizer.json, or a vocabulary in another form, with the settings and chat
 * templates beside it. docs/tokenizers.md has the order in which files count.
 *
 * @returns undefined when no file of the folder has a vocabulary.
 * @throws ShardspeedError ERR_TOKENIZER when a file is there but cannot be used; the message names it.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const files = await readTokenizerFiles(folder);
  const source = await readSource(files);
  if (source === undefined) return undefined;
  try {
    return build(files, source);
  } catch (error) {
    if (ShardspeedError.isInstance(error)) throw error;
    throw new ShardspeedError("ERR_TOKENIZER", `${source.path} cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function build(files: TokenizerFiles, source: TokenizerSource): Tokenizer {
  const { tokenizer } = source;
  const settings = mergeSettings(files, source);
  const around = source.around ?? aroundByFlags(settings);
  const vocabulary = readVocabulary(modelOf(tokenizer));
  const added = collectAddedTokens({ files, source, settings, vocabulary });
  const named = new Map(
    Object.entries(settings.named).map(([name, { content }]) => [name, { token: content, id: added.idOf(content) }]),
  );
  return new HubTokenizer({
    tokenizer: around === undefined ? tokenizer : { ...tokenizer, post_processor: putAround(around, named, added) },
    config: settings.config,
    named,
    added: added.tokens,
    vocabulary,
    templates: files.chatTemplates,
  });
}

/** What add_bos_token and add_eos_token ask for; undefined where they ask for nothing. */
function aroundByFlags({ addsBos, addsEos }: Settings): Around | undefined {
  if (!addsBos && !addsEos) return undefined;
  const around = (text: string, type: string) =>
    `${addsBos ? `bos_token${type} ` : ""}${text}${type}${addsEos ? ` eos_token${type}` : ""}`;
  return { single: around("$A", ""), pair: `${around("$A", "")} ${around("$B", ":1")}` };
}

/** The post-processor that puts tokens around texts; those that are not set are left out. */
function putAround(
  { single, pair }: Around,
  named: ReadonlyMap<string, NamedToken>,
  { idOf }: CollectedTokens,
): JsonObject {
  const specials: JsonObject = {};
  const read = (template: string) =>
    template.split(" ").map((piece) => {
      const [, id, type] = /^(.*?)(?::(\d))?$/.exec(piece) as unknown as [string, string, string | undefined];
      const type_id = Number(type ?? 0);
      if (id === "$A" || id === "$B") return { Sequence: { id: id.slice(1), type_id } };
      // What is no name is a token, a language that the vocabulary may lack.
      const known = id.endsWith("_token") ? named.get(id)?.id : (idOf(id) ?? named.get("unk_token")?.id);
      specials[id] = { ids: known === undefined ? [] : [known] };
      return { SpecialToken: { id, type_id } };
    });
  return { type: "TemplateProcessing", single: read(single), pair: read(pair), special_tokens: specials };
}

/** The tokenizer files that are in a folder, for a message that none of them can be read. */
export async function describeTokenizerFiles(folder: string): Promise<string> {
  const { names } = await readTokenizerFiles(folder);
  const found = names.filter((name) =>
    /^(vocab|merges|added_tokens|special_tokens_map|tokenizer|spiece|sentencepiece|tekken|qwen|.*\.tiktoken|.*\.model|source\.spm|target\.spm)/.test(
      name,
    ),
  );
  const forms =
    "tokenizer.json, vocab.json with merges.txt, tokenizer.model, vocab.txt, tekken.json, tiktoken.model or qwen.tiktoken";
  return found.length === 0
    ? `${folder} has none of ${forms}`
    : `${folder} has ${found.join(", ")}, but none of the forms that are read: ${forms}. Save it with a tokenizer.json: AutoTokenizer.from_pretrained(${JSON.stringify(join(folder))}).save_pretrained(...)`;
}
