// Llama checkpoints whose text is known in advance: behind each token comes one certain other, in a circle through the whole vocabulary. All of a
// model of the shape is computed, with random weights, but what its layers add to the residual stream is too little to count: the head reads the
// embedding of the last token, and knows its successor. So a bench can say which part of a text repeats which part of the prompt.
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { listTensors, makeHeader, randomHalves } from "../random_checkpoint.mjs";

export const vocabulary = 49152; // 2^14 times 3: see successor()

/** By a linear congruence of full period. */
export function successor(token) {
  return (token * 13 + 7919) % vocabulary;
}

const llama = (sizes) => ({
  ...{ model_type: "llama", architectures: ["LlamaForCausalLM"], hidden_act: "silu", rms_norm_eps: 1e-5 },
  ...{ rope_theta: 10000, torch_dtype: "float16", vocab_size: vocabulary, max_position_embeddings: 2048 },
  ...{ tie_word_embeddings: false, ...sizes },
});

/** Of SmolLM-135M's sizes, with a head of its own: 163 M parameters, 134 M of which are read for each token. */
export const largeShape = llama({
  ...{ hidden_size: 576, num_hidden_layers: 30, num_attention_heads: 9, num_key_value_heads: 3 },
  intermediate_size: 1536,
});

/** A model to draft with: 10 M parameters are read for each token. */
export const smallShape = llama({
  ...{ hidden_size: 192, num_hidden_layers: 2, num_attention_heads: 3, num_key_value_heads: 3 },
  intermediate_size: 512,
});

/** Random signs that stand for a token, as halves of the given size. */
function writeSigns(row, token, half) {
  let state = (token + 1) * 0x9e3779b1;
  for (let i = 0; i < row.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    row[i] = half | (state & 0x8000);
  }
}

/** Rows of a matrix that say a token each. */
function* signRows(width, tokenOf, half) {
  for (let row = 0; row < vocabulary; row++) {
    const values = new Uint16Array(width);
    const token = tokenOf(row);
    if (token !== undefined) writeSigns(values, token, half);
    yield values;
  }
}

/** @param knows Whether the model knows the successor of a token. */
export function writeChainCheckpoint(folder, config, knows = () => true) {
  const before = new Int32Array(vocabulary);
  for (let token = 0; token < vocabulary; token++) before[successor(token)] = token;
  const known = (row) => (knows(before[row]) ? before[row] : undefined);
  const [ordinary, tiny] = [randomHalves(0x2000), randomHalves(0x0400)];
  const tensors = listTensors.llama(config);
  const values = (name, shape) => {
    if (name === "model.embed_tokens.weight") return signRows(shape[1], (row) => row, 0x3c00); // 1
    if (name === "lm_head.weight") return signRows(shape[1], known, 0x2c00); // 1/16
    const count = shape.reduce((a, b) => a * b);
    if (shape.length === 1) return [new Uint16Array(count).fill(0x3c00)];
    const chunk = /o_proj|down_proj/.test(name) ? tiny : ordinary;
    return Array.from({ length: Math.ceil(count / chunk.length) }, (_, i) =>
      chunk.subarray(0, Math.min(chunk.length, count - i * chunk.length)),
    );
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  const file = openSync(path.join(folder, "model.safetensors"), "w");
  try {
    const { text } = makeHeader(tensors);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeSync(file, length);
    writeSync(file, text);
    for (const [name, shape] of Object.entries(tensors)) writeHalves(file, values(name, shape));
  } finally {
    closeSync(file);
  }
}

function writeHalves(file, parts) {
  let gathered = [];
  const flush = () => {
    if (gathered.length > 0) writeSync(file, Buffer.concat(gathered));
    gathered = [];
  };
  for (const part of parts) {
    gathered.push(Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    if (gathered.length === 1024) flush();
  }
  flush();
}
