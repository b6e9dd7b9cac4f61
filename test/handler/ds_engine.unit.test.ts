import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { openDsEngine } from "../../dist/handler/ds_engine.js";
import { Context } from "../../dist/index.js";
import { Scratch } from "../checkpoint/support.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";

const scratch = new Scratch();

interface Row {
  name: string;
  modelYamlConfig: unknown;
  error?: string;
  message?: string;
  initInference?: { kwargs: { config: string | null; base_dir: string; checkpoint: string | null } };
  filesAfter: string[];
}

interface Call {
  model: unknown;
  options: Record<string, unknown>;
}

/** What is said where the original shows Python's own error, or goes wrong later. */
const clearer: Readonly<Record<string, RegExp>> = {
  empty: /opt: .*no key handler\. Add it/,
  none: /opt: .*a map with a key handler, found null/,
  "no handler": /opt: .*no key handler\./,
  "handler without model_path": /opt: .*no key handler\.model_path/,
  "deepspeed null": /opt: .*deepspeed.*a map, found null/,
  "config empty string": /opt: .*deepspeed\.config.*is a folder/,
  "model_path null": /opt: .*handler\.model_path.*found null/,
  "config is a number": /opt: .*deepspeed\.config.*found 3/,
};

async function open(files: Record<string, string>, yaml: unknown, folder = scratch.folder(files)) {
  const calls: Call[] = [];
  const modelYamlConfig = JSON.parse(JSON.stringify(yaml).replaceAll("<dir>", folder));
  const context = new Context({ modelName: "opt", modelDir: folder, modelYamlConfig });
  const opened = openDsEngine("MODEL", context, async (model, options) => {
    const { logger, ...others } = options as Record<string, unknown>;
    calls.push({ model, options: others });
    return "engine";
  });
  return { folder, calls, opened };
}

const files = { "ds-config.json": '{"dtype": "torch.float16"}', "m/pytorch_model.bin": "" };

function list(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[]).filter((name) => path.extname(name) !== "").sort();
}

describe("as get_ds_engine of TorchServe", () => {
  for (const row of readJson<Row[]>(fixture("deepspeed", "engine_cases.json"))) {
    test(row.name, async () => {
      const { folder, calls, opened } = await open(files, row.modelYamlConfig);
      const better = clearer[row.name];
      if (row.error === "ValueError") {
        const message = row.message?.replace("<dir>", folder);
        await assert.rejects(opened, { code: "ERR_CONFIG", message });
      } else if (better) {
        await assert.rejects(opened, hasCode("ERR_CONFIG", better));
      } else if (row.error === "FileNotFoundError") {
        await assert.rejects(opened, hasCode("ERR_CHECKPOINT", new RegExp(`${folder}/sub: `)));
      } else {
        assert.equal(await opened, "engine");
        const { config, checkpoint } = row.initInference?.kwargs ?? {};
        const inFolder = (value: string) => value.replace("<dir>", folder);
        assert.deepEqual(calls, [
          {
            model: "MODEL",
            options: {
              ...(config ? { config: inFolder(config) } : {}),
              ...(checkpoint ? { checkpoint: inFolder(checkpoint) } : {}),
              baseDir: `${folder}/m`,
            },
          },
        ]);
      }
      assert.deepEqual(list(folder), row.filesAfter);
      if (existsSync(`${folder}/checkpoints.json`)) {
        const { checkpoints } = readJson<{ checkpoints: string[] }>(`${folder}/checkpoints.json`);
        assert.deepEqual(checkpoints, [`${folder}/m/pytorch_model.bin`]);
      }
    });
  }
});

describe("what is better here", () => {
  const yaml = { handler: { model_path: "m" }, deepspeed: { checkpoint: "c.json" } };
  const trees: [string, string[], string[]][] = [
    ["safetensors", ["model.safetensors", "training_args.bin"], ["model.safetensors"]],
    ["pt", ["a.pt", "b.pt", "optimizer.pt"], ["a.pt", "b.pt"]],
    ["bin before safetensors", ["pytorch_model.bin", "model.safetensors", "optimizer.bin"], ["pytorch_model.bin"]],
  ];
  for (const [name, names, expected] of trees) {
    test(`the index of a folder with ${name}`, async () => {
      const { folder, opened } = await open(Object.fromEntries(names.map((one) => [`m/${one}`, ""])), yaml);
      await opened;
      const { checkpoints } = readJson<{ checkpoints: string[] }>(`${folder}/c.json`);
      assert.deepEqual(
        checkpoints,
        expected.map((one) => `${folder}/m/${one}`),
      );
    });
  }

  test("ranks may write the index at the same time", async () => {
    const folder = scratch.folder(files);
    const ranks = await Promise.all(Array.from({ length: 8 }, () => open(files, yaml, folder)));
    await Promise.all(ranks.map(({ opened }) => opened));
    assert.deepEqual(list(folder), ["c.json", "ds-config.json", "m/pytorch_model.bin"]);
  });

  test("deviceType", async () => {
    const on = async (deviceType: string) => {
      const { calls, opened } = await open(files, { ...yaml, deviceType });
      await opened;
      return calls[0]?.options.device;
    };
    assert.equal(await on("cpu"), "cpu");
    assert.equal(await on("CPU"), "cpu"); // as the check of the yaml has it
    assert.equal(await on("gpu"), "cuda"); // an error where there is none, as docs/model-config.md says
    assert.equal(await on("GPU"), "cuda");
    assert.equal(await on("auto"), undefined);
  });

  test("a model in the model folder", async () => {
    const folder = scratch.folder(files);
    const context = new Context({ modelName: "opt", modelDir: folder, modelYamlConfig: yaml });
    assert.equal(await openDsEngine("m", context, async (model) => model), path.join(folder, "m"));
  });

  test("a model_path that is not there, and no context", async () => {
    const missing = await open(files, { ...yaml, handler: { model_path: "none" } });
    await assert.rejects(missing.opened, hasCode("ERR_CHECKPOINT", new RegExp(`${missing.folder}/none`)));
    assert.deepEqual(missing.calls, []);
    const init = async () => "engine";
    await assert.rejects(openDsEngine("m", {} as Context, init), hasCode("ERR_INVALID_ARGUMENT", /ctx/));
    await assert.rejects(openDsEngine("m", null as unknown as Context, init), hasCode("ERR_INVALID_ARGUMENT", /ctx/));
  });
});

test("ranks of the yaml beyond tp_size are a warning", async () => {
  const said: string[] = [];
  const logger = { debug() {}, info() {}, warn: (message: string) => void said.push(message), error() {} };
  const open = async (settings: object, config: string) => {
    const modelDir = scratch.folder({ "ds-config.json": config, "m/pytorch_model.bin": "" });
    const modelYamlConfig = { handler: { model_path: "m" }, deepspeed: { config: "ds-config.json" }, ...settings };
    said.length = 0;
    await openDsEngine("MODEL", new Context({ modelName: "opt", modelDir, modelYamlConfig, logger }), async () => "");
    return said.join("\n");
  };
  const two = '{ "tensor_parallel": { "tp_size": 2 } }';
  const four = { torchrun: { "nproc-per-node": 4 }, parallelType: "tp" };
  assert.match(
    await open(four, two),
    /opt: torchrun\.nproc-per-node is 4, and .* among 2 ranks: the others would be idle/,
  );
  assert.match(
    await open(four, "{}"),
    /among 1 rank: .*Set tensor_parallel\.tp_size to 4, or torchrun\.nproc-per-node to 1/,
  );
  assert.match(await open({ parallelLevel: 3 }, two), /parallelLevel is 3/);
  for (const settings of [{}, { torchrun: { "nproc-per-node": 2 } }, { parallelLevel: 1 }])
    assert.equal(await open(settings, two), "");
});
