import { ShardspeedError } from "../base/errors.js";
import { parseJson } from "../base/json.js";
import { isObject } from "../base/objects.js";
import { decodeText, readRegularFile } from "../base/regular_file.js";
import { commonWords } from "./common_words.js";
import { splitJsonArray } from "./json_array.js";
import type { DatasetOptions } from "./options.js";
import type { Random } from "./random.js";
import { type ServerTokenizer, textOfTokens } from "./server_tokenizer.js";

/** One request to send. */
export interface BenchPrompt {
  /** Token ids only for a server whose tokenizer's routes gave them. */
  prompt: string | number[];
  /** Tokens of the prompt, counted by the server's tokenizer, else estimated. */
  inputTokens: number;
  /** `max_tokens` of the request. */
  outputTokens: number;
}

/** Where prompts come from. */
export interface PromptSource {
  random: Random;
  /** undefined for a server that has no routes for tokens. */
  tokenizer: ServerTokenizer | undefined;
  /** Whether the route takes token ids as a prompt. */
  takesIds: boolean;
}

/** The prompts of a run, all of them drawn before the first is sent. */
export async function drawPrompts(
  options: DatasetOptions,
  count: number,
  source: PromptSource,
): Promise<BenchPrompt[]> {
  switch (options.name) {
    case "random":
      return drawRandom(options, count, source);
    case "prefix_repetition":
      return drawPrefixes(options, count, source);
    case "sharegpt":
      return drawConversations(options, count, source);
    case "custom":
      return drawLines(options, count, source);
  }
}

/** What random prompts are made of: ids of the server's tokenizer where it has one, else words. */
type Material = { ids: number[]; tokenizer: ServerTokenizer } | undefined;

async function gatherMaterial({ tokenizer }: PromptSource): Promise<Material> {
  const ids = await tokenizer?.encode(commonWords.join(" "));
  return tokenizer === undefined || ids === undefined ? undefined : { tokenizer, ids: [...new Set(ids)] };
}

type RandomOptions = Extract<DatasetOptions, { name: "random" }>;

async function drawRandom(options: RandomOptions, count: number, source: PromptSource): Promise<BenchPrompt[]> {
  const { random } = source;
  const { inputLen, outputLen, rangeRatio } = options;
  const drawLength = (length: number) => {
    const least = Math.max(1, Math.floor(length * (1 - rangeRatio)));
    return random.integer(least, Math.max(least, Math.ceil(length * (1 + rangeRatio))));
  };
  const lengths = Array.from({ length: count }, () => [drawLength(inputLen), drawLength(outputLen)] as const);
  const material = await gatherMaterial(source);
  const prompts: BenchPrompt[] = [];
  for (const [inputTokens, outputTokens] of lengths) {
    prompts.push({ ...(await drawPrompt(inputTokens, material, source)), outputTokens });
  }
  return prompts;
}

type Drawn = Pick<BenchPrompt, "prompt" | "inputTokens">;

async function drawPrompt(length: number, material: Material, { random, takesIds }: PromptSource): Promise<Drawn> {
  if (material !== undefined) {
    const draw = () => random.pick(material.ids);
    if (takesIds) return { prompt: Array.from({ length }, draw), inputTokens: length };
    const made = await textOfTokens(material.tokenizer, length, draw);
    if (made !== undefined) return { prompt: made.text, inputTokens: made.tokens };
  }
  return { prompt: Array.from({ length }, () => random.pick(commonWords)).join(" "), inputTokens: length };
}

type PrefixOptions = Extract<DatasetOptions, { name: "prefix_repetition" }>;

/** Prompts that begin alike in groups, for prefix caches: each prefix in as many prompts, in a random order. */
async function drawPrefixes(options: PrefixOptions, count: number, source: PromptSource): Promise<BenchPrompt[]> {
  const { prefixLen, suffixLen, numPrefixes, outputLen } = options;
  const material = await gatherMaterial(source);
  const prefixes: Drawn[] = [];
  for (let i = 0; i < Math.min(numPrefixes, count); i++) prefixes.push(await drawPrompt(prefixLen, material, source));
  const prompts: BenchPrompt[] = [];
  for (let i = 0; i < count; i++) {
    const prefix = prefixes[i % prefixes.length] as Drawn;
    const suffix = await drawPrompt(suffixLen, material, source);
    prompts.push({
      prompt: join(prefix.prompt, suffix.prompt),
      inputTokens: prefix.inputTokens + suffix.inputTokens,
      outputTokens: outputLen,
    });
  }
  return source.random.shuffle(prompts);
}

function join(prefix: string | number[], suffix: string | number[]): string | number[] {
  if (typeof prefix !== "string" && typeof suffix !== "string") return [...prefix, ...suffix];
  return `${prefix} ${suffix}`;
}

/** How many tokens a text has: as the server says, else a token for four characters, about as English has it. */
async function countTokens(text: string, { tokenizer }: PromptSource): Promise<number> {
  return (await tokenizer?.encode(text))?.length ?? Math.max(1, Math.ceil(text.length / 4));
}

/** vLLM's bounds of a conversation: shorter ones measure nothing, longer ones do not fit into smaller models. */
const conversationBounds = { leastTokens: 4, mostPrompt: 1024, mostTotal: 2048 };

type ShareGptOptions = Extract<DatasetOptions, { name: "sharegpt" }>;

/** The first question of each conversation; as many new tokens as its answer has, if not told otherwise. */
async function drawConversations(
  options: ShareGptOptions,
  count: number,
  source: PromptSource,
): Promise<BenchPrompt[]> {
  const elements = splitJsonArray(await readData(options.path), options.path);
  const prompts: BenchPrompt[] = [];
  for (const element of source.random.shuffle(elements)) {
    if (prompts.length === count) break;
    const turns = readTurns(
      parseJson(element.toString("utf8"), `A conversation of ${options.path}`, "ERR_INVALID_ARGUMENT"),
    );
    if (turns === undefined) continue;
    const [prompt, answer] = turns;
    const inputTokens = await countTokens(prompt, source);
    const outputTokens = options.outputLen ?? (await countTokens(answer, source));
    const { leastTokens, mostPrompt, mostTotal } = conversationBounds;
    const isShort = inputTokens < leastTokens || (options.outputLen === undefined && outputTokens < leastTokens);
    if (isShort || inputTokens > mostPrompt || inputTokens + outputTokens > mostTotal) continue;
    prompts.push({ prompt, inputTokens, outputTokens });
  }
  return fill(prompts, count, source.random, `${options.path} has no conversation of two turns and a usual length`);
}

/** The texts of the first two turns; undefined for a conversation that has fewer. */
function readTurns(conversation: unknown): [string, string] | undefined {
  if (!isObject(conversation) || !Array.isArray(conversation.conversations)) return undefined;
  const [question, answer] = conversation.conversations.map((turn) => (isObject(turn) ? turn.value : undefined));
  return typeof question === "string" && typeof answer === "string" ? [question, answer] : undefined;
}

/** @throws ShardspeedError ERR_INVALID_ARGUMENT for a file that is not there or cannot be read. */
async function readData(file: string): Promise<Buffer> {
  const bytes = await readRegularFile(file, { code: "ERR_INVALID_ARGUMENT", limitBytes: 2 ** 31 });
  if (bytes === undefined)
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `There is no file ${file} (--dataset-path)`);
  return bytes;
}

type CustomOptions = Extract<DatasetOptions, { name: "custom" }>;

/** Lines of JSON: `{"prompt": "...", "output_tokens": 50}`, the latter only if the option does not say. */
async function drawLines(options: CustomOptions, count: number, source: PromptSource): Promise<BenchPrompt[]> {
  const lines = decodeText(await readData(options.path)).split("\n");
  const rows = lines.flatMap((line, i) =>
    line.trim() === "" ? [] : [readRow(line, `${options.path}, line ${i + 1}`)],
  );
  const chosen = source.random.shuffle(rows).slice(0, count);
  const prompts: BenchPrompt[] = [];
  for (const { prompt, outputTokens } of chosen) {
    const wanted = options.outputLen === -1 ? outputTokens : options.outputLen;
    if (wanted === undefined) {
      throw new ShardspeedError(
        "ERR_INVALID_ARGUMENT",
        `--custom-output-len -1 needs output_tokens in every line of ${options.path}`,
      );
    }
    prompts.push({ prompt, inputTokens: await countTokens(prompt, source), outputTokens: wanted });
  }
  return fill(prompts, count, source.random, `${options.path} has no line`);
}

function readRow(line: string, where: string): { prompt: string; outputTokens?: number } {
  const row = parseJson(line, where, "ERR_INVALID_ARGUMENT");
  const { prompt, output_tokens: outputTokens } = isObject(row) ? row : {};
  if (typeof prompt !== "string" || prompt === "") {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `${where}: expected an object with a prompt that is a text`);
  }
  if (outputTokens === undefined || outputTokens === null) return { prompt };
  if (!Number.isSafeInteger(outputTokens) || (outputTokens as number) < 1) {
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `${where}: expected output_tokens to be an integer of at least 1`,
    );
  }
  return { prompt, outputTokens: outputTokens as number };
}

/** Repeats prompts where the data has fewer than are asked for. */
function fill(prompts: BenchPrompt[], count: number, random: Random, lack: string): BenchPrompt[] {
  if (prompts.length === 0) throw new ShardspeedError("ERR_INVALID_ARGUMENT", lack);
  const given = [...prompts];
  while (prompts.length < count) prompts.push(random.pick(given));
  return prompts;
}
