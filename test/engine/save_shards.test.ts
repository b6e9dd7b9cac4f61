import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { initInference, type LoadProgress } from "../../dist/index.js";
import { fixture, hasCode } from "../support/fixtures.js";
import { readGolden, variants } from "../support/golden.js";
import { endRanks, startRanks } from "../support/ranks.js";
import { mostRanksOf } from "../support/requests.js";
import { goldenWeights, type Tensor, takeCols, takeRows, writeSafetensors } from "../support/shard_writer.js";
import { readAnyTensors } from "../support/stored_tensors.js";

// save_mp_checkpoint_path: what is written loads again, on any number of ranks.

function makeFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const index = "ds_inference_config.json";

function save(model: string, folder: string, tpSize: number, options: object = {}, dtype = "fp32") {
  const config = { dtype, tensor_parallel: { tp_size: tpSize }, save_mp_checkpoint_path: folder };
  return initInference(model, { device: "cpu", threads: 1, config, ...options });
}

async function whatItSays(model: string, tpSize: number, options: object, dtype = "fp32") {
  const config = { dtype, tensor_parallel: { tp_size: tpSize } };
  await using engine = await initInference(model, { device: "cpu", threads: 1, config, ...options });
  const ids = readGolden(model.split("/").at(-1) as string).prompts[0]?.ids as number[];
  const { logprobs } = await engine.generate(ids, { maxNewTokens: 8, ignoreEos: true, logprobs: 1 });
  return logprobs?.map(({ id, logprob }) => [id, logprob]);
}

describe("saved on some ranks, loaded on others", () => {
  for (const name of variants) {
    test(name, async (t) => {
      const model = fixture("golden", name);
      const folder = makeFolder(t);
      for (const from of [1, 2, 3]) {
        const engine = await save(model, join(folder, String(from)), from).catch((error) => {
          if (/tp_size/.test(error.message)) return undefined; // more ranks than heads
          throw error;
        });
        if (engine === undefined) continue;
        const largest = mostRanksOf(engine.module.info);
        await engine.dispose();
        const checkpoint = join(folder, String(from), index);
        // Bit by bit what the original gives on as many ranks.
        for (const to of [1, 2].filter((size) => size <= largest))
          assert.deepEqual(
            await whatItSays(model, to, { checkpoint }),
            await whatItSays(model, to, {}),
            `${from} to ${to}`,
          );
      }
    });
  }
});

test("the files: DeepSpeed's index, tensors under the names of the model's class, in the engine's dtype", async (t) => {
  const folder = join(makeFolder(t), "new", "folder");
  const seen: LoadProgress[] = [];
  const engine = await save(
    fixture("golden", "gpt2_fp32"),
    folder,
    2,
    { onProgress: (at: LoadProgress) => seen.push(at) },
    "fp16",
  );
  await engine.dispose();
  assert.deepEqual(readdirSync(folder).sort(), [
    index,
    "non-tp.safetensors",
    "tp_00_00.safetensors",
    "tp_01_00.safetensors",
  ]);
  assert.deepEqual(JSON.parse(readFileSync(join(folder, index), "utf8")), {
    type: "ds_model",
    base_dir: folder,
    checkpoints: { non_tp: ["non-tp.safetensors"], tp: ["tp_00_00.safetensors", "tp_01_00.safetensors"] },
    version: 1,
    parallelization: "tp",
    tp_size: 2,
    dtype: "torch.float16",
  });
  const whole = readAnyTensors(fixture("golden", "gpt2_fp32", "model.safetensors"));
  const hidden = whole.get("transformer.ln_f.weight")?.shape[0] as number;
  const shards = [0, 1].map((rank) => readAnyTensors(join(folder, `tp_0${rank}_00.safetensors`)));
  const common = readAnyTensors(join(folder, "non-tp.safetensors"));
  const names = [...new Set([...common.keys(), ...(shards[0] as typeof common).keys()])].sort();
  assert.deepEqual(names, [...whole.keys()].filter((name) => !/lm_head/.test(name)).sort());
  for (const shard of shards) {
    assert.deepEqual(shard.get("transformer.h.0.attn.c_attn.weight")?.shape, [hidden, (3 * hidden) / 2]);
    assert.deepEqual(shard.get("transformer.h.0.attn.c_proj.weight")?.shape, [hidden / 2, hidden]);
  }
  const raw = readFileSync(join(folder, "tp_00_00.safetensors"));
  assert.match(raw.subarray(8, 200).toString(), /"dtype":"F16"/);
  const saves = seen.filter((at) => at.phase === "save");
  const last = saves.at(-1);
  assert.ok(last && last.savedBytes === last.totalBytes && last.totalBytes > 0, JSON.stringify(saves));
});

test("a folder that was moved, and one that is saved into again", async (t) => {
  const model = fixture("golden", "opt");
  const folder = makeFolder(t);
  for (const size of [4, 2]) await (await save(model, join(folder, "old"), size)).dispose();
  renameSync(join(folder, "old"), join(folder, "new"));
  assert.deepEqual(
    await whatItSays(model, 1, { checkpoint: join(folder, "new", index) }),
    await whatItSays(model, 1, {}),
  );
});

test("a shard of one neuron", async (t) => {
  const model = join(makeFolder(t), "gpt2");
  mkdirSync(model);
  const config = JSON.parse(readFileSync(fixture("golden", "gpt2", "config.json"), "utf8"));
  writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, n_inner: 2 }));
  const narrow = [...goldenWeights("gpt2")].map(([name, tensor]): [string, Tensor] => {
    if (/mlp\.c_fc\.bias$|mlp\.c_proj\.weight$/.test(name)) return [name, takeRows(tensor, [0, 1])];
    return [name, /mlp\.c_fc\.weight$/.test(name) ? takeCols(tensor, [0, 1]) : tensor];
  });
  writeSafetensors(model, "model.safetensors", new Map(narrow));
  const folder = makeFolder(t);
  await (await save(model, folder, 2)).dispose();
  assert.deepEqual(await whatItSays(model, 1, { checkpoint: join(folder, index) }), await whatItSays(model, 1, {}));
});

test("shards of shards: what was loaded from shards is saved again", async (t) => {
  const model = fixture("golden", "llama_groups");
  const folder = makeFolder(t);
  await (await save(model, join(folder, "four"), 4)).dispose();
  const checkpoint = join(folder, "four", index);
  await (await save(model, join(folder, "three"), 3, { checkpoint })).dispose();
  const again = join(folder, "three", index);
  assert.deepEqual(await whatItSays(model, 2, { checkpoint: again }), await whatItSays(model, 2, {}));
});

test("ranks that are processes write a file each, and rank 0 the rest", async (t) => {
  const model = fixture("golden", "opt");
  const folder = makeFolder(t);
  const config = { dtype: "fp32", tensor_parallel: { tp_size: 3 }, save_mp_checkpoint_path: folder };
  const ranks = await startRanks(3, () => ({
    models: [model],
    tpSize: 3,
    prompt: [5, 6],
    maxNewTokens: 2,
    options: { config },
  }));
  try {
    for (const rank of ranks) assert.equal((await rank.ended).code, 0, rank.stderr);
  } finally {
    await endRanks(ranks);
  }
  assert.equal(readdirSync(folder).length, 5);
  assert.deepEqual(await whatItSays(model, 2, { checkpoint: join(folder, index) }), await whatItSays(model, 2, {}));
});

describe("what goes wrong leaves nothing behind", () => {
  const model = fixture("golden", "opt");

  test("a folder that cannot be made", async (t) => {
    const file = join(makeFolder(t), "file");
    writeFileSync(file, "");
    await assert.rejects(save(model, join(file, "sub"), 2), hasCode("ERR_CHECKPOINT", /file\/sub: cannot be made: /));
  });

  test("a folder where nothing can be made", { skip: !existsSync("/proc/self") }, async () => {
    await assert.rejects(
      save(model, "/proc/shards/two", 2),
      hasCode("ERR_CHECKPOINT", /\/proc\/shards\/two: cannot be made: /),
    );
  });

  test("the files that the weights are read from stay what they are", async (t) => {
    const folder = makeFolder(t);
    await (await save(model, folder, 2)).dispose();
    const before = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "latin1")]);
    const link = join(makeFolder(t), "link");
    symlinkSync(folder, link);
    for (const [target, size] of [
      [folder, 4],
      [link, 1],
    ] as const) {
      await assert.rejects(
        save(model, target, size, { checkpoint: join(folder, index) }),
        hasCode("ERR_CHECKPOINT", /non-tp\.safetensors: is where the weights are read from/),
      );
    }
    assert.deepEqual(
      readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "latin1")]),
      before,
    );
  });

  test("shards of which some were replaced are no checkpoint any more", async (t) => {
    const folder = makeFolder(t);
    await (await save(model, folder, 2)).dispose();
    const fail = ({ phase }: LoadProgress) => {
      if (phase === "save" && !existsSync(join(folder, index))) throw new RangeError("mine");
    };
    await assert.rejects(save(model, folder, 2, { onProgress: fail }), /^RangeError: mine$/);
    assert.ok(!readdirSync(folder).includes(index));
  });

  test("a file that cannot be replaced", async (t) => {
    const folder = makeFolder(t);
    mkdirSync(join(folder, "tp_01_00.safetensors", "full"), { recursive: true });
    await assert.rejects(save(model, folder, 2), hasCode("ERR_CHECKPOINT", /tp_01_00\.safetensors: cannot be written/));
    assert.deepEqual(
      readdirSync(folder).filter((name) => !name.endsWith(".safetensors")),
      [],
    );
  });

  test("a signal, and an error of onProgress", async (t) => {
    const folder = makeFolder(t);
    const controller = new AbortController();
    const stop = () => controller.abort();
    await assert.rejects(
      save(model, folder, 2, { signal: controller.signal, onProgress: stop }),
      hasCode("ERR_ABORTED"),
    );
    const fail = ({ phase }: LoadProgress) => {
      if (phase === "save") throw new RangeError("mine");
    };
    await assert.rejects(save(model, folder, 2, { onProgress: fail }), /^RangeError: mine$/);
    assert.deepEqual(
      readdirSync(folder).filter((name) => !/^(non-tp|tp_\d\d_00)\.safetensors$/.test(name)),
      [],
    );
  });

  test("a source that becomes shorter", async (t) => {
    const copy = join(makeFolder(t), "opt");
    cpSync(model, copy, { recursive: true });
    const folder = makeFolder(t);
    const shorten = ({ phase }: LoadProgress) => {
      if (phase === "save") writeFileSync(join(copy, "model.safetensors"), "short");
    };
    await assert.rejects(
      save(copy, folder, 2, { onProgress: shorten }),
      hasCode("ERR_CHECKPOINT", /model\.safetensors/),
    );
    assert.ok(!readdirSync(folder).includes(index));
  });
});
