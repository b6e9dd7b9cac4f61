import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import type { Engine, ForwardInputs } from "../../dist/index.js";
import { fixture, readFloatTensors, readJson, relativeError } from "./fixtures.js";

/** What transformers computes of a model that makes no text. */
export interface EncoderGolden {
  weightsDtype: string;
  task: string;
  prompts: { ids: number[]; tokenTypeIds?: number[] }[];
  batches: { rows: number[][]; mask: number[][]; tokenTypeIds?: number[][] }[];
}

/** Names of the folders in test/fixtures/encoders. */
export const encoders = readdirSync(fixture("encoders")).filter((name) => !name.includes("."));

export function encoderFolder(name: string): string {
  return fixture("encoders", name);
}

export function readEncoder(name: string) {
  const golden = readJson<EncoderGolden>(`${encoderFolder(name)}/golden.json`);
  return { ...golden, tensors: readFloatTensors(`${encoderFolder(name)}/golden.safetensors`) };
}

/** Compares all prompts and batches of a golden with what an engine computes; returns the largest relative error. */
export async function compareEncoder(engine: Engine, name: string, relative: number): Promise<number> {
  const { prompts, batches, tensors, task } = readEncoder(name);
  let largest = 0;
  const compare = (what: string, found: Float32Array, expected: Float32Array) => {
    const error = relativeError(found, expected);
    largest = Math.max(largest, error);
    assert.ok(error <= relative, `${name}, ${what}: differs by ${error}, more than ${relative}`);
  };
  const outputsOf = async (inputs: ForwardInputs) => {
    const { logits, lastHiddenState, poolerOutput } = await engine.forward(inputs);
    return { rows: task === "base" ? lastHiddenState : logits, pooled: poolerOutput };
  };
  assert.ok(prompts.length > 0 && batches.length > 0);
  for (const [i, { ids, tokenTypeIds }] of prompts.entries()) {
    const inputs = { inputIds: [ids], ...(tokenTypeIds ? { tokenTypeIds: [tokenTypeIds] } : {}) };
    const { rows, pooled } = await outputsOf(inputs);
    const expected = tensors.get(`prompt${i}.logits`);
    assert.deepEqual(rows.dims, [1, ...(expected?.shape ?? [])]);
    compare(`prompt ${i}`, rows.data, expected?.data ?? new Float32Array());
    const pool = tensors.get(`prompt${i}.pooled`);
    if (pool !== undefined) compare(`pooler output of prompt ${i}`, pooled.data, pool.data);
  }
  for (const [b, { rows: inputIds, mask, tokenTypeIds }] of batches.entries()) {
    const { rows } = await outputsOf({
      inputIds,
      attentionMask: mask,
      ...(tokenTypeIds ? { tokenTypeIds } : {}),
    });
    const { shape, data } = tensors.get(`batch${b}.logits`) as { shape: number[]; data: Float32Array };
    assert.deepEqual(rows.dims, shape);
    const perToken = shape.length === 3;
    const width = shape.at(-1) as number;
    for (const [r, bits] of mask.entries()) {
      const [from, count] = perToken ? [bits.indexOf(1), bits.filter((bit) => bit === 1).length] : [0, 1];
      const start = (perToken ? r * (shape[1] as number) + from : r) * width;
      const part = (values: Float32Array) => values.slice(start, start + count * width);
      compare(`row ${r} of batch ${b}`, part(rows.data), part(data));
    }
  }
  return largest;
}
