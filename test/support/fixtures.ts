import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A folder below test/fixtures. */
export function fixture(...parts: string[]): string {
  return fileURLToPath(new URL(`../../test/fixtures/${parts.join("/")}`, import.meta.url));
}

/** The trained model that the repository carries. */
export const demoModel = fileURLToPath(new URL("../../models/demo", import.meta.url));

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

export interface GoldenPrompt {
  ids: number[];
  greedy: number[];
  minMargin: number;
}

export interface Golden {
  weightsDtype: string;
  prompts: GoldenPrompt[];
}

/** The fp32 tensors of a golden.safetensors file. */
export function readFloatTensors(path: string): Map<string, { shape: number[]; data: Float32Array }> {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString("utf8")) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, { shape: number[]; data: Float32Array }>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [start, end] = entry.data_offsets;
    const copy = new Uint8Array(bytes.subarray(8 + headerBytes + start, 8 + headerBytes + end));
    tensors.set(name, { shape: entry.shape, data: new Float32Array(copy.buffer) });
  }
  return tensors;
}

/** |a - b| / |b| in the L2 norm. */
export function relativeError(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((found[i] as number) - (expected[i] as number)) ** 2;
    size += (expected[i] as number) ** 2;
  }
  return Math.sqrt(difference / size);
}

/** Fails an assertion by the code that shardspeed's errors carry. */
export function hasCode(code: string, message?: RegExp) {
  return (error: unknown): boolean => {
    const { code: found, message: text } = error as { code?: string; message: string };
    if (found !== code) throw new Error(`Expected ${code}, found ${found}: ${text}`, { cause: error });
    if (message && !message.test(text)) throw new Error(`Expected a message like ${message}, found: ${text}`);
    return true;
  };
}
