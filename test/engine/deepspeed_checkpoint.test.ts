import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { recordingLogger } from "../support/fake_binding.js";
import { fixture, hasCode } from "../support/fixtures.js";
import { readGolden } from "../support/golden.js";
import {
  goldenWeights,
  part,
  run,
  type Tensor,
  type Tensors,
  takeCols,
  takeRows,
  transpose,
  writeSafetensors,
  writeTorch,
} from "../support/shard_writer.js";

// Checkpoints that a DeepSpeed checkpoint JSON names: whole, in shards, Megatron-LM's. Cut here, put together by the package.

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Log-probabilities are compared bit by bit: the weights are the same ones or not. */
async function whatItSays(model: string, options: object, tpSize = 1) {
  const config = { dtype: "fp32", tensor_parallel: { tp_size: tpSize } };
  await using engine = await initInference(model, { device: "cpu", threads: 1, config, ...options });
  const said = [];
  for (const { ids } of readGolden(model.split("/").at(-1) as string).prompts) {
    const { logprobs } = await engine.generate(ids, { maxNewTokens: 8, ignoreEos: true, logprobs: 1 });
    said.push(logprobs?.map(({ id, logprob }) => [id, logprob]));
  }
  return said;
}

async function checkSame(name: string, checkpoint: object | string, sizes = [1, 2], options: object = {}) {
  const model = fixture("golden", name);
  for (const tpSize of sizes) {
    const expected = await whatItSays(model, {}, tpSize);
    assert.deepEqual(await whatItSays(model, { checkpoint, ...options }, tpSize), expected, `tp_size ${tpSize}`);
  }
}

/** How a tensor of OPT, Llama or GPT-2 is cut among ranks; undefined: every rank has all of it. */
function cut(name: string, tensor: Tensor, rank: number, ranks: number): Tensor | undefined {
  const of = (size: number) => part(size, rank, ranks);
  const [first = 0, second = 0] = tensor.shape;
  if (/c_attn/.test(name)) {
    // Conv1D: (in, out), with queries, keys and values side by side.
    const size = (tensor.shape.at(-1) as number) / 3;
    const columns = [0, 1, 2].flatMap((block) => of(size).map((at) => block * size + at));
    return tensor.shape.length === 1 ? takeRows(tensor, columns) : takeCols(tensor, columns);
  }
  if (/c_fc/.test(name)) return tensor.shape.length === 1 ? takeRows(tensor, of(first)) : takeCols(tensor, of(second));
  if (/c_proj\.weight|h\.\d+\..*c_proj\.weight/.test(name)) return takeRows(tensor, of(first));
  if (/(q_proj|k_proj|v_proj|fc1|gate_proj|up_proj)\./.test(name)) return takeRows(tensor, of(first));
  if (/(out_proj|o_proj|fc2|down_proj)\.weight/.test(name)) return takeCols(tensor, of(second));
  return undefined;
}

describe("checkpoints in shards", () => {
  for (const [name, ranks] of [
    ["opt", 2],
    ["opt_post_ln", 4],
    ["gpt2", 2],
    ["gpt2_odd", 3],
    ["gpt2_heads", 5],
    ["llama", 2],
    ["llama_heads", 3],
    ["llama_bias", 2],
  ] as const) {
    test(`${name}: shards of ${ranks} ranks, with what is whole in files of its own`, async (t) => {
      const folder = makeFolder(t);
      const whole: Tensors = new Map();
      const shards = Array.from({ length: ranks }, () => new Map() as Tensors);
      for (const [key, tensor] of goldenWeights(name)) {
        if (cut(key, tensor, 0, ranks) === undefined) whole.set(key, tensor);
        else for (const [rank, shard] of shards.entries()) shard.set(key, cut(key, tensor, rank, ranks) as Tensor);
      }
      writeSafetensors(folder, "non-tp.safetensors", whole);
      for (const [rank, shard] of shards.entries()) writeTorch(folder, `tp_0${rank}_00.pt`, shard);
      const checkpoint = {
        type: "ds_model",
        checkpoints: { non_tp: ["non-tp.safetensors"], tp: run(0, ranks).map((rank) => `tp_0${rank}_00.pt`) },
        version: 1.0,
        parallelization: "tp",
        tp_size: ranks,
        base_dir: folder,
        dtype: "torch.float32",
      };
      await checkSame(name, checkpoint, [1, 2, 3]);
    });
  }

  test("a list, copies of what is whole in all of them, several files a rank", async (t) => {
    const folder = makeFolder(t);
    const names: string[][] = [[], []];
    const tensors = [...goldenWeights("opt")];
    const halves = [tensors.slice(0, 12), tensors.slice(12)];
    for (const [number, half] of halves.entries()) {
      for (const rank of [0, 1]) {
        const shard: Tensors = new Map(half.map(([key, tensor]) => [key, cut(key, tensor, rank, 2) ?? tensor]));
        writeSafetensors(folder, `tp_0${rank}_0${number}.safetensors`, shard);
        names[number]?.push(`tp_0${rank}_0${number}.safetensors`);
      }
    }
    // As DeepSpeed names them: all ranks of the first part, then those of the next.
    const json = { type: "bloom", checkpoints: names.flat(), version: 1, parallelization: "tp" };
    await checkSame("opt", { ...json, mp_size: 2, tp_size: 4 }, [1, 2], { baseDir: folder });
    const file = join(folder, "checkpoints.json");
    writeFileSync(file, JSON.stringify({ ...json, tp_size: 2 }));
    await checkSame("opt", file);
    const model = fixture("golden", "opt");
    const asFour = initInference(model, { device: "cpu", checkpoint: { ...json, base_dir: folder } });
    await assert.rejects(
      asFour,
      hasCode("ERR_CHECKPOINT", /is not in the files of rank \d, as it is in those of others: tp_size/),
    );
  });

  test("what no rank has alone in the file of rank 0 only", async (t) => {
    const folder = makeFolder(t);
    for (const rank of [0, 1]) {
      const shard: Tensors = new Map();
      for (const [key, tensor] of goldenWeights("opt")) {
        const part = cut(key, tensor, rank, 2) ?? (rank === 0 ? tensor : undefined);
        if (part !== undefined) shard.set(key, part);
      }
      writeSafetensors(folder, `${rank}.safetensors`, shard);
    }
    const checkpoints = ["0.safetensors", "1.safetensors"];
    const json = { type: "ds_model", checkpoints, version: 1, parallelization: "tp", base_dir: folder };
    await checkSame("opt", json);
  });

  test("shards that do not fit are an error with their shapes", async (t) => {
    const folder = makeFolder(t);
    const tensors = goldenWeights("opt");
    for (const rank of [0, 1]) {
      const shard: Tensors = new Map([...tensors].map(([key, tensor]) => [key, cut(key, tensor, rank, 3) ?? tensor]));
      writeSafetensors(folder, `${rank}.safetensors`, shard);
    }
    const checkpoint = {
      type: "ds_model",
      checkpoints: ["0.safetensors", "1.safetensors"],
      version: 1,
      parallelization: "tp",
    };
    await assert.rejects(
      initInference(fixture("golden", "opt"), { device: "cpu", checkpoint, baseDir: folder }),
      hasCode(
        "ERR_CHECKPOINT",
        /q_proj\.weight is in 2 shards of shape \[21, 64\], expected \[64, 64\] or shards that add up/,
      ),
    );
  });
});

describe("checkpoints of whole tensors", () => {
  const model = fixture("golden", "opt");

  test("a list of files, a string for a file, a string for a folder", async (t) => {
    const folder = makeFolder(t);
    const tensors = [...goldenWeights("opt")];
    writeTorch(folder, "one.bin", new Map(tensors.slice(0, 9)));
    writeTorch(folder, "two.bin", new Map(tensors.slice(9)));
    const json = { type: "ds_model", version: 1.0 };
    await checkSame("opt", { ...json, checkpoints: ["one.bin", "two.bin"], base_dir: folder });
    await checkSame("opt", { ...json, checkpoints: [join(folder, "one.bin"), join(folder, "two.bin")] });
    await checkSame("opt", { ...json, checkpoints: "model.safetensors" }); // found in the model's folder
    await checkSame("opt", { ...json, checkpoints: model });
  });

  test("what TorchServe's index lists beside the weights is left out, and said", async (t) => {
    const folder = makeFolder(t);
    writeTorch(folder, "pytorch_model.bin", goldenWeights("opt"));
    for (const name of ["optimizer.bin", "training_args.bin", "scheduler.bin"])
      writeFileSync(join(folder, name), "no weights");
    const checkpoints = ["optimizer.bin", "pytorch_model.bin", "scheduler.bin", "training_args.bin"];
    const logger = recordingLogger();
    await checkSame("opt", { type: "ds_model", checkpoints, version: 1.0 }, [1], { baseDir: folder, logger });
    assert.ok(
      logger.lines.some((line) => /left out "optimizer\.bin"/.test(line)),
      logger.lines.join("\n"),
    );
  });

  test("the JSON's base_dir, the option's, the JSON's folder: where the file is", async (t) => {
    const folder = makeFolder(t);
    writeTorch(folder, "weights.bin", goldenWeights("opt"));
    const json = { type: "ds_model", checkpoints: ["weights.bin"], version: 1.0 };
    const file = join(folder, "checkpoints.json");
    writeFileSync(file, JSON.stringify({ ...json, base_dir: "/nowhere/at/all" }));
    await checkSame("opt", file, [1]);
    await checkSame("opt", json, [1], { baseDir: folder });
    await checkSame("opt", { ...json, base_dir: folder }, [1], { baseDir: "/nowhere" });
    await assert.rejects(
      initInference(model, { device: "cpu", checkpoint: json, baseDir: "/nowhere" }),
      hasCode(
        "ERR_CHECKPOINT",
        /names "weights\.bin", which is not there\. Looked for \/nowhere\/weights\.bin, .*golden\/opt\/weights\.bin/,
      ),
    );
  });

  test("paths that repeat the end of the folder, whatever the working directory", async (t) => {
    const folder = join(makeFolder(t), "my models", "opt");
    mkdirSync(folder, { recursive: true });
    writeTorch(folder, "weights.bin", goldenWeights("opt"));
    const json = { type: "ds_model", checkpoints: ["./my models/opt/weights.bin"], version: 1.0 };
    await checkSame("opt", json, [1], { baseDir: `${folder}/` });
    await checkSame("opt", { ...json, checkpoints: ["opt/weights.bin"] }, [1], { baseDir: folder });
  });

  test("the config may name the checkpoint", async (t) => {
    const folder = makeFolder(t);
    writeTorch(folder, "weights.bin", goldenWeights("opt"));
    const checkpoint = { type: "ds_model", checkpoints: ["weights.bin"], version: 1.0 };
    const said = await whatItSays(model, { config: { dtype: "fp32", checkpoint, base_dir: folder } });
    assert.deepEqual(said, await whatItSays(model, {}));
  });
});

describe("what the config says of it", () => {
  const model = fixture("golden", "opt");
  const checkpoint = { type: "ds_model", checkpoints: ["model.safetensors"], version: 1 };

  test("the same in the options is fine, something else is not", async () => {
    await using engine = await initInference(model, {
      device: "cpu",
      checkpoint,
      config: { checkpoint: { ...checkpoint } },
    });
    assert.equal(engine.disposed, false);
    const other = { ...checkpoint, version: 2 };
    await assert.rejects(
      initInference(model, { device: "cpu", checkpoint, config: { checkpoint: other } }),
      hasCode("ERR_CONFIG", /Found checkpoint .* in the options and checkpoint .* in the DeepSpeed config/),
    );
    await assert.rejects(
      initInference(model, { device: "cpu", baseDir: "a", config: { base_dir: "b" } }),
      hasCode("ERR_CONFIG", /baseDir "a" in the options and base_dir "b"/),
    );
  });

  test("min_out_tokens that do not fit", async () => {
    const open = (tokens: number, options: object = {}) =>
      initInference(model, { device: "cpu", config: { min_out_tokens: tokens }, ...options });
    await (await open(128)).dispose();
    await assert.rejects(
      open(129),
      hasCode("ERR_CONFIG", /min_out_tokens 129, but sequences of no more than 128 tokens fit/),
    );
    await assert.rejects(open(100, { kvCacheBytes: 40_000 }), hasCode("ERR_CONFIG", /min_out_tokens 100/));
  });

  test("max_out_tokens bounds prompt and new tokens together", async () => {
    await using engine = await initInference(model, { device: "cpu", config: { max_tokens: 10 } });
    const prompt = [5, 6, 7, 8];
    assert.equal((await engine.generate(prompt, { maxNewTokens: 6, ignoreEos: true })).ids.length, 6);
    await assert.rejects(engine.generate(prompt, { maxNewTokens: 7 }), hasCode("ERR_CONTEXT_LENGTH"));
    await assert.rejects(engine.module.generate([prompt], { maxLength: 11 }), hasCode("ERR_CONTEXT_LENGTH"));
    await assert.rejects(engine.forward({ inputIds: [Array(11).fill(5)] }), hasCode("ERR_CONTEXT_LENGTH"));
  });
});

interface Megatron {
  version: number;
  /** Rows of [queries; keys; values] in the order that this version has them, for some heads. */
  rows(heads: readonly number[], headCount: number, headDim: number): number[];
}

const versions: Megatron[] = [
  {
    version: 0,
    rows: (heads, count, dim) =>
      [0, 1, 2].flatMap((block) => heads.flatMap((head) => run((block * count + head) * dim, dim))),
  },
  {
    version: 1,
    rows: (heads, count, dim) =>
      heads.flatMap((head) => run(0, dim).flatMap((at) => [0, 1, 2].map((block) => (block * count + head) * dim + at))),
  },
  {
    version: 2,
    rows: (heads, count, dim) =>
      heads.flatMap((head) => [0, 1, 2].flatMap((block) => run((block * count + head) * dim, dim))),
  },
];

/** A rank's part of a GPT-2 as Megatron-LM has it: nn.Linear's (out, in), cut by heads and neurons, a vocabulary filled up. */
function megatronShard(name: string, { rows }: Megatron, rank: number, ranks: number, padded: number): Tensors {
  const config = { gpt2: 4, gpt2_heads: 25, gpt2_odd: 3 }[name] as number;
  const shard: Tensors = new Map();
  for (const [key, tensor] of goldenWeights(name)) {
    const plain = key.replace(/^transformer\./, "");
    const layer = /^h\.(\d+)\./.exec(plain)?.[1];
    const turned = tensor.shape.length === 2 && layer !== undefined ? transpose(tensor) : tensor;
    const [first = 0, second = 0] = turned.shape;
    const put = (as: string, value: Tensor) =>
      shard.set(layer === undefined ? as : `transformer.layers.${layer}.${as}`, value);
    const suffix = plain.split(".").at(-1);
    if (plain === "wte.weight") {
      const filled = { shape: [padded, second], data: new Float32Array(padded * second) };
      filled.data.set(turned.data);
      put("embedding.word_embeddings.weight", takeRows(filled, part(padded, rank, ranks)));
    } else if (plain === "wpe.weight") put("embedding.position_embeddings.weight", turned);
    else if (/c_attn/.test(plain))
      put(
        `attention.query_key_value.${suffix}`,
        takeRows(turned, rows(part(config, rank, ranks), config, first / 3 / config)),
      );
    else if (/attn\.c_proj\.weight/.test(plain))
      put(
        "attention.dense.weight",
        takeCols(
          turned,
          part(config, rank, ranks).flatMap((head) => run((head * second) / config, second / config)),
        ),
      );
    else if (/attn\.c_proj\.bias/.test(plain)) put("attention.dense.bias", turned);
    else if (/c_fc/.test(plain)) put(`mlp.dense_h_to_4h.${suffix}`, takeRows(turned, part(first, rank, ranks)));
    else if (/mlp\.c_proj\.weight/.test(plain))
      put("mlp.dense_4h_to_h.weight", takeCols(turned, part(second, rank, ranks)));
    else if (/mlp\.c_proj\.bias/.test(plain)) put("mlp.dense_4h_to_h.bias", turned);
    else if (/ln_1/.test(plain)) put(`input_layernorm.${suffix}`, turned);
    else if (/ln_2/.test(plain)) put(`post_attention_layernorm.${suffix}`, turned);
    else if (/ln_f/.test(plain)) put(`transformer.final_layernorm.${suffix}`, turned);
  }
  return shard;
}

describe("Megatron-LM's checkpoints", () => {
  for (const layout of versions) {
    for (const [name, ranks] of [
      ["gpt2", 1],
      ["gpt2", 2],
      ["gpt2", 4],
      ["gpt2_odd", 3],
      ["gpt2_heads", 5],
    ] as const) {
      test(`version ${layout.version}: ${name} of ${ranks} ranks on 1, 2 and 3`, async (t) => {
        const folder = makeFolder(t);
        const rows = goldenWeights(name).get("transformer.wte.weight")?.shape[0] as number;
        const files = run(0, ranks).map((rank) => `mp_rank_0${rank}.pt`);
        for (const [rank, file] of files.entries()) {
          const shard = megatronShard(name, layout, rank, ranks, Math.ceil(rows / 128) * 128);
          // Megatron-LM puts modules into each other, Megatron-DeepSpeed has flat names.
          const nest = (key: string) => {
            const [module = "", rest = ""] = /^(embedding|transformer)\.(.*)$/.exec(key)?.slice(1) ?? [];
            return module === "embedding"
              ? ["language_model", module, ...rest.split(/\.(?=weight)/)]
              : ["language_model", module, rest];
          };
          writeTorch(folder, file, shard, {
            key: layout.version === 2 ? "model" : "module",
            ...(layout.version === 2 ? { nest } : {}),
            numbers: { mp_world_size: ranks },
          });
        }
        await checkSame(
          name,
          { type: "Megatron", checkpoints: files, version: layout.version, base_dir: folder },
          [1, 2, 3],
        );
      });
    }
  }

  test("without a version in the JSON the files' own counts, and 0 without that", async (t) => {
    const folder = makeFolder(t);
    const write = (name: string, layout: Megatron | undefined, numbers: Record<string, number>) =>
      writeTorch(folder, name, megatronShard("gpt2", layout as Megatron, 0, 1, 256), { key: "model", numbers });
    write("own.pt", versions[2], { checkpoint_version: 2 });
    write("none.pt", versions[0], {});
    const json = { type: "megatron", version: null, base_dir: folder };
    await checkSame("gpt2", { ...json, checkpoints: ["own.pt"] }, [1]);
    await checkSame("gpt2", { ...json, checkpoints: ["none.pt"] }, [1]);
    write("new.pt", versions[2], { checkpoint_version: 3 });
    const model = fixture("golden", "gpt2");
    const opening = (checkpoint: object, other = model) => initInference(other, { device: "cpu", checkpoint });
    await assert.rejects(
      opening({ ...json, checkpoints: ["new.pt"] }),
      hasCode("ERR_CHECKPOINT", /Megatron version 3, expected 0, 1.0 or 2.0/),
    );
    write("two.pt", versions[2], { mp_world_size: 2 });
    await assert.rejects(
      opening({ ...json, checkpoints: ["two.pt"] }),
      hasCode("ERR_CHECKPOINT", /files of 1 ranks, but the first of them says that 2 wrote/),
    );
    await assert.rejects(
      opening({ ...json, checkpoints: ["own.pt"] }, fixture("golden", "opt")),
      hasCode("ERR_UNSUPPORTED_MODEL", /Megatron-LM's GPT, expected a config\.json with model_type gpt2, found opt/),
    );
  });

  test("the names of the model's own class will do", async (t) => {
    const folder = makeFolder(t);
    writeTorch(folder, "a.pt", goldenWeights("opt"), { key: "module" });
    await checkSame("opt", { type: "Megatron", checkpoints: ["a.pt"], version: 0, base_dir: folder });
  });
});
