import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { pythonJson } from "../../dist/base/python_json.js";
import {
  type BatchRequest,
  Context,
  type HandlerFunction,
  type HandlerObject,
  HandlerService,
  type IntermediateResponse,
  PredictionException,
  ShardspeedError,
  sendIntermediatePredictResponse,
} from "../../dist/index.js";
import { Messages } from "../checkpoint/support.js";
import { hasCode } from "../support/fixtures.js";

const batch: BatchRequest[] = [
  { id: "a", data: {} },
  { id: "b", data: {} },
];

function serve(handle: HandlerFunction, logger?: Messages) {
  return new HandlerService(handle, new Context({ modelName: "opt", modelDir: "/m", ...(logger ? { logger } : {}) }));
}

const thrown =
  (error: unknown): HandlerFunction =>
  () => {
    throw error;
  };
const cycle: unknown[] = [];
cycle.push(cycle);
class Empty {}
class Full {
  a = 1;
}

describe("the outcome of a batch", () => {
  const rows: [string, HandlerFunction, number, string][] = [
    ["as many outputs as requests", () => ["x", "y"], 200, "Prediction success"],
    ["fewer outputs", () => ["x"], 503, "number of batch response mismatched"],
    ["more outputs", () => ["x", "y", "z"], 503, "number of batch response mismatched"],
    ["a text", () => "xy", 503, "Invalid model predict output"],
    ["an object", () => ({ 0: "x", 1: "y" }), 503, "Invalid model predict output"],
    ["nothing", () => undefined, 503, "Invalid model predict output"],
    ["null", () => null, 503, "Invalid model predict output"],
    ["a typed array", () => new Float32Array(2), 503, "Invalid model predict output"],
    ...[
      () => 1,
      10n,
      cycle,
      new Empty(),
      new Map([[1, 2]]),
      { deep: [Symbol("s")] },
      new Error("x"),
      { b: Buffer.from("x") },
    ].map((output): [string, HandlerFunction, number, string] => [
      `an output that is no JSON: ${Object.prototype.toString.call(output)}`,
      () => ["x", output],
      503,
      "Unsupported model output data type.",
    ]),
    ["memory that ran out", thrown(new ShardspeedError("ERR_OUT_OF_MEMORY", "x")), 507, "Out of resources"],
    ["a device that failed", thrown(new ShardspeedError("ERR_CUDA", "x")), 507, "Out of resources"],
    ["CUDA in a message", thrown(new TypeError("CUDA error: out of memory")), 507, "Out of resources"],
    ["CUDA in what is no error", thrown("CUDA"), 507, "Out of resources"],
    ["an allocation that failed", thrown(new RangeError("Array buffer allocation failed")), 507, "Out of resources"],
    ["a prediction exception", thrown(new PredictionException("said by the handler")), 500, "said by the handler"],
    ["one with a code", thrown(new PredictionException("CUDA no", 413)), 413, "CUDA no"],
    ["a plain error", thrown(new Error("secret")), 503, "Prediction failed"],
    ["a range that is wrong", thrown(new RangeError("Invalid array length")), 503, "Prediction failed"],
    ["a missing key", thrown(new TypeError("Cannot read properties of undefined")), 503, "Prediction failed"],
    ["undefined thrown", thrown(undefined), 503, "Prediction failed"],
    ["an object that cannot be shown", thrown(Object.create(null)), 503, "Prediction failed"],
    [
      "a promise that rejects",
      async () => thrown(new Error("late"))(undefined, null as never),
      503,
      "Prediction failed",
    ],
  ];
  for (const [name, handle, code, message] of rows) {
    test(`${name}: ${code} ${message}`, async () => {
      const service = serve(handle);
      const outcome = await service.predict(batch);
      assert.deepEqual([outcome.code, outcome.message], [code, message]);
      assert.deepEqual(
        outcome.responses.map(({ requestId, status }) => [requestId, status]),
        [
          ["a", code],
          ["b", code],
        ],
      );
      if (code !== 200) assert.equal(String(outcome.responses[0]?.body), "error");
      const names = service.context.metrics.take().map((metric) => metric.name);
      assert.deepEqual(names, code === 200 ? ["PredictionTime"] : []);
    });
  }

  test("what was thrown goes to the log and to the outcome", async () => {
    const messages = new Messages();
    const error = new Error("secret");
    const outcome = await serve(thrown(error), messages).predict(batch);
    assert.equal(outcome.error, error);
    assert.match(messages.all.join(), /error: Invoking the handler failed: Error: secret/);
  });
});

describe("the body of a response", () => {
  const rows: [string, unknown, string | Buffer][] = [
    ["a Buffer", Buffer.from([0, 1, 255]), Buffer.from([0, 1, 255])],
    ["bytes", new Uint8Array([0, 255]).subarray(1), Buffer.from([255])],
    ["text", "héllo 世界", "héllo 世界"],
    ["empty text", "", ""],
    ["a number", 42, "42"],
    ["null", null, "null"],
    ["undefined", undefined, "null"],
    ["true", true, "true"],
    ["numbers that are not finite", [Number.NaN, Number.POSITIVE_INFINITY], "[\n  null,\n  null\n]"],
    ["nothing in it", [[], {}], "[\n  [],\n  {}\n]"],
    ["a list", [1, 2.5, "x"], '[\n  1,\n  2.5,\n  "x"\n]'],
    ["an object", { batch: 1, row: { a: [1] } }, '{\n  "batch": 1,\n  "row": {\n    "a": [\n      1\n    ]\n  }\n}'],
    ["characters beyond ASCII", { é: "世\u{1f600}\u007f\n" }, '{\n  "\\u00e9": "\\u4e16\\ud83d\\ude00\\u007f\\n"\n}'],
    ["a typed array", new Float32Array([1, 0.5]), "[\n  1,\n  0.5\n]"],
    ["fields that are undefined", { a: undefined, b: [undefined] }, '{\n  "a": null,\n  "b": [\n    null\n  ]\n}'],
    ["an object of a class", new Full(), '{\n  "a": 1\n}'],
    ["a date", new Date(0), '"1970-01-01T00:00:00.000Z"'],
    ["the same object twice", [[1], [1]].fill([2]), "[\n  [\n    2\n  ],\n  [\n    2\n  ]\n]"],
  ];
  for (const [name, output, expected] of rows) {
    test(name, async () => {
      const { code, responses } = await serve(() => [output]).predict([{ id: "a" }]);
      assert.equal(code, 200);
      assert.deepEqual(responses[0]?.body, Buffer.from(expected as string));
      assert.equal(responses[0]?.contentType, undefined);
    });
  }

  test("is JSON, of the same value, in ASCII", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(undefined, 2), (value, indent) => {
        const text = pythonJson(value, indent);
        assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
        assert.match(text, /^[\n -~]*$/);
      }),
    );
  });

  test("nested without end is no JSON", async () => {
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) deep = [deep];
    const { message } = await serve(() => [deep]).predict([{ id: "a" }]);
    assert.equal(message, "Unsupported model output data type.");
  });
});

describe("what a handler sees and sets", () => {
  test("data, headers and ids; status, headers and content type", async () => {
    const seen: unknown[] = [];
    const service = serve((data, context) => {
      seen.push(data, context.requestIds, context.getAllRequestHeader(0), context.getRequestHeader(1, "x-mine"));
      context.setResponseContentType(1, "text/csv");
      context.setResponseHeader(1, "x-custom", "yes");
      context.setResponseStatus(201, "Made", 1);
      return ["a", "b"];
    });
    const parts = [{ name: "body", contentType: "text/plain", value: "hello" }];
    const { code, responses } = await service.predict([
      { id: "a", parts },
      { id: "b", parts, headers: { "x-mine": "yes" } },
    ]);
    assert.deepEqual(seen, [
      [{ body: "hello" }, { body: "hello" }],
      { 0: "a", 1: "b" },
      { body: { "content-type": "text/plain" } },
      "yes",
    ]);
    assert.equal(code, 200);
    assert.deepEqual(responses, [
      { requestId: "a", status: 200, phrase: null, contentType: undefined, headers: {}, body: Buffer.from("a") },
      {
        requestId: "b",
        status: 201,
        phrase: "Made",
        contentType: "text/csv",
        headers: { "x-custom": "yes" },
        body: Buffer.from("b"),
      },
    ]);
    const next = await service.predict(batch);
    assert.equal(next.responses[0]?.contentType, undefined);
  });

  test("one batch at a time, in their order, each with its own context", async () => {
    const seen: string[] = [];
    const service = serve(async (data, context) => {
      seen.push(`begin ${context.getRequestId()}`);
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(`end ${context.getRequestId()}`);
      return data?.map(() => context.getRequestId());
    });
    const outcomes = await Promise.all(["1", "2", "3"].map((id) => service.predict([{ id }])));
    assert.deepEqual(seen, ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
    assert.deepEqual(
      outcomes.map(({ responses }) => String(responses[0]?.body)),
      ["1", "2", "3"],
    );
  });

  test("parts of a response before its end", async () => {
    const received: IntermediateResponse[] = [];
    const service = serve((data, context) => {
      for (let i = 0; i < 2; i++) {
        sendIntermediatePredictResponse(
          data?.map(() => `part${i} `) ?? [],
          context.requestIds,
          "Intermediate",
          200,
          context,
        );
      }
      sendIntermediatePredictResponse([undefined, { only: "b" }], { 1: "b" }, "Intermediate", 200, context);
      return ["end", "end"];
    });
    const onIntermediateResponse = (responses: IntermediateResponse[]) => void received.push(...responses);
    const { responses } = await service.predict(batch, { onIntermediateResponse });
    assert.deepEqual(
      received.map(({ requestId, index, body }) => [requestId, index, String(body)]),
      [
        ["a", 0, "part0 "],
        ["b", 1, "part0 "],
        ["a", 0, "part1 "],
        ["b", 1, "part1 "],
        ["b", 1, '{\n  "only": "b"\n}'],
      ],
    );
    assert.ok(
      received.every(
        ({ headers, status, message }) =>
          headers.ts_stream_next === "true" && status === 200 && message === "Intermediate",
      ),
    );
    assert.deepEqual(
      responses.map(({ headers }) => headers.ts_stream_next),
      ["false", "false"],
    );
    const alone = await service.predict(batch);
    assert.equal((alone.error as ShardspeedError).code, "ERR_HANDLER");
  });
});

describe("a handler that cannot initialise", () => {
  const start = (error: unknown) =>
    new HandlerService(
      { initialize: () => thrown(error)(undefined, null as never), handle: () => [] },
      new Context({ modelName: "opt", modelDir: "/m" }),
    ).initialize();
  test("says why", async () => {
    await assert.rejects(start(new Error("no file")), hasCode("ERR_HANDLER", /could not initialise: no file/));
    await assert.rejects(start(new ShardspeedError("ERR_CONFIG", "as it is")), hasCode("ERR_CONFIG", /^as it is$/));
    await assert.rejects(serve(thrown("odd")).initialize(), hasCode("ERR_HANDLER", /odd/));
  });
});

test("after dispose() batches are refused, those before it end, and the handler ends once", async () => {
  let disposals = 0;
  let finish = () => {};
  const handler: HandlerObject = {
    handle: (data) => new Promise((resolve) => (finish = () => resolve(data.map(() => "x")))),
    dispose: () => void disposals++,
  };
  for (const overlaps of [false, true]) {
    const context = new Context({ modelName: "late", modelDir: "." });
    const service = new HandlerService(handler, context, { overlaps });
    await service.initialize();
    const pending = service.predict([{ id: "1" }]);
    const disposed = service.dispose();
    const refused = { name: "ShardspeedError", code: "ERR_DISPOSED", message: /service of late has been disposed/ };
    await assert.rejects(service.predict([{ id: "2" }]), refused);
    await assert.rejects(service.initialize(), refused);
    finish();
    assert.equal((await pending).code, 200);
    await Promise.all([disposed, service.dispose()]);
    await assert.rejects(service.predict([{ id: "3" }]), refused);
  }
  assert.equal(disposals, 2);
});
