import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine, GenerationResult, ModelInfo } from "../../dist/index.js";
import { mostRanks } from "../../dist/native/limits.js";
import { fixture } from "./fixtures.js";

/** Calls again and again until a call fails: a single one may have ended, on a fast machine, before a test ends it. */
export async function endless(call: () => Promise<unknown>): Promise<never> {
  for (;;) await call();
}

/** The largest group for a model whose layers are alike. */
export function mostRanksOf({ heads, ffnSize, vocabSize }: ModelInfo): number {
  return Math.min(heads, ffnSize, vocabSize, mostRanks);
}

/** Prompts of many lengths, some over page and chunk borders. */
export function mixedPrompts(vocab: number): number[][] {
  return [1, 2, 5, 15, 16, 17, 31, 33, 40].map((length, n) =>
    Array.from({ length }, (_, i) => (i * 37 + n * 11 + 3) % vocab),
  );
}

/** Prompts that repeat themselves, so that drafts of what comes next are made from the first token on. */
export function repeatingPrompts(vocab: number): number[][] {
  return [3, 7, 16].map((period, n) => Array.from({ length: 40 }, (_, i) => ((i % period) * 29 + n * 5 + 2) % vocab));
}

const sampling = [
  {},
  { temperature: 0.9, topP: 0.95, seed: 11 },
  { temperature: 1.2, topK: 20, repetitionPenalty: 1.2, seed: 5 },
  {
    temperature: 1,
    seed: 3,
    logitBias: { 4: 3, 8: -100 },
    allowedTokenIds: Array.from({ length: 40 }, (_, i) => 2 * i),
  },
];

/** What becomes of the mixed prompts, some greedy and some sampled, each for itself or all at once: tokens and the bits of their log-probabilities. */
export async function generateMixed(
  engine: Engine,
  together: boolean,
): Promise<Pick<GenerationResult, "ids" | "logprobs">[]> {
  const results: Promise<Pick<GenerationResult, "ids" | "logprobs">>[] = [];
  for (const [n, prompt] of mixedPrompts(engine.module.info.vocabSize).entries()) {
    const options = { maxNewTokens: 12 + n, ignoreEos: true, logprobs: 1, ...sampling[n % sampling.length] };
    const result = engine.generate(prompt, options).then(({ ids, logprobs = [] }) => ({ ids, logprobs }));
    if (!together) await result;
    results.push(result);
  }
  return Promise.all(results);
}

/** Conversations of two turns that begin alike: the second one has the first, its answer and more. */
export function conversationsOf(vocab: number): { prompt: number[]; next: number[] }[] {
  return [33, 40, 20].map((alike, n) => ({
    prompt: Array.from({ length: 48 }, (_, i) => (i * 7 + (i < alike ? 1 : n) * 13) % vocab),
    next: Array.from({ length: 3 + n }, (_, i) => (i * 5 + n) % vocab),
  }));
}

/** Both turns of each, one conversation behind another, then the first turns again, all at once. */
export async function continueAll(
  engine: Engine,
  conversations: ReturnType<typeof conversationsOf>,
): Promise<object[]> {
  const options = { maxNewTokens: 12, ignoreEos: true, logprobs: 1 };
  const describe = ({ ids, logprobs }: GenerationResult) => ({ ids, logprobs });
  const said: object[] = [];
  for (const { prompt, next } of conversations) {
    const first = await engine.generate(prompt, options);
    const second = await engine.generate([...prompt, ...first.ids, ...next], { ...options, temperature: 0.8, seed: 3 });
    said.push(describe(first), describe(second));
  }
  const again = await Promise.all(conversations.map(({ prompt }) => engine.generate(prompt, options)));
  return [...said, ...again.map(describe)];
}

/** What the mixed prompts are to the model, with some new tokens or none, each for itself or all at once. */
export async function scorePrompts(engine: Engine, together: boolean): Promise<Partial<GenerationResult>[]> {
  const results: Promise<Partial<GenerationResult>>[] = [];
  for (const [n, prompt] of mixedPrompts(engine.module.info.vocabSize).entries()) {
    const options = { maxNewTokens: n % 3 === 0 ? 0 : 12 + n, ignoreEos: true, ...sampling[n % sampling.length] };
    const result = engine
      .generate(prompt, { ...options, promptLogprobs: [0, 3, 20][n % 3] as number })
      .then(({ ids, promptLogprobs }) => ({ ids, promptLogprobs: promptLogprobs ?? [] }));
    if (!together) await result;
    results.push(result);
  }
  return Promise.all(results);
}

/** A copy of the tiny OPT in which one token's embedding is NaN: its logit is NaN for everybody, the head being tied. */
export function makePoisonedModel(): { folder: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
  for (const file of ["config.json", "model.safetensors"])
    copyFileSync(fixture("golden", "opt", file), join(folder, file));
  const path = join(folder, "model.safetensors");
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  const table = header["model.decoder.embed_tokens.weight"];
  const poisoned = 9;
  bytes.writeUInt16LE(0x7e00, 8 + headerBytes + table.data_offsets[0] + poisoned * table.shape[1] * 2);
  writeFileSync(path, bytes);
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}
