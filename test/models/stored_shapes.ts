import assert from "node:assert/strict";
import type { Checkpoint, StorageDtype } from "../../dist/checkpoint/types.js";
import { describeModel, resolveWeights, type WeightView } from "../../dist/models/index.js";
import { type Config, collectWarnings, makeCheckpoint, type smallest } from "./helpers.js";

/** Names and shapes as the checkpoints of transformers have them, written down here apart from the descriptors. */
export const shapes: Record<keyof typeof smallest, Record<string, number[]>> = {
  opt: {
    "model.decoder.embed_tokens.weight": [11, 8],
    "model.decoder.embed_positions.weight": [2050, 8],
    ...optLayer(0),
    ...optLayer(1),
    "model.decoder.final_layer_norm.weight": [8],
    "model.decoder.final_layer_norm.bias": [8],
  },
  gpt2: {
    "transformer.wte.weight": [11, 8],
    "transformer.wpe.weight": [16, 8],
    ...gpt2Layer(0),
    ...gpt2Layer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
  llama: {
    "model.embed_tokens.weight": [11, 8],
    ...llamaLayer(0),
    ...llamaLayer(1),
    "model.norm.weight": [8],
    "lm_head.weight": [11, 8],
  },
  bloom: {
    "transformer.word_embeddings.weight": [11, 8],
    "transformer.word_embeddings_layernorm.weight": [8],
    "transformer.word_embeddings_layernorm.bias": [8],
    ...bloomLayer(0),
    ...bloomLayer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
  falcon: {
    "transformer.word_embeddings.weight": [11, 8],
    ...falconLayer(0),
    ...falconLayer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
};

function underLayer(start: string, parts: Record<string, number[]>): Record<string, number[]> {
  return Object.fromEntries(Object.entries(parts).map(([name, shape]) => [start + name, shape]));
}

function optLayer(layer: number): Record<string, number[]> {
  return underLayer(`model.decoder.layers.${layer}.`, {
    "self_attn.q_proj.weight": [8, 8],
    "self_attn.q_proj.bias": [8],
    "self_attn.k_proj.weight": [8, 8],
    "self_attn.k_proj.bias": [8],
    "self_attn.v_proj.weight": [8, 8],
    "self_attn.v_proj.bias": [8],
    "self_attn.out_proj.weight": [8, 8],
    "self_attn.out_proj.bias": [8],
    "self_attn_layer_norm.weight": [8],
    "self_attn_layer_norm.bias": [8],
    "fc1.weight": [12, 8],
    "fc1.bias": [12],
    "fc2.weight": [8, 12],
    "fc2.bias": [8],
    "final_layer_norm.weight": [8],
    "final_layer_norm.bias": [8],
  });
}

function gpt2Layer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "ln_1.weight": [8],
    "ln_1.bias": [8],
    "attn.c_attn.weight": [8, 24],
    "attn.c_attn.bias": [24],
    "attn.c_proj.weight": [8, 8],
    "attn.c_proj.bias": [8],
    "ln_2.weight": [8],
    "ln_2.bias": [8],
    "mlp.c_fc.weight": [8, 32],
    "mlp.c_fc.bias": [32],
    "mlp.c_proj.weight": [32, 8],
    "mlp.c_proj.bias": [8],
  });
}

function llamaLayer(layer: number): Record<string, number[]> {
  return underLayer(`model.layers.${layer}.`, {
    "input_layernorm.weight": [8],
    "self_attn.q_proj.weight": [8, 8],
    "self_attn.k_proj.weight": [8, 8],
    "self_attn.v_proj.weight": [8, 8],
    "self_attn.o_proj.weight": [8, 8],
    "post_attention_layernorm.weight": [8],
    "mlp.gate_proj.weight": [12, 8],
    "mlp.up_proj.weight": [12, 8],
    "mlp.down_proj.weight": [8, 12],
  });
}

function bloomLayer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "input_layernorm.weight": [8],
    "input_layernorm.bias": [8],
    "self_attention.query_key_value.weight": [24, 8],
    "self_attention.query_key_value.bias": [24],
    "self_attention.dense.weight": [8, 8],
    "self_attention.dense.bias": [8],
    "post_attention_layernorm.weight": [8],
    "post_attention_layernorm.bias": [8],
    "mlp.dense_h_to_4h.weight": [32, 8],
    "mlp.dense_h_to_4h.bias": [32],
    "mlp.dense_4h_to_h.weight": [8, 32],
    "mlp.dense_4h_to_h.bias": [8],
  });
}

function falconLayer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "input_layernorm.weight": [8],
    "input_layernorm.bias": [8],
    "self_attention.query_key_value.weight": [16, 8],
    "self_attention.dense.weight": [8, 8],
    "mlp.dense_h_to_4h.weight": [32, 8],
    "mlp.dense_4h_to_h.weight": [8, 32],
  });
}

export function resolve(config: Config, checkpoint: Checkpoint) {
  const { warnings, logger } = collectWarnings();
  const resolved = resolveWeights(describeModel(config), checkpoint, { logger });
  return { ...resolved, warnings, roles: new Map(resolved.weights.map((view) => [view.role, view])) };
}

/** The roles with nothing of the names: what must be the same whatever the names are. */
export function places(weights: readonly WeightView[]): Omit<WeightView, "tensor">[] {
  return weights.map(({ tensor: _, ...place }) => place);
}

/** The same tensors, one of them changed. */
export function changed(
  family: keyof typeof smallest,
  name: string,
  change: { shape?: number[]; dtype?: StorageDtype },
) {
  const checkpoint = makeCheckpoint(shapes[family]);
  const entry = checkpoint.tensors.get(name);
  assert.ok(entry);
  checkpoint.tensors.set(name, { ...entry, ...change });
  return checkpoint;
}
