import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { availableMemoryBytes } from "../../dist/base/machine.js";
import { launchVariables } from "../support/ranks.js";

// What loading a divided model takes, on a checkpoint large enough that Node's own memory does not hide it.

const loader = fileURLToPath(new URL("../support/loading_process.js", import.meta.url));
const maker = fileURLToPath(new URL("../../bench/make_checkpoint.mjs", import.meta.url));
/** 303 million parameters in fp16: 606 MB. */
const shape = {
  model_type: "llama",
  architectures: ["LlamaForCausalLM"],
  hidden_act: "silu",
  hidden_size: 1536,
  num_hidden_layers: 8,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  intermediate_size: 5632,
  vocab_size: 16_384,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  torch_dtype: "float16",
};

interface Loading {
  ownBytes: number;
  peakBytes: number;
  readBytes: number;
  loadMs: number;
  memory: { weightBytes: number; kvCacheBytes: number; activationBytes: number }[];
}

async function execute(args: string[], variables: Record<string, string> = {}): Promise<string> {
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(code, 0, stderr);
  return stdout;
}

test("loading a divided model of 606 MB", async (t) => {
  if (!existsSync("/proc/self/io")) return t.skip("there is no /proc/self/io here");
  const { bavail, bsize } = await statfs(tmpdir());
  if (bavail * bsize < 1.5e9) return t.skip(`${tmpdir()} has no room for a checkpoint of 606 MB`);
  if (availableMemoryBytes() < 4e9) return t.skip("there is not enough memory for a model of 606 MB, twice");
  const folder = await mkdtemp(join(tmpdir(), "shardspeed-"));
  t.after(() => rm(folder, { recursive: true }));
  const config = join(folder, "shape.json");
  await writeFile(config, JSON.stringify(shape));
  const model = join(folder, "model");
  await execute([maker, config, model]);

  const load = async (tpSize: number, threads: number): Promise<Loading[]> => [
    JSON.parse(await execute([loader, model, `${tpSize}`, `${threads}`])),
  ];
  const loadInProcesses = async (tpSize: number): Promise<Loading[]> => {
    const variables = await launchVariables(tpSize);
    const ranks = Array.from({ length: tpSize }, (_, rank) =>
      execute([loader, model, `${tpSize}`, "1"], variables(rank)),
    );
    return (await Promise.all(ranks)).map((text) => JSON.parse(text));
  };
  let wholeBytes = 0;
  const report = (loadings: Loading[], what: string) => {
    const sum = (of: (loading: Loading) => number) => loadings.reduce((total, one) => total + of(one), 0);
    const memory = loadings[0]?.memory ?? [];
    const weightBytes = memory.reduce((total, rank) => total + rank.weightBytes, 0);
    const kvCacheBytes = memory.reduce((total, rank) => total + rank.kvCacheBytes, 0);
    if (wholeBytes === 0) wholeBytes = weightBytes;
    // Of each process what it took before it loaded anything is Node, and comes off.
    const peakBytes = sum(({ peakBytes, ownBytes }) => peakBytes - ownBytes);
    const readBytes = sum((one) => one.readBytes);
    const loadMs = Math.max(...loadings.map((one) => one.loadMs));
    t.diagnostic(
      `${what}: peak ${(peakBytes / 1e6).toFixed(0)} MB for ${(weightBytes / 1e6).toFixed(0)} + ${(kvCacheBytes / 1e6).toFixed(0)} MB, ` +
        `read ${(readBytes / 1e6).toFixed(0)} MB in ${loadMs.toFixed(0)} ms`,
    );
    assert.ok(weightBytes <= 1.01 * wholeBytes, `${what}: ${weightBytes} bytes of weights, ${wholeBytes} in one rank`);
    assert.ok(peakBytes <= 1.15 * (wholeBytes + kvCacheBytes), `${what}: peak of ${peakBytes} bytes`);
    // Each rank reads its slices, so the group reads the model once.
    assert.ok(readBytes <= 1.05 * wholeBytes + 2e7, `${what}: read ${readBytes} bytes`);
  };
  report(await load(1, 2), "one rank");
  for (const tpSize of [2, 3, 4]) report(await load(tpSize, 1), `${tpSize} threads`);
  for (const tpSize of [2, 3]) report(await loadInProcesses(tpSize), `${tpSize} processes`);
});
