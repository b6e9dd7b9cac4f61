import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import ts from "typescript";
import { resolveModelPath } from "../../dist/base/model_folder_scope.js";
import { BaseDeepSpeedHandler, BaseHandler, Context, HandlerService } from "../../dist/index.js";
import { Scratch } from "../checkpoint/support.js";
import { fixture, hasCode } from "../support/fixtures.js";

const scratch = new Scratch();

function context(modelDir = "/m", more: object = {}): Context {
  return new Context({ modelName: "opt", modelDir, manifest: { runtime: "node" }, ...more });
}

class Doubling extends BaseHandler {
  override preprocess(data: { body: number }[]) {
    return data.map(({ body }) => body);
  }
  override async inference(data: number[]) {
    return Float64Array.from(data, (one) => one * 2);
  }
}

describe("BaseHandler", () => {
  test("has the fields of the original", () => {
    const { initialized, explain, target, model, mapping, device, context, manifest } = new BaseHandler();
    assert.deepEqual([initialized, explain, target], [false, false, 0]);
    assert.deepEqual([model, mapping, device, context, manifest], Array(5).fill(undefined));
  });

  test("initialize sets context, manifest, device and mapping", async () => {
    const ctx = context(scratch.folder({ "index_to_name.json": '{"0": "cat"}' }));
    const handler = new BaseHandler();
    await handler.initialize(ctx);
    assert.equal(handler.context, ctx);
    assert.equal(handler.manifest, ctx.manifest);
    assert.deepEqual([handler.device, handler.mapping, handler.initialized], ["cpu", { 0: "cat" }, true]);
    await handler.initialize(context(scratch.folder(), { gpuId: 3 }));
    assert.deepEqual([handler.device, handler.mapping], ["cuda:3", undefined]);
    const damaged = context(scratch.folder({ "index_to_name.json": "{" }));
    await assert.rejects(handler.initialize(damaged), hasCode("ERR_CONFIG", /index_to_name\.json is not JSON: line 1/));
  });

  test("a batch goes through its three steps, and is measured", async () => {
    const service = new HandlerService(new Doubling(), context());
    const { responses } = await service.predict([
      { id: "a", data: { body: 1 } },
      { id: "b", data: { body: 2 } },
    ]);
    assert.deepEqual(
      responses.map(({ body }) => String(body)),
      ["2", "4"],
    );
    const [metric] = service.context.metrics.take();
    assert.deepEqual([metric?.name, metric?.unit], ["HandlerTime", "ms"]);
    assert.match(String(metric?.value), /^\d+(\.\d{1,2})?$/);
  });

  test("its own steps pass on what they get, and call the model", async () => {
    const handler = new BaseHandler();
    handler.model = (data: unknown[]) => data.length;
    assert.equal(await handler.handle([{}, {}], context()), 2);
    handler.model = { forward: async () => new Int32Array([7]) };
    assert.deepEqual(await handler.handle([{}], context()), [7]);
    handler.model = undefined;
    await assert.rejects(handler.handle([{}], context()), hasCode("ERR_HANDLER", /BaseHandler has no model/));
  });

  test("each step is measured where the yaml says so", async () => {
    const names = async (handler: object) => {
      const ctx = context("/m", { modelYamlConfig: { handler } });
      await new Doubling().handle([{ body: 1 }], ctx);
      return ctx.metrics.take().map(({ name }) => name);
    };
    assert.deepEqual(await names({}), ["HandlerTime"]);
    assert.deepEqual(await names({ profile: true }), [
      "ts_handler_preprocess",
      "ts_handler_inference",
      "ts_handler_postprocess",
      "HandlerTime",
    ]);
  });

  test("describe", async () => {
    const headers = { describe: "True" };
    const plain = await new HandlerService(new Doubling(), context()).predict([{ id: "a", headers }]);
    assert.equal(String(plain.responses[0]?.body), "null");
    class Described extends Doubling {
      override describeHandle() {
        return { of: "me" };
      }
    }
    const own = new HandlerService(new Described(), context());
    assert.equal(String((await own.predict([{ id: "a", headers }])).responses[0]?.body), '{\n  "of": "me"\n}');
    const other = await own.predict([{ id: "a", data: { body: 2 }, headers: { describe: "true" } }]);
    assert.equal(String(other.responses[0]?.body), "4");
  });

  test("explain: the first request decides for the batch", async () => {
    class Explained extends Doubling {
      getInsights(prepared: number[], inputs: unknown, target: unknown) {
        return prepared.map(() => [inputs, target]);
      }
    }
    const rows = [
      { id: "a", data: { body: 1, target: 3 }, headers: { explain: "True" } },
      { id: "b", data: { body: 2 } },
    ];
    const handler = new Explained();
    const service = new HandlerService(handler, context());
    const { responses } = await service.predict(rows);
    assert.deepEqual(
      responses.map(({ body }) => JSON.parse(String(body))),
      [
        [1, 3],
        [1, 3],
      ],
    );
    assert.equal(handler.explain, true);
    const turned = await service.predict([...rows].reverse());
    assert.deepEqual(
      turned.responses.map(({ body }) => String(body)),
      ["4", "2"],
    );
    const without = await new HandlerService(new Doubling(), context()).predict(rows);
    assert.match(without.message, /^Doubling cannot explain: it has no method getInsights/);
    assert.equal(without.code, 400);
  });
});

describe("BaseDeepSpeedHandler", () => {
  const before = process.env.LOCAL_RANK;
  afterEach(() => {
    if (before === undefined) delete process.env.LOCAL_RANK;
    else process.env.LOCAL_RANK = before;
  });
  const started = async (rank: string | undefined, handler = new BaseDeepSpeedHandler()) => {
    if (rank === undefined) delete process.env.LOCAL_RANK;
    else process.env.LOCAL_RANK = rank;
    await handler.initialize(context("/m", { gpuId: 5 }));
    return handler;
  };

  test("initialize sets device from LOCAL_RANK, and nothing else", async () => {
    const rows: [string | undefined, number][] = [
      [undefined, 0],
      ["0", 0],
      ["3", 3],
      [" 2 ", 2],
    ];
    for (const [rank, device] of rows) {
      const handler = await started(rank);
      assert.equal(handler.device, device);
      assert.deepEqual({ ...handler, device: undefined }, { ...new BaseDeepSpeedHandler(), device: undefined });
    }
    for (const rank of ["", "one", "1.5"]) {
      await assert.rejects(started(rank), hasCode("ERR_CONFIG", new RegExp(`LOCAL_RANK="${rank}"`)));
    }
  });

  test("initialize needs nothing of its context", async () => {
    process.env.LOCAL_RANK = "1";
    for (const ctx of [undefined, null, {}, { systemProperties: { gpu_id: 0 } }]) {
      const handler = new BaseDeepSpeedHandler();
      await handler.initialize(ctx as unknown as Context);
      assert.equal(handler.device, 1);
    }
  });

  test("the model folder holds where a subclass goes on after super.initialize()", async () => {
    const modelDir = scratch.folder({ "weights/config.json": "" });
    let found = "";
    class Ported extends BaseDeepSpeedHandler {
      override async initialize(ctx: Context) {
        await super.initialize(ctx);
        await Promise.resolve();
        found = await resolveModelPath("weights");
      }
    }
    await new Ported().initialize(context(modelDir));
    assert.equal(found, `${modelDir}/weights`);
    assert.equal(await resolveModelPath("nowhere"), "nowhere");
  });

  test("a handler ported line by line passes the compiler, parameters left untyped", () => {
    const program = ts.createProgram([fixture("handlers", "opt_handler.ts")], {
      strict: true,
      noImplicitAny: false,
      noUncheckedIndexedAccess: true,
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.NodeNext,
      types: ["node"],
      skipLibCheck: true,
      noEmit: true,
    });
    const messages = ts
      .getPreEmitDiagnostics(program)
      .map((one) => ts.flattenDiagnosticMessageText(one.messageText, "\n"));
    assert.deepEqual(messages, []);
  });
});
