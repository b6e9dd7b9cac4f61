import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type GenerationResult, initInference } from "../../dist/index.js";
import { demoModel, fixture, type Golden, readFloatTensors, readJson, relativeError } from "./fixtures.js";

/** How an engine is made, and how far its logits may be from the golden ones: |a - b| / |b|. */
export interface Comparison {
  device: string;
  dtype: string;
  relative: number;
  /** Default 1. */
  tpSize?: number;
}

/**
 * Golden models that the engine refuses so far, with what it says: golden.test.ts fails where it says anything else, and where it computes
 * one. What they mean is checked all the same, by test/models/golden.unit.test.ts.
 */
export const refusedGoldens: Readonly<Record<string, string>> = {};

/** Names of the golden models that the engine computes. */
export const goldens = readdirSync(fixture("golden")).filter(
  (name) => existsSync(fixture("golden", name, "golden.json")) && !(name in refusedGoldens),
);

/** Families whose arithmetic another golden model has as well: tests that take seconds for each model leave them out. */
const alike: ReadonlySet<string> = new Set(
  (
    "arcee biogpt biogpt_unscaled codegen cohere2 ernie4_5 exaone4 gemma glm4 gpt_bigcode " +
    "gpt_bigcode_heads gpt_neo gpt_neo_local gpt_neox gpt_neox_sequential gptj helium hunyuan_alpha llama_longrope " +
    "ministral mpt olmo3 persimmon_plain phi phi3 qwen2 qwen3 seed_oss smollm3 " +
    "stablelm starcoder2 xglm_unscaled olmoe qwen3_moe phimoe deepseek_v2 " +
    "phimoe_longrope deepseek_v2_groups deepseek_v3_ungrouped gpt_oss_limits"
  ).split(" "),
);

/** One golden model of each variant, for such tests. */
export const variants = goldens.filter((name) => !alike.has(name));

/** The variants that the CUDA backend computes. */
export const cudaVariants = variants;

/**
 * How far fp16 logits may be from the golden ones on CUDA, which rounds activations: of Gemma-3, with four layers of six norms, those of
 * transformers in fp16 are off by 5.8e-3, of Gemma-2 by 2.5e-3.
 */
export function cudaTolerance(name: string): number {
  return name === "gemma3_text" ? 5e-3 : 3e-3;
}

/** The model's weights in other storage: name, and the name of the golden model. */
export const forms = readdirSync(fixture("forms")).map((form) => ({
  form,
  base: readJson<{ base: string }>(fixture("forms", form, "form.json")).base,
}));

export function readGolden(name: string): Golden {
  return readJson<Golden>(fixture("golden", name, "golden.json"));
}

/**
 * Compares an engine with what transformers computes in fp32 from the same stored weights: logits at all positions of each prompt, and
 * the greedy tokens.
 */
export async function compareWithGolden(
  modelFolder: string,
  goldenFolder: string,
  { device, dtype, relative, tpSize = 1 }: Comparison,
): Promise<void> {
  const golden = readJson<Golden>(join(goldenFolder, "golden.json"));
  const tensors = readFloatTensors(join(goldenFolder, "golden.safetensors"));
  await using engine = await initInference(modelFolder, { config: configOf(dtype, tpSize), threads: 2, device });
  for (const [i, prompt] of golden.prompts.entries()) {
    const { logits } = await engine.forward({ inputIds: [prompt.ids] });
    const expected = tensors.get(`prompt${i}.logits`);
    assert.ok(expected, `golden.safetensors has prompt${i}.logits`);
    assert.deepEqual(logits.dims, [1, ...expected.shape]);
    const error = relativeError(logits.data, expected.data);
    assert.ok(error <= relative, `prompt ${i}: logits differ by ${error}, more than ${relative}`);
    const result = await engine.generate(prompt.ids, {
      maxNewTokens: prompt.greedy.length,
      ignoreEos: true,
      logprobs: 5,
      promptLogprobs: 5,
    });
    checkPromptLogprobs(result, prompt.ids, logits.data, expected.data, `prompt ${i}`);
    const tolerated = device === "cpu" ? 0 : 2 * largestError(logits.data, expected.data);
    checkGreedy(result, prompt.greedy, prompt.minMargin, tolerated, `prompt ${i}`);
  }
}

function configOf(dtype: string, tpSize: number): object {
  return { dtype, tensor_parallel: { tp_size: tpSize } };
}

/**
 * Greedy tokens are the golden ones. They may part only where the golden margin between the two is within what the error in the logits
 * explains: two logits change places where their errors add up to the golden margin and the distance found here. What follows such a
 * place is another text, and is not compared.
 */
function checkGreedy(
  { ids, logprobs }: GenerationResult,
  golden: number[],
  minMargin: number,
  tolerated: number,
  what: string,
): void {
  const place = ids.findIndex((id, i) => id !== golden[i]);
  if (tolerated === 0 || place < 0) {
    assert.deepEqual(ids, golden, `${what}: greedy tokens`);
    return;
  }
  assert.equal(ids.length, golden.length);
  const entry = logprobs?.[place];
  const second = entry?.top.find(({ id }) => id === golden[place]);
  const gap = (entry?.logprob as number) - (second?.logprob ?? Number.NEGATIVE_INFINITY);
  const words = `${what}: token ${place} is ${ids[place]} and not ${golden[place]}, which is ${gap} less likely here`;
  assert.ok(
    minMargin + gap <= tolerated,
    `${words}: more than an error of ${tolerated} explains with a margin of ${minMargin}`,
  );
}

/** Those of the engine's own logits, and of the golden ones as far as the logits agree. Kernels for GPUs have exponentials of fp32. */
function checkPromptLogprobs(
  { promptLogprobs = [] }: GenerationResult,
  ids: readonly number[],
  logits: Float32Array,
  golden: Float32Array,
  what: string,
): void {
  const vocab = logits.length / ids.length;
  const tolerated = 2 * largestError(logits, golden);
  assert.deepEqual([promptLogprobs.length, promptLogprobs[0]], [ids.length, null], what);
  for (const [i, one] of promptLogprobs.entries()) {
    if (one === null) continue;
    const [own, expected] = [logits, golden].map((all) => toLogprobs(all.subarray((i - 1) * vocab, i * vocab)));
    if (own === undefined || expected === undefined) throw new Error("there are two");
    assert.equal(one.id, ids[i]);
    const order = own.map((_, id) => id).sort((a, b) => (own[b] as number) - (own[a] as number) || a - b);
    assert.deepEqual(
      [one.rank, ...one.top.map(({ id }) => id)],
      [order.indexOf(one.id) + 1, ...order.slice(0, 5)],
      `${what}: ranks at ${i}`,
    );
    for (const { id, logprob } of [one, ...one.top]) {
      const error = Math.abs(logprob - (own[id] as number));
      assert.ok(error <= 1e-5, `${what}: token ${id} at ${i} is ${error} off its logits`);
      const wrong = Math.abs(logprob - (expected[id] as number));
      assert.ok(wrong <= tolerated + 1e-5, `${what}: token ${id} at ${i} is ${wrong} off, more than ${tolerated}`);
    }
  }
}

function toLogprobs(logits: Float32Array): number[] {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

function largestError(found: Float32Array, expected: Float32Array): number {
  return found.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (expected[i] as number))), 0);
}

interface DemoRow {
  prompt: string;
  ids: number[];
  greedy: number[];
  text: string;
  smallest_margin: number;
  first: { id: number; logit: number }[];
  decoded_prompt: string;
}

/** The demo model's golden texts, all in one batch. `tolerated`: how much two logits may be wrong, together. */
export async function compareDemoModel(device: string, dtype: string, tolerated: number, tpSize = 1): Promise<void> {
  const rows = readJson<DemoRow[]>(join(demoModel, "golden.json"));
  await using engine = await initInference(demoModel, { config: configOf(dtype, tpSize), threads: 2, device });
  const results = await engine.generate(
    rows.map((row) => row.prompt),
    { maxNewTokens: 48, ignoreEos: true, logprobs: 5 },
  );
  for (const [i, row] of rows.entries()) {
    assert.deepEqual(engine.tokenizer?.encode(row.prompt), row.ids);
    assert.equal(engine.tokenizer?.decode(row.ids), row.decoded_prompt);
    const result = results[i] as GenerationResult;
    checkGreedy(result, row.greedy, row.smallest_margin, tolerated, row.prompt);
    if (result.ids.join() === row.greedy.join()) assert.equal(result.text, row.text);
    checkFirst(result, row, tolerated);
  }
}

/** The likeliest tokens behind the prompt, and how far each is from the likeliest. */
function checkFirst({ logprobs }: GenerationResult, { first }: DemoRow, tolerated: number): void {
  const top = logprobs?.[0]?.top ?? [];
  if (tolerated === 0) {
    assert.deepEqual(
      top.map(({ id }) => id),
      first.map(({ id }) => id),
    );
  }
  const best = first[0] as { id: number; logit: number };
  const bestLogprob = top.find(({ id }) => id === best.id)?.logprob as number;
  for (const { id, logit } of first.slice(0, 3)) {
    const found = (top.find((one) => one.id === id)?.logprob as number) - bestLogprob;
    assert.ok(Math.abs(found - (logit - best.logit)) <= Math.max(tolerated, 2e-2), `token ${id}: ${found}`);
  }
}
