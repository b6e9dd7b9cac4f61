import { arrayOf, flattenSequence, type JsonObject, objectOf } from "./json.js";

/** The ids that are put around a text. */
export interface AddedIds {
  before: readonly number[];
  behind: readonly number[];
}

/** Reads the `post_processor` of a tokenizer.json, as far as it is about one text. */
export function createAddedIds(config: unknown): AddedIds {
  let before: number[] = [];
  let behind: number[] = [];
  for (const part of flattenSequence(config, "processors", "post_processor")) {
    const added = readPart(part);
    before = [...added.before, ...before];
    behind = [...behind, ...added.behind];
  }
  return { before, behind };
}

function readPart(part: JsonObject): AddedIds {
  switch (part.type) {
    case "ByteLevel":
      return { before: [], behind: [] }; // It moves offsets only.
    case "BertProcessing":
    case "RobertaProcessing":
      return { before: [pairId(part.cls, "cls")], behind: [pairId(part.sep, "sep")] };
    case "TemplateProcessing":
      return readTemplate(part);
  }
  throw new Error(`post-processor type ${JSON.stringify(part.type)} is not known`);
}

function pairId(value: unknown, name: string): number {
  const id: unknown = Array.isArray(value) ? value[1] : undefined;
  if (!Number.isSafeInteger(id) || (id as number) < 0) throw new Error(`post_processor.${name} is no [token, id]`);
  return id as number;
}

function readTemplate(part: JsonObject): AddedIds {
  const before: number[] = [];
  const behind: number[] = [];
  const specials = objectOf(part.special_tokens ?? {}, "post_processor.special_tokens");
  let inText = false;
  for (const item of arrayOf(part.single, "post_processor.single")) {
    const { SpecialToken: special } = objectOf(item, "an item of post_processor.single");
    if (special === undefined) {
      inText = true;
      continue;
    }
    const name = String(objectOf(special, "a SpecialToken").id);
    const { ids } = objectOf(
      Object.hasOwn(specials, name) ? specials[name] : undefined,
      `post_processor.special_tokens of ${JSON.stringify(name)}`,
    );
    for (const id of arrayOf(ids, "the ids of a special token")) {
      if (!Number.isSafeInteger(id) || (id as number) < 0)
        throw new Error(`an id of ${JSON.stringify(name)} is no integer`);
      (inText ? behind : before).push(id as number);
    }
  }
  return { before, behind };
}
