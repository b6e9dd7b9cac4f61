import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import {
  Context,
  type InitOptions,
  initInference,
  openModel,
  type PackOptions,
  packArchive,
  TextGenerationHandler,
} from "../../dist/index.js";
import { demoModel, hasCode } from "../support/fixtures.js";

/** Tells what it sees, and what becomes of it, by files beside the archive that it was packed into. */
const handlerSource = `
import { appendFileSync } from "node:fs";
const note = (word) => appendFileSync(process.env.OPEN_MODEL_TEST_LOG, word + "\\n");
export class Seen {
  async initialize(ctx) {
    this.context = ctx;
    note("initialize");
    const mode = ctx.modelYamlConfig.handler?.mode;
    if (mode === "throw") throw new Error("no such luck in " + ctx.systemProperties.model_dir + "/weights");
    if (mode === "wait") await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
  }
  handle(data, ctx) {
    const { modelName, manifest, modelYamlConfig, systemProperties } = this.context;
    return data.map(() => ({ modelName, manifest, yaml: modelYamlConfig, system: systemProperties, id: ctx.getRequestId(0) }));
  }
  dispose() { note("dispose"); }
}
`;

let folder: string;
let log: string;
const leftOver = () => readdirSync(path.join(folder, "tmp"));

/** What the handler has noted since the last call. */
function noted(): string[] {
  if (!existsSync(log)) return [];
  const words = readFileSync(log, "utf8").trim().split("\n");
  rmSync(log);
  return words;
}

let count = 0;

/** An archive of the handler above with this model-config.yaml. */
async function pack(yaml: string | undefined, options: Partial<PackOptions> = {}): Promise<string> {
  const own = mkdtempSync(path.join(folder, `archive-${count++}-`));
  const handler = path.join(own, "seen.mjs");
  writeFileSync(handler, handlerSource);
  if (yaml !== undefined) writeFileSync(path.join(own, "model-config.yaml"), yaml);
  const made = await packArchive({
    modelName: "seen",
    version: "2.1",
    handler,
    exportPath: own,
    ...(yaml === undefined ? {} : { configFile: path.join(own, "model-config.yaml") }),
    ...options,
  });
  return made.path;
}

const outside = process.env.TMPDIR;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "shardspeed-open-"));
  log = path.join(folder, "log");
  process.env.OPEN_MODEL_TEST_LOG = log;
  process.env.TMPDIR = path.join(folder, "tmp");
  mkdirSync(process.env.TMPDIR);
});
after(() => {
  if (outside === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = outside;
  delete process.env.OPEN_MODEL_TEST_LOG;
  rmSync(folder, { recursive: true });
});

async function answer(location: string, options?: Parameters<typeof openModel>[1]) {
  await using model = await openModel(location, options);
  const { code, message, responses } = await model.service.predict([{ id: "one", data: {} }]);
  assert.equal(code, 200, message);
  return { model, answer: JSON.parse(String(responses[0]?.body)) };
}

describe("a model is opened from", () => {
  const yaml = "batchSize: 3\nhandler: {mode: plain, n: 1}\n";
  for (const archiveFormat of ["default", "zip-store", "tgz", "no-archive"] as const) {
    test(`an archive, ${archiveFormat}: its handler is told of name, version, yaml and folder, and nothing stays`, async () => {
      const file = await pack(yaml, { archiveFormat });
      const { model, answer: seen } = await answer(file);
      assert.deepEqual([model.name, model.version, model.settings.batchSize], ["seen", "2.1", 3]);
      assert.equal(seen.modelName, "seen");
      assert.equal(seen.manifest.model.modelVersion, "2.1");
      assert.deepEqual(seen.yaml, { batchSize: 3, handler: { mode: "plain", n: 1 } });
      assert.equal(seen.system.batch_size, 3);
      assert.equal(seen.system.model_dir, model.folder);
      assert.equal(seen.system.gpu_id, null);
      assert.equal(seen.id, "one");
      await model.dispose(); // once more
      assert.deepEqual(noted(), ["initialize", "dispose"]);
      assert.deepEqual(leftOver(), []);
      assert.equal(existsSync(model.folder), archiveFormat === "no-archive");
    });
  }

  test("an archive without a yaml, under another name, with settings that go before", async () => {
    const file = await pack(undefined);
    const settings = { batchSize: 8, "handler.n": 5, continuousBatching: true, responseTimeout: undefined };
    const { model, answer: seen } = await answer(file, { modelName: "other", gpuId: 1, settings });
    assert.deepEqual([seen.modelName, seen.system.batch_size, seen.system.gpu_id], ["other", 8, 1]);
    assert.deepEqual(seen.yaml, { batchSize: 8, continuousBatching: true, handler: { n: 5 } });
    assert.equal(model.service.overlaps, true);
    assert.equal(model.settings.responseTimeout, 120);
    noted();
  });

  test("a yaml in place of its own, and settings before that", async () => {
    const file = await pack(yaml);
    const other = path.join(folder, "other.yaml");
    writeFileSync(other, "batchSize: 4\ncontinuousBatching: true\nhandler: {n: 2, m: 3}\n");
    const settings = { continuousBatching: false, "handler.n": 7 };
    const { model, answer: seen } = await answer(file, { modelConfigYaml: other, settings });
    assert.deepEqual(seen.yaml, { batchSize: 4, continuousBatching: false, handler: { n: 7, m: 3 } });
    assert.equal(model.service.overlaps, false);
    noted();
  });

  test("a model folder without anything else: the handler for text", async () => {
    await using model = await openModel(demoModel, { settings: { deviceType: "cpu", "handler.max_new_tokens": 8 } });
    const { responses } = await model.service.predict([{ id: "a", data: { body: "It is" } }]);
    await using engine = await initInference(demoModel, { device: "cpu" });
    assert.equal(String(responses[0]?.body), (await engine.generate("It is", { maxNewTokens: 8 })).text);
  });

  test("a folder with a yaml only, which names the model and the handler", async () => {
    const own = mkdtempSync(path.join(folder, "yaml-"));
    const lines = ["deviceType: cpu", "handler:", "  type: TextGenerationHandler", `  model_path: ${demoModel}`];
    writeFileSync(path.join(own, "model-config.yaml"), lines.join("\n"));
    await using model = await openModel(own);
    assert.ok(model.name.startsWith("yaml-"));
    assert.equal((await model.service.predict([{ id: "a", data: { body: "It is" } }])).code, 200);
  });
});

describe("a model that cannot be opened leaves nothing", () => {
  test("where its handler cannot be initialised: the message names the archive", async () => {
    const file = await pack("handler: {mode: throw}\n");
    await assert.rejects(openModel(file), (error: Error) => {
      hasCode("ERR_HANDLER", /Seen could not initialise: no such luck/)(error);
      assert.ok(error.message.endsWith(`${file}: weights`), error.message);
      return true;
    });
    assert.deepEqual(noted(), ["initialize", "dispose"]);
    assert.deepEqual(leftOver(), []);
  });

  test("where the yaml, the handler or the options are wrong", async () => {
    const wrong: [string, Parameters<typeof openModel>[1], string, RegExp][] = [
      [await pack("batchSize: x\n"), {}, "ERR_CONFIG", /seen\.mar: model-config\.yaml:1:12: batchSize/],
      [await pack("minWorkers: 3\n"), { settings: { maxWorkers: 2 } }, "ERR_CONFIG", /maxWorkers.*minWorkers/],
      [await pack(""), { handlerMap: { "seen.mjs": "nowhere" } }, "ERR_HANDLER", /nowhere for seen\.mjs/],
      [await pack(""), { modelConfigYaml: "/nowhere.yaml" }, "ERR_CONFIG", /nowhere\.yaml/],
      [path.join(folder, "nowhere.mar"), {}, "ERR_ARCHIVE", /nowhere\.mar/],
      [mkdtempSync(path.join(folder, "nothing-")), {}, "ERR_HANDLER", /default_service_handler/],
      [demoModel, { settings: { batchSiz: 1 } }, "ERR_INVALID_ARGUMENT", /batchSiz.*batchSize/],
      [demoModel, { modelname: "x" } as never, "ERR_INVALID_ARGUMENT", /modelname.*modelName/],
      [demoModel, { modelName: "" }, "ERR_INVALID_ARGUMENT", /modelName/],
      [demoModel, { settings: 3 as never }, "ERR_INVALID_ARGUMENT", /Expected settings to be an object, found 3/],
      [
        demoModel,
        { handlerMap: null as never },
        "ERR_INVALID_ARGUMENT",
        /Expected handlerMap to be an object, found null/,
      ],
      [demoModel, { gpuId: 1.5 }, "ERR_INVALID_ARGUMENT", /gpuId/],
      [demoModel, { signal: 1 as never }, "ERR_INVALID_ARGUMENT", /signal/],
      [undefined as never, {}, "ERR_INVALID_ARGUMENT", /location/],
    ];
    for (const [location, options, code, message] of wrong) {
      await assert.rejects(openModel(location, options), hasCode(code as "ERR_CONFIG", message));
      assert.deepEqual(leftOver(), [], String(message));
    }
    assert.deepEqual(noted(), []);
  });

  test("where its signal aborts, before and while the handler is initialised", async () => {
    const file = await pack("handler: {mode: wait}\n");
    await assert.rejects(openModel(file, { signal: AbortSignal.abort() }), hasCode("ERR_ABORTED", /cancelled/));
    assert.deepEqual(noted(), []);
    const controller = new AbortController();
    const opening = openModel(file, { signal: controller.signal });
    const aborted = assert.rejects(opening, hasCode("ERR_ABORTED", /opening of seen was cancelled/));
    while (!existsSync(log)) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    await aborted;
    assert.deepEqual(noted(), ["initialize", "dispose"]);
    assert.deepEqual(leftOver(), []);
  });
});

test("the shipped handler hands the signal on to what loads the model", async () => {
  const { signal } = new AbortController();
  const modelDir = mkdtempSync(path.join(folder, "signal-"));
  writeFileSync(path.join(modelDir, "ds-config.json"), "{}");
  for (const more of [{}, { deepspeed: { config: "ds-config.json" } }]) {
    const seen: (AbortSignal | undefined)[] = [];
    const handler = new TextGenerationHandler(async (_model, options: InitOptions) => {
      seen.push(options.signal);
      return { module: {} } as never;
    });
    const modelYamlConfig = { handler: { model_path: demoModel }, ...more };
    await handler.initialize(new Context({ modelName: "m", modelDir, modelYamlConfig, signal }));
    await handler.initialize(new Context({ modelName: "m", modelDir, modelYamlConfig }));
    assert.deepEqual(seen, [signal, undefined]);
  }
});
