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

/** What stands in a pair of texts: ids that are added, or one of the texts; and the type of its tokens. */
export type PairPiece = { ids: readonly number[]; type: number } | { text: "first" | "second"; type: number };

/** Reads the `post_processor` of a tokenizer.json, as far as it is about two texts. The last part that says something of them counts. */
export function createPairPieces(config: unknown): PairPiece[] {
  let pieces: PairPiece[] = [
    { text: "first", type: 0 },
    { text: "second", type: 1 },
  ];
  for (const part of flattenSequence(config, "processors", "post_processor")) pieces = readPairPart(part) ?? pieces;
  return pieces;
}

function readPairPart(part: JsonObject): PairPiece[] | undefined {
  if (part.type === "TemplateProcessing") return readPairTemplate(part);
  if (part.type !== "BertProcessing" && part.type !== "RobertaProcessing") return undefined;
  const [start, end] = [[pairId(part.cls, "cls")], [pairId(part.sep, "sep")]];
  const isBert = part.type === "BertProcessing";
  return [
    { ids: start, type: 0 },
    { text: "first", type: 0 },
    { ids: end, type: 0 },
    ...(isBert ? [] : [{ ids: end, type: 0 }]),
    { text: "second", type: isBert ? 1 : 0 },
    { ids: end, type: isBert ? 1 : 0 },
  ];
}

function readPairTemplate(part: JsonObject): PairPiece[] {
  const specials = objectOf(part.special_tokens ?? {}, "post_processor.special_tokens");
  // A template that says nothing of pairs, as it is made of a vocab.txt: each text ends as one alone does (BERT, T5).
  if (part.pair === undefined || part.pair === null) return pairOfSingle(readTemplate(part));
  return arrayOf(part.pair, "post_processor.pair").map((item) => {
    const { SpecialToken: special, Sequence: sequence } = objectOf(item, "an item of post_processor.pair");
    const { id, type_id: type } = objectOf(special ?? sequence, "an item of post_processor.pair");
    if (!Number.isSafeInteger(type) || (type as number) < 0)
      throw new Error("a type_id of post_processor is no integer");
    if (special === undefined) return { text: id === "B" ? "second" : "first", type: type as number };
    return { ids: specialIds(specials, String(id)), type: type as number };
  });
}

function pairOfSingle({ before, behind }: AddedIds): PairPiece[] {
  return [
    { ids: before, type: 0 },
    { text: "first", type: 0 },
    { ids: behind, type: 0 },
    { text: "second", type: 1 },
    { ids: behind, type: 1 },
  ];
}

function specialIds(specials: JsonObject, name: string): number[] {
  const { ids } = objectOf(
    Object.hasOwn(specials, name) ? specials[name] : undefined,
    `post_processor.special_tokens of ${JSON.stringify(name)}`,
  );
  return arrayOf(ids, "the ids of a special token").map((id) => {
    if (!Number.isSafeInteger(id) || (id as number) < 0)
      throw new Error(`an id of ${JSON.stringify(name)} is no integer`);
    return id as number;
  });
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
    (inText ? behind : before).push(...specialIds(specials, name));
  }
  return { before, behind };
}
