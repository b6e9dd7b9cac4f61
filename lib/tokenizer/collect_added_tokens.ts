import type { AddedToken } from "./encoding/added_tokens.js";
import { checkId, type Vocabulary } from "./encoding/models.js";
import type { TokenizerFiles } from "./files.js";
import { type DeclaredToken, readAddedTokens, type Settings } from "./merge_settings.js";
import type { TokenizerSource } from "./source.js";

export interface CollectedTokens {
  tokens: AddedToken[];
  idOf(content: string): number | undefined;
}

interface Given {
  files: TokenizerFiles;
  source: TokenizerSource;
  settings: Settings;
  vocabulary: Vocabulary;
}

/**
 * The tokens beside the vocabulary in the order in which transformers adds them: those of tokenizer.json, those that the
 * settings declare by id, named ones such as pad_token, additional ones. One that is new gets the id of its text in the
 * vocabulary, else the next free one.
 */
export function collectAddedTokens({ files, source, settings, vocabulary }: Given): CollectedTokens {
  const added = new Map<string, AddedToken>();
  let next = vocabulary.ids.size;
  const idOf = (content: string) => added.get(content)?.id ?? vocabulary.ids.get(content);
  const add = (token: DeclaredToken, special: boolean): void => {
    const { content } = token;
    if (content === "") return;
    let id = idOf(content);
    if (id === undefined) {
      id = next;
      checkId(id, content);
    }
    next = Math.max(next, id + 1);
    added.set(content, {
      id,
      content,
      special,
      normalized: token.normalized ?? !special,
      singleWord: token.single_word === true,
      lstrip: token.lstrip === true,
      rstrip: token.rstrip === true,
    });
  };
  // A class that makes the tokenizer itself starts without tokens.
  const isRebuilt = files.tokenizer !== undefined && source.tokenizer !== files.tokenizer;
  if (!isRebuilt)
    for (const token of readAddedTokens(source.tokenizer.added_tokens)) add(token, token.special === true);
  const namedContents = new Set(Object.values(settings.named).map(({ content }) => content));
  for (const [, token] of [...settings.declared].sort(([a], [b]) => a - b)) {
    add(token, token.special === true || namedContents.has(token.content));
  }
  for (const token of [...Object.values(settings.named), ...settings.extra]) {
    if (!added.has(token.content)) add(token, token.special !== false || namedContents.has(token.content));
  }
  return { tokens: [...added.values()], idOf };
}
