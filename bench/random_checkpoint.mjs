// Model folders with random fp16 weights, for models that are measured and not understood.
import { randomFillSync } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { readShape } from "./shapes.mjs";

const chunkBytes = 1 << 22;

function llamaTensors(config) {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocabulary } = config;
  const headSize = config.head_dim ?? hidden / config.num_attention_heads;
  const queryRows = config.num_attention_heads * headSize;
  const keyRows = (config.num_key_value_heads ?? config.num_attention_heads) * headSize;
  const layer = (prefix) => ({
    [`${prefix}.input_layernorm.weight`]: [hidden],
    [`${prefix}.self_attn.q_proj.weight`]: [queryRows, hidden],
    [`${prefix}.self_attn.k_proj.weight`]: [keyRows, hidden],
    [`${prefix}.self_attn.v_proj.weight`]: [keyRows, hidden],
    [`${prefix}.self_attn.o_proj.weight`]: [hidden, queryRows],
    [`${prefix}.post_attention_layernorm.weight`]: [hidden],
    [`${prefix}.mlp.gate_proj.weight`]: [inner, hidden],
    [`${prefix}.mlp.up_proj.weight`]: [inner, hidden],
    [`${prefix}.mlp.down_proj.weight`]: [hidden, inner],
  });
  return Object.assign(
    { "model.embed_tokens.weight": [vocabulary, hidden] },
    ...Array.from({ length: config.num_hidden_layers }, (_, n) => layer(`model.layers.${n}`)),
    { "model.norm.weight": [hidden] },
    config.tie_word_embeddings ? {} : { "lm_head.weight": [vocabulary, hidden] },
  );
}

function optTensors(config) {
  const { hidden_size: hidden, ffn_dim: inner } = config;
  const linear = (name, rows, columns) => ({ [`${name}.weight`]: [rows, columns], [`${name}.bias`]: [rows] });
  const norm = (name) => ({ [`${name}.weight`]: [hidden], [`${name}.bias`]: [hidden] });
  const layer = (prefix) => ({
    ...norm(`${prefix}.self_attn_layer_norm`),
    ...linear(`${prefix}.self_attn.q_proj`, hidden, hidden),
    ...linear(`${prefix}.self_attn.k_proj`, hidden, hidden),
    ...linear(`${prefix}.self_attn.v_proj`, hidden, hidden),
    ...linear(`${prefix}.self_attn.out_proj`, hidden, hidden),
    ...norm(`${prefix}.final_layer_norm`),
    ...linear(`${prefix}.fc1`, inner, hidden),
    ...linear(`${prefix}.fc2`, hidden, inner),
  });
  return Object.assign(
    { "model.decoder.embed_tokens.weight": [config.vocab_size, hidden] },
    // The first two rows are never used: OPT counts positions from 2.
    { "model.decoder.embed_positions.weight": [config.max_position_embeddings + 2, hidden] },
    ...Array.from({ length: config.num_hidden_layers }, (_, n) => layer(`model.decoder.layers.${n}`)),
    norm("model.decoder.final_layer_norm"),
  );
}

export const listTensors = { llama: llamaTensors, opt: optTensors };

/** The header of a safetensors file, padded to a multiple of 8, and the bytes that follow it. */
export function makeHeader(tensors) {
  const header = {};
  let offset = 0;
  for (const [name, shape] of Object.entries(tensors)) {
    const bytes = 2 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: "F16", shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = JSON.stringify(header);
  return { text: text.padEnd(Math.ceil(text.length / 8) * 8), dataBytes: offset };
}

/** Any sign and mantissa, and exponents from that of `smallest`, a power of two as fp16, to 8 times that: never infinite. */
export function randomHalves(smallest) {
  const halves = randomFillSync(new Uint16Array(chunkBytes / 2));
  for (let i = 0; i < halves.length; i++) halves[i] = (halves[i] & 0x8fff) | smallest;
  return halves;
}

/** Writes a model folder of a shape and returns the bytes of its weights. They repeat themselves every 4 MB. */
export function writeRandomCheckpoint(shape, folder) {
  const config = readShape(shape);
  const list = listTensors[config.model_type];
  if (list === undefined) throw new Error(`Expected the shape of a Llama or OPT model, found ${config.model_type}`);
  const { text, dataBytes } = makeHeader(list(config));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  const file = openSync(path.join(folder, "model.safetensors"), "w");
  try {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeSync(file, length);
    writeSync(file, text);
    const chunk = Buffer.from(randomHalves(0x2000).buffer); // from 2^-7 on: ordinary weights
    for (let left = dataBytes; left > 0; left -= chunkBytes) writeSync(file, chunk, 0, Math.min(left, chunkBytes));
  } finally {
    closeSync(file);
  }
  return dataBytes;
}

/** Gives `use` a temporary model folder of a shape, and removes the folder when `use` has returned. */
export async function withRandomCheckpoint(shape, use) {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-bench-"));
  try {
    writeRandomCheckpoint(shape, folder);
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
