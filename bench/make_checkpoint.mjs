// Writes a model folder with random fp16 weights of any shape, for benches of loading:
//
//   node bench/make_checkpoint.mjs SHAPE FOLDER
//
// SHAPE is a name of bench/shapes.mjs or the path of a config.json. Only shapes whose roles are one tensor each (Llama, OPT).
import { randomFillSync } from "node:crypto";
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { describeModel } from "../dist/models/index.js";
import { readShape } from "./read_shape.mjs";

const chunkBytes = 1 << 22;

/** Every tensor that the checkpoint of a model has, as transformers names them. */
function listTensors({ spec }) {
  const { hiddenSize: hidden, headDim, heads, kvHeads, ffnSize: ffn } = spec;
  const tensors = [];
  const add = (name, ...shape) => tensors.push({ name, shape });
  if (spec.family === "llama") {
    add("model.embed_tokens.weight", spec.vocabSize, hidden);
    for (let n = 0; n < spec.layers; n++) {
      const layer = `model.layers.${n}`;
      add(`${layer}.input_layernorm.weight`, hidden);
      add(`${layer}.self_attn.q_proj.weight`, heads * headDim, hidden);
      add(`${layer}.self_attn.k_proj.weight`, kvHeads * headDim, hidden);
      add(`${layer}.self_attn.v_proj.weight`, kvHeads * headDim, hidden);
      add(`${layer}.self_attn.o_proj.weight`, hidden, heads * headDim);
      add(`${layer}.post_attention_layernorm.weight`, hidden);
      add(`${layer}.mlp.gate_proj.weight`, ffn, hidden);
      add(`${layer}.mlp.up_proj.weight`, ffn, hidden);
      add(`${layer}.mlp.down_proj.weight`, hidden, ffn);
    }
    add("model.norm.weight", hidden);
    if (!spec.tiedHead) add("lm_head.weight", spec.vocabSize, hidden);
    return tensors;
  }
  throw new Error(`make_checkpoint writes Llama shapes, found ${spec.family}`);
}

function writeCheckpoint(config, folder) {
  const tensors = listTensors(describeModel(config));
  const header = {};
  let offset = 0;
  for (const { name, shape } of tensors) {
    const bytes = 2 * shape.reduce((a, b) => a * b);
    header[name] = { dtype: "F16", shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  let text = JSON.stringify(header);
  text = text.padEnd(Math.ceil(text.length / 8) * 8);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  const file = openSync(path.join(folder, "model.safetensors"), "w");
  try {
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeSync(file, prefix);
    writeSync(file, text);
    const chunk = Buffer.alloc(chunkBytes);
    for (let left = offset; left > 0; left -= chunkBytes) {
      const halves = new Uint16Array(randomFillSync(chunk).buffer);
      // Any sign and mantissa, exponents of 2^-7 to 2^-4: ordinary weights, never infinite.
      for (let i = 0; i < halves.length; i++) halves[i] = (halves[i] & 0x8fff) | 0x2000;
      writeSync(file, chunk, 0, Math.min(left, chunkBytes));
    }
  } finally {
    closeSync(file);
  }
  return offset;
}

const [shape, folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: node bench/make_checkpoint.mjs SHAPE FOLDER");
  process.exitCode = 2;
} else {
  const bytes = writeCheckpoint(readShape(shape), folder);
  console.log(`${folder}: ${(bytes / 1e6).toFixed(0)} MB`);
}
