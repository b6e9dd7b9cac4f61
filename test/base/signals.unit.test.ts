import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { inspect } from "../../dist/cli/inspect.js";
import { exitCodes } from "../../dist/cli/report.js";
import {
  AutoConfig,
  AutoTokenizer,
  Context,
  createCheckpointsJson,
  DeepSpeedInferenceConfig,
  HandlerService,
  modelFromConfig,
  openModel,
  parseModelConfigYaml,
  readModelConfigYaml,
} from "../../dist/index.js";
import { Scratch } from "../checkpoint/support.js";
import { demoModel, hasCode } from "../support/fixtures.js";

const scratch = new Scratch();

const calls: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
  "AutoConfig.fromPretrained": (signal) => AutoConfig.fromPretrained(demoModel, { signal }),
  "AutoTokenizer.fromPretrained": (signal) => AutoTokenizer.fromPretrained(demoModel, { signal, padToken: "<pad>" }),
  readModelConfigYaml: (signal) => {
    const folder = scratch.folder({ "model-config.yaml": "batchSize: 2\n" });
    return readModelConfigYaml(`${folder}/model-config.yaml`, { signal });
  },
};

for (const [name, call] of Object.entries(calls)) {
  test(`a signal ends ${name}`, async () => {
    await assert.rejects(call(AbortSignal.abort()), hasCode("ERR_ABORTED"));
    const controller = new AbortController();
    const running = call(controller.signal);
    controller.abort();
    await assert.rejects(running, hasCode("ERR_ABORTED"));
    await call(new AbortController().signal);
    await assert.rejects(call({} as AbortSignal), hasCode("ERR_INVALID_ARGUMENT", /signal/));
  });
}

test("SIGTERM ends inspect", async () => {
  const running = inspect(demoModel, {});
  process.emit("SIGTERM");
  await assert.rejects(running, { exitCode: exitCodes.terminated });
});

test("a logger whose methods are async and reject ends nothing", async () => {
  const unhandled: unknown[] = [];
  const listen = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", listen);
  let said = 0;
  const fail = async () => {
    said++;
    throw new Error("the log is full");
  };
  const logger = { debug: fail, info: fail, warn: fail, error: fail };
  DeepSpeedInferenceConfig.parse({ use_triton: true, mp_size: 1 }, { logger });
  parseModelConfigYaml("batchsize: 2\n", { logger });
  const folder = scratch.folder({ "pytorch_model.bin": "", "model-config.yaml": "batchsize: 2\n", "h.mjs": handler });
  await createCheckpointsJson(folder, `${folder}/checkpoints.json`, { logger });
  const context = new Context({ modelName: "m", modelDir: folder, logger });
  const service = new HandlerService({ handle: () => Promise.reject(new Error("no")) }, context);
  assert.equal((await service.predict([{ id: "1" }])).code, 503);
  await using model = await openModel(folder, { logger, handlerMap: { default_service_handler: "h.mjs" } });
  assert.equal(model.context.logger, logger);
  assert.throws(() => modelFromConfig({ model_type: "none" }));
  await delay(10);
  process.off("unhandledRejection", listen);
  assert.deepEqual(unhandled, []);
  assert.ok(said >= 5, String(said));
});

const handler = "export class H { handle(data) { return data.map(() => 'x'); } }\n";
