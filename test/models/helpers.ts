import { existsSync, readdirSync, readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "../../dist/base/logger.js";
import type { Checkpoint, StorageDtype, TensorEntry } from "../../dist/checkpoint/types.js";
import { modelInfo } from "../../dist/engine/model_info.js";
import { describeModel } from "../../dist/models/index.js";
import type { LayerSpec, ModelSpec } from "../../dist/native/spec.js";
import { fixture, readJson } from "../support/fixtures.js";

export type Config = Record<string, unknown>;

/** A logger that keeps its warnings. */
export function collectWarnings(): { warnings: string[]; logger: Logger } {
  const warnings: string[] = [];
  return { warnings, logger: { debug() {}, info() {}, warn: (text) => warnings.push(text), error() {} } };
}

/** Configs as small as they may be, all defaults left to the descriptors. */
export const smallest = {
  opt: { model_type: "opt", hidden_size: 8, num_attention_heads: 2, num_hidden_layers: 2, ffn_dim: 12, vocab_size: 11 },
  gpt2: { model_type: "gpt2", n_embd: 8, n_head: 2, n_layer: 2, vocab_size: 11, n_positions: 16 },
  llama: {
    model_type: "llama",
    hidden_size: 8,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    intermediate_size: 12,
    vocab_size: 11,
    max_position_embeddings: 16,
  },
  bloom: { model_type: "bloom", hidden_size: 8, n_head: 2, n_layer: 2, vocab_size: 11 },
  falcon: {
    model_type: "falcon",
    hidden_size: 8,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    vocab_size: 11,
    max_position_embeddings: 16,
  },
} as const satisfies Record<string, Config>;

export function readConfig(path: string): Config {
  return readJson<Config>(path);
}

/** Names of the golden models. */
export const goldens = readdirSync(fixture("golden")).filter((name) =>
  existsSync(fixture("golden", name, "config.json")),
);

export function describeGolden(name: string): ModelSpec {
  return describeModel(readConfig(fixture("golden", name, "config.json"))).spec;
}

/** What is chosen in a spec, flat: of layers that differ a list with the value of each. */
export function traitsOf(spec: ModelSpec) {
  const { embedding, output } = spec;
  const logits = output.kind === "logits" ? output : undefined;
  const each = <T>(value: (kind: LayerSpec) => T): T | T[] => {
    const [first, ...others] = spec.kinds.map(value);
    return others.some((other) => !isDeepStrictEqual(other, first))
      ? spec.layers.map((kind) => value(spec.kinds[kind] as LayerSpec))
      : (first as T);
  };
  return {
    ...modelInfo(spec),
    embeddingSize: embedding.width,
    embeddingNorm: embedding.norm?.kind,
    positions: embedding.positions?.kind ?? each(({ attention }) => attention.positions.kind),
    positionOffset: embedding.positions?.offset,
    slopes: each(({ attention: { positions } }) => (positions.kind === "alibi" ? positions.slopes : undefined)),
    attentionScales: each(({ attention }) => attention.scale),
    norm: each(({ norms }) => norms.norm.kind),
    normEpsilon: each(({ norms }) => norms.norm.epsilon),
    residual: each(({ residual }) => residual),
    finalNorm: output.norm !== undefined,
    activation: each(({ feedForward }) => feedForward.activation),
    gatedFfn: each(({ feedForward }) => feedForward.gated),
    latent: each(({ attention }) => attention.latent),
    experts: each(({ feedForward }) =>
      feedForward.kind === "experts" ? `${feedForward.perToken} of ${feedForward.count}` : undefined,
    ),
    scoring: each(({ feedForward }) => (feedForward.kind === "experts" ? feedForward.router.scoring : undefined)),
    normalised: each(({ feedForward }) => (feedForward.kind === "experts" ? feedForward.router.normalise : undefined)),
    sharedExpert: each(({ feedForward }) => (feedForward.kind === "experts" ? feedForward.shared : undefined)),
    rotary: spec.rotaryTables[0],
    turned: each(({ attention: { positions } }) =>
      positions.kind === "rotary" ? `${positions.dims} ${positions.layout}` : undefined,
    ),
    tables: each(({ attention: { positions } }) => (positions.kind === "rotary" ? positions.table : undefined)),
    windows: each(({ attention: { mask } }) => (mask.kind === "window" ? mask.size : undefined)),
    chunks: each(({ attention: { mask } }) => (mask.kind === "chunk" ? mask.size : undefined)),
    qkNorm: each(({ attention }) => attention.qkNorm?.span),
    clamp: each(({ attention }) => attention.clamp),
    softCaps: [spec.kinds[0]?.attention.softCap, logits?.softCap],
    temperature: each(({ attention }) => attention.temperature),
    norms: each(({ norms: { input, output } }) => [...(input ? ["input"] : []), ...(output ? ["output"] : [])].join()),
    weightOffset: each(({ norms }) => norms.norm.weightOffset),
    embeddingScale: embedding.scale,
    residualScale: each(({ residualScale }) => residualScale),
    logitScale: logits?.scale,
  };
}

/** Whether the head is the token embedding. */
export function isTied({ output }: ModelSpec): boolean {
  return output.kind === "logits" && output.tied;
}

/** A checkpoint of contiguous tensors that exists in memory only: names to shapes. */
export function makeCheckpoint(shapes: Record<string, number[]>, dtype: StorageDtype = "float16"): Checkpoint {
  const tensors = new Map<string, TensorEntry>();
  let byteOffset = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    tensors.set(name, { name, dtype, shape, strides: contiguous(shape), file: 0, byteOffset });
    byteOffset += 4 * shape.reduce((product, size) => product * size, 1);
  }
  return { path: "/models/test", files: [{ path: "/models/test/weights.bin", bytes: byteOffset }], tensors };
}

/** The same tensors under other names; undefined leaves one out. */
export function rename(checkpoint: Checkpoint, newName: (name: string) => string | undefined): Checkpoint {
  const tensors = new Map<string, TensorEntry>();
  for (const entry of checkpoint.tensors.values()) {
    const name = newName(entry.name);
    if (name !== undefined) tensors.set(name, { ...entry, name });
  }
  return { ...checkpoint, tensors };
}

export function contiguous(shape: readonly number[]): number[] {
  let stride = 1;
  return shape
    .toReversed()
    .map((size) => {
      const own = stride;
      stride *= size;
      return own;
    })
    .reverse();
}

/** All elements of a strided view of fp16, bf16 or fp32 values in a file, row-major. */
export function readView(
  path: string,
  { dtype, byteOffset, shape, strides }: { dtype: string; byteOffset: number; shape: number[]; strides: number[] },
): number[] {
  const bytes = readFileSync(path);
  const size = dtype === "float32" ? 4 : 2;
  const read = (element: number) => {
    const at = byteOffset + element * size;
    if (dtype === "float32") return bytes.readFloatLE(at);
    return dtype === "float16" ? halfToNumber(bytes.readUInt16LE(at)) : bfloatToNumber(bytes.readUInt16LE(at));
  };
  let elements = [0];
  for (const [dimension, count] of shape.entries()) {
    const stride = strides[dimension] as number;
    elements = elements.flatMap((start) => Array.from({ length: count }, (_, i) => start + i * stride));
  }
  return elements.map(read);
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

function bfloatToNumber(bits: number): number {
  return new Float32Array(new Uint32Array([bits << 16]).buffer)[0] as number;
}
