import assert from "node:assert/strict";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { enterModelFolder, resolveModelPath, runInModelFolder } from "../../dist/base/model_folder_scope.js";
import { AutoConfig, AutoTokenizer, MetaModel, type ModelConfig, modelFromConfig } from "../../dist/index.js";
import { demoModel, fixture, hasCode, readJson } from "../support/fixtures.js";

const demoConfig = () => AutoConfig.fromPretrained(demoModel);

describe("AutoConfig", () => {
  let folder: string;
  before(async () => {
    folder = await realpath(await mkdtemp(path.join(tmpdir(), "shardspeed-config-")));
  });
  after(() => rm(folder, { recursive: true }));

  test("is config.json as it stands, and nothing besides", async () => {
    const config = await demoConfig();
    assert.deepEqual(config, readJson(path.join(demoModel, "config.json")));
    assert.deepEqual(Reflect.ownKeys(config), Reflect.ownKeys(readJson(path.join(demoModel, "config.json"))));
  });

  const broken: [string, string | undefined, RegExp][] = [
    ["no config", undefined, /no config\.json/],
    ["no JSON", '{"model_type": }', /config\.json is not JSON: line 1, column 16/],
    ["a list", "[]", /expected config\.json to hold an object/],
    ["null", "null", /expected config\.json to hold an object/],
  ];
  for (const [name, text, message] of broken) {
    test(name, async () => {
      const target = path.join(folder, name);
      await mkdir(target);
      if (text !== undefined) await writeFile(path.join(target, "config.json"), text);
      await assert.rejects(AutoConfig.fromPretrained(target), hasCode("ERR_CHECKPOINT", message));
    });
  }

  test("a name of the Hub: nothing is downloaded, and where it was looked for", async () => {
    const name = "facebook/opt-30b";
    const places = `${path.resolve(name)} and ${path.join(folder, name)}`;
    await runInModelFolder(folder, async () => {
      for (const [load, code] of [
        [AutoConfig.fromPretrained, "ERR_CHECKPOINT"],
        [AutoTokenizer.fromPretrained, "ERR_TOKENIZER"],
      ] as const) {
        await assert.rejects(load(name), (error: Error) => {
          hasCode(code, /Nothing is downloaded/)(error);
          return error.message.includes(places);
        });
      }
    });
    for (const wrong of ["", undefined, 5, "a\0b"]) {
      const code = wrong === "a\0b" ? "ERR_CHECKPOINT" : "ERR_INVALID_ARGUMENT";
      await assert.rejects(AutoConfig.fromPretrained(wrong as never), hasCode(code));
      await assert.rejects(
        AutoTokenizer.fromPretrained(wrong as never),
        hasCode(wrong === "a\0b" ? "ERR_TOKENIZER" : code),
      );
    }
  });
});

describe("the current model folder", () => {
  const [parent, name] = [path.dirname(demoModel), path.basename(demoModel)];

  test("relative paths are looked for in it, after the working directory", async () => {
    assert.equal(await resolveModelPath(name), name, "as given where it is nowhere");
    await runInModelFolder(parent, async () => {
      assert.equal(await resolveModelPath(name), demoModel);
      assert.equal(await resolveModelPath(demoModel), demoModel);
      assert.equal(await resolveModelPath("package.json"), "package.json", "the working directory is first");
      assert.equal((await AutoTokenizer.fromPretrained(name)).vocabSize, 4096);
      const config = await AutoConfig.fromPretrained(name);
      assert.equal(modelFromConfig(config).folder, demoModel);
    });
    assert.equal(await resolveModelPath(name), name, "as before behind it");
  });

  test("a base class's async initialize sets it for what follows its call", async () => {
    const initialize = async () => {
      enterModelFolder(parent);
      await new Promise(setImmediate);
    };
    const handler = async () => {
      await initialize();
      return resolveModelPath(name);
    };
    assert.equal(await runInModelFolder("/", handler), demoModel);
    assert.equal(await resolveModelPath(name), name, "and for nothing else");
  });
});

describe("modelFromConfig", () => {
  test("describes the model of a config", async () => {
    const config = await demoConfig();
    const model = modelFromConfig(config, { dtype: "float16" });
    assert.ok(MetaModel.isInstance(model));
    assert.equal(model.info.family, "opt");
    assert.equal(model.info.layers, 4);
    assert.equal(model.device, "meta");
    assert.equal(model.dtype, "float16");
    assert.equal(model.folder, demoModel);
    assert.equal(model.eval(), model);
    assert.deepEqual(model.config, config);
    config.num_hidden_layers = 5;
    assert.equal(model.config.num_hidden_layers, 4, "a copy");
    assert.equal(modelFromConfig({ ...config }).folder, undefined, "only what AutoConfig made has a folder");
    for (const other of [null, undefined, "model", {}, config]) assert.ok(!MetaModel.isInstance(other));
  });

  test("dtype by the names of torch and DeepSpeed", async () => {
    const config = await AutoConfig.fromPretrained(fixture("golden", "opt_bf16"));
    const names: Record<string, string[]> = {
      float16: ["float16", "torch.float16", "fp16", "half", "torch.half", "FP16"],
      bfloat16: ["bfloat16", "torch.bfloat16", "bf16", "bfloat"],
      float32: ["float32", "torch.float32", "fp32", "float", "torch.float"],
    };
    for (const [dtype, spellings] of Object.entries(names)) {
      for (const spelling of spellings) assert.equal(modelFromConfig(config, { dtype: spelling }).dtype, dtype);
    }
    assert.equal(modelFromConfig(config).dtype, "bfloat16", "the config's");
    assert.equal(modelFromConfig({ ...config, dtype: undefined, torch_dtype: undefined }).dtype, undefined);
    for (const dtype of ["int8", "float64", "", 16, null]) {
      assert.throws(() => modelFromConfig(config, { dtype } as never), hasCode("ERR_INVALID_ARGUMENT", /dtype/));
    }
    assert.throws(
      () => modelFromConfig(config, { dtyp: "fp16" } as never),
      hasCode("ERR_INVALID_ARGUMENT", /Did you mean dtype\?/),
    );
  });

  test("a size that no memory here could hold", async () => {
    const config = { ...(await demoConfig()), num_hidden_layers: 96, hidden_size: 12288, ffn_dim: 49152 };
    const { spec } = modelFromConfig({ ...config, word_embed_proj_dim: 12288, num_attention_heads: 96 });
    assert.equal(spec.hiddenSize, 12288);
  });

  test("what is no config", async () => {
    const config = await demoConfig();
    const wrong: unknown[] = [
      ...[undefined, null, 5, "opt", [], {}],
      { model_type: "mystery" },
      { ...config, hidden_size: "wide" },
      { ...config, from_json: () => config },
    ];
    for (const one of wrong) assert.throws(() => modelFromConfig(one as ModelConfig), hasCode("ERR_UNSUPPORTED_MODEL"));
  });

  test("any object: a meta model or a typed error", async () => {
    const config = await demoConfig();
    const keys = Object.keys(config);
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys), fc.jsonValue(), { maxKeys: 4 }), (changes) => {
        try {
          assert.ok(MetaModel.isInstance(modelFromConfig({ ...config, ...changes })));
        } catch (error) {
          hasCode("ERR_UNSUPPORTED_MODEL")(error);
        }
      }),
    );
  });
});
