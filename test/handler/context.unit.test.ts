import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { requestHeaders } from "../../dist/handler/request.js";
import {
  Context,
  decodeRequest,
  Metrics,
  PredictionException,
  type RequestPart,
  RequestProcessor,
  ShardspeedError,
} from "../../dist/index.js";
import { hasCode } from "../support/fixtures.js";

const manifest = { model: { modelName: "opt" } };
const yaml = { handler: { model_path: "m" } };

describe("a context", () => {
  const values = {
    model_dir: "/models/opt",
    gpu_id: 2,
    batch_size: 4,
    server_name: "MMS",
    server_version: "0.12.0",
    limit_max_image_pixels: false,
  };
  const made: [string, Context][] = [
    [
      "of an object",
      new Context({
        modelName: "opt",
        modelDir: "/models/opt",
        manifest,
        batchSize: 4,
        gpuId: 2,
        serverVersion: "0.12.0",
        limitMaxImagePixels: false,
        modelYamlConfig: yaml,
      }),
    ],
    [
      "of Python's arguments in their order",
      new Context("opt", "/models/opt", manifest, 4, 2, "0.12.0", false, null, yaml),
    ],
  ];
  for (const [name, context] of made) {
    test(name, () => {
      assert.deepEqual({ ...context.systemProperties }, values);
      assert.deepEqual(JSON.parse(JSON.stringify(context.systemProperties)), values);
      const { modelDir, gpuId, batchSize, serverName, serverVersion, limitMaxImagePixels } = context.systemProperties;
      assert.deepEqual(
        [modelDir, gpuId, batchSize, serverName, serverVersion, limitMaxImagePixels],
        Object.values(values),
      );
      assert.equal(context.modelName, "opt");
      assert.equal(context.manifest, manifest);
      assert.equal(context.modelYamlConfig, yaml);
      assert.ok(context.metrics instanceof Metrics);
      assert.equal(context.stoppingCriteria, null);
    });
  }

  test("system properties as a dictionary, and read-only", () => {
    const context = new Context({ modelName: "opt", modelDir: "/m", gpuId: -1 });
    const { systemProperties } = context;
    assert.equal(systemProperties.gpu_id, null);
    assert.equal(systemProperties.get("model_dir"), "/m");
    assert.equal(systemProperties.get("gpu_id"), null);
    assert.equal(systemProperties.get("gpu_id", 7), null);
    assert.equal(systemProperties.get("nothing"), undefined);
    assert.equal(systemProperties.get("nothing", 3), 3);
    for (const inherited of ["toString", "__proto__", "get"]) assert.equal(systemProperties.get(inherited), undefined);
    assert.throws(() => Object.assign(systemProperties, { model_dir: "/other" }), TypeError);
    assert.throws(() => Object.assign(context, { systemProperties: {} }), TypeError);
    assert.equal(context.systemProperties.model_dir, "/m");
  });

  test("an empty yaml stays null, and none is {}", () => {
    assert.equal(new Context({ modelName: "opt", modelDir: "/m", modelYamlConfig: null }).modelYamlConfig, null);
    assert.deepEqual(new Context({ modelName: "opt", modelDir: "/m" }).modelYamlConfig, {});
  });

  test("of wrong arguments", () => {
    const wrong: [() => unknown, RegExp][] = [
      [() => new Context({ modelName: "opt" } as never), /modelDir/],
      [() => new Context({ modelName: "", modelDir: "/m" }), /modelName/],
      [() => new Context({ modelName: "opt", modelDir: "/m", batchSize: 0 }), /batchSize/],
      [() => new Context({ modelName: "opt", modelDir: "/m", gpuId: 1.5 }), /gpuId/],
      [() => new Context({ modelName: "opt", modelDir: "/m", modelYaml: {} } as never), /modelYaml.*modelYamlConfig/],
      [() => new Context(null as never), /modelName/],
    ];
    for (const [make, message] of wrong) assert.throws(make, hasCode("ERR_INVALID_ARGUMENT", message));
  });

  test("ids, headers and status of a batch", () => {
    const context = new Context({ modelName: "opt", modelDir: "/m" });
    assert.equal(context.getRequestId(), undefined);
    context.setResponseStatus(500, "Early");
    context.setResponseContentType(0, "text/plain");
    assert.deepEqual(context.getResponseStatus(0), [500, "Early"]); // without a batch it is that of one request
    assert.deepEqual(context.getResponseHeaders(0), { "content-type": "text/plain" });
    assert.equal(context.getRequestHeader(0, "X-Mine"), undefined);
    context.requestIds = { 0: "a", 1: "b" };
    context.requestProcessor = [
      new RequestProcessor({ "X-Mine": "yes", ts_request_sequence_id: "s" }),
      new RequestProcessor(),
    ];
    assert.equal(context.getRequestId(), "a");
    assert.equal(context.getRequestId(1), "b");
    assert.equal(context.getRequestId(2), undefined);
    assert.equal(context.getRequestHeader(0, "X-Mine"), "yes");
    assert.equal(context.getRequestHeader(0, "x-mine"), undefined);
    assert.equal(context.getRequestHeader(0, "toString"), undefined);
    assert.deepEqual(context.getAllRequestHeader(0), { "X-Mine": "yes", ts_request_sequence_id: "s" });
    assert.equal(context.getSequenceId(0), "s");
    assert.equal(context.getSequenceId(1), undefined);

    assert.deepEqual(context.getResponseStatus(0), [200, null]);
    context.setResponseStatus(201, "Made", 1);
    assert.deepEqual(
      [context.getResponseStatus(0), context.getResponseStatus(1)],
      [
        [200, null],
        [201, "Made"],
      ],
    );
    context.setResponseStatus(404);
    assert.deepEqual(context.getResponseStatus(0), [404, ""]);
    context.setAllResponseStatus(202, "Taken");
    assert.deepEqual(
      [context.getResponseStatus(0), context.getResponseStatus(1)],
      [
        [202, "Taken"],
        [202, "Taken"],
      ],
    );

    assert.equal(context.getResponseContentType(0), undefined);
    context.setResponseContentType(0, "text/csv");
    assert.equal(context.getResponseContentType(0), "text/csv");
    context.setResponseHeader(0, "x", "1");
    context.setResponseHeader(0, "x", "2");
    assert.deepEqual(context.getResponseHeaders(0), { "content-type": "text/csv", x: "2" });
    assert.deepEqual(context.getResponseHeaders(1), {});
    assert.throws(() => context.getRequestHeader(2, "x"), hasCode("ERR_INVALID_ARGUMENT", /idx.*which has 2/));
  });

  test("headers of sequences by other names", () => {
    process.env.TS_REQUEST_SEQUENCE_ID = "x-sequence";
    try {
      const context = new Context({ modelName: "opt", modelDir: "/m" });
      context.requestProcessor = [new RequestProcessor({ "x-sequence": "7" })];
      assert.equal(context.getSequenceId(0), "7");
      assert.equal(context.headerKeySequenceStart, "ts_request_sequence_start");
      assert.equal(context.headerKeySequenceEnd, "ts_request_sequence_end");
    } finally {
      delete process.env.TS_REQUEST_SEQUENCE_ID;
    }
  });
});

test("metrics with their units, once", () => {
  const metrics = new Metrics();
  metrics.requestIds = { 1: "b" };
  metrics.addCounter("Calls", 2, 1);
  metrics.addTime("Took", 1.5);
  metrics.addTime("Took", 2, undefined, "s");
  metrics.addSize("Memory", 3);
  metrics.addPercent("Load", 50);
  metrics.addError("Oops", "why");
  metrics.addMetric("Own", 1, "pieces", 0, [{ name: "Level", value: "Model" }]);
  assert.deepEqual(
    metrics.take().map(({ name, value, unit, requestId }) => [name, value, unit, requestId]),
    [
      ["Calls", 2, "count", "b"],
      ["Took", 1.5, "ms", undefined],
      ["Took", 2, "s", undefined],
      ["Memory", 3, "MB", undefined],
      ["Load", 50, "percent", undefined],
      ["Oops", "why", "", undefined],
      ["Own", 1, "pieces", undefined],
    ],
  );
  assert.deepEqual(metrics.take(), []);
  for (let i = 0; i < 10_001; i++) metrics.addCounter("Many", i);
  assert.equal(metrics.take().length, 10_000);
});

test("a prediction exception", () => {
  const plain = new PredictionException("no");
  assert.ok(plain instanceof Error);
  assert.deepEqual([plain.message, plain.errorCode, plain.name], ["no", 500, "PredictionException"]);
  assert.equal(new PredictionException("no", 418).errorCode, 418);
  assert.ok(PredictionException.isInstance(plain));
  assert.ok(!PredictionException.isInstance(new ShardspeedError("ERR_CONFIG", "x")));
  for (const code of [0, 1.5, 600, "400"]) {
    assert.throws(() => new PredictionException("no", code as number), hasCode("ERR_INVALID_ARGUMENT", /errorCode/));
  }
});

describe("a request decoded", () => {
  afterEach(() => {
    delete process.env.TS_DECODE_INPUT_REQUEST;
  });
  const bytes = (text: string) => Buffer.from(text, "latin1");
  const rows: [string, RequestPart[], object][] = [
    [
      "JSON",
      [{ name: "body", contentType: "application/json", value: bytes('{"a": [1, null]}') }],
      { body: { a: [1, null] } },
    ],
    [
      "floats that only Python's JSON has",
      [{ name: "body", contentType: "application/json", value: bytes('{"a": [NaN, -Infinity, "NaN"]}') }],
      { body: { a: [Number.NaN, Number.NEGATIVE_INFINITY, "NaN"] } },
    ],
    ["JSON of any type", [{ name: "body", contentType: "application/json", value: bytes("7") }], { body: 7 }],
    [
      "JSON with parameters of the type",
      [{ name: "body", contentType: "application/json; charset=utf-8", value: bytes("7") }],
      { body: bytes("7") },
    ],
    [
      "JSON by another name",
      [{ name: "body", contentType: "Application/JSON", value: bytes("7") }],
      { body: bytes("7") },
    ],
    [
      "JSON that is none",
      [{ name: "body", contentType: "application/json", value: bytes('{"a": ') }],
      { body: bytes('{"a": ') },
    ],
    [
      "JSON in no UTF-8",
      [{ name: "body", contentType: "application/json", value: bytes('"\xff"') }],
      { body: bytes('"\xff"') },
    ],
    ["text", [{ name: "body", contentType: "text/plain", value: Buffer.from("hé") }], { body: "hé" }],
    ["text by the beginning of its type", [{ name: "body", contentType: "textual", value: bytes("x") }], { body: "x" }],
    ["text in no UTF-8", [{ name: "body", contentType: "text/plain", value: bytes("\xff") }], { body: bytes("\xff") }],
    ["bytes without a type", [{ name: "body", value: bytes("raw") }], { body: bytes("raw") }],
    [
      "bytes",
      [{ name: "body", contentType: "application/octet-stream", value: bytes("\x00\xff") }],
      { body: bytes("\x00\xff") },
    ],
    ["no bytes", [{ name: "body", value: bytes("") }], { body: bytes("") }],
    [
      "the fields of a form",
      [
        { name: "data", value: bytes("a") },
        { name: "n", value: bytes("2") },
        { name: "file", contentType: "text/plain", value: bytes("f") },
      ],
      { data: bytes("a"), n: bytes("2"), file: "f" },
    ],
    [
      "fields of one name",
      [
        { name: "a", value: bytes("1") },
        { name: "a", value: bytes("2") },
      ],
      { a: bytes("2") },
    ],
    ["nothing", [], {}],
  ];
  for (const [name, parts, expected] of rows) test(name, () => assert.deepEqual(decodeRequest(parts), expected));

  test("with a field that is the name of a prototype", () => {
    const request = decodeRequest([
      { name: "__proto__", contentType: "application/json", value: bytes('{"admin": true}') },
    ]);
    assert.equal(Object.getPrototypeOf(request), Object.prototype);
    assert.equal(request.admin, undefined);
    assert.deepEqual(Object.keys(request), ["__proto__"]);
    assert.deepEqual(Object.keys(requestHeaders([{ name: "__proto__", value: "" }], {})), ["__proto__"]);
  });

  test("not at all where the environment says so", () => {
    process.env.TS_DECODE_INPUT_REQUEST = "false";
    const request = decodeRequest([{ name: "body", contentType: "application/json", value: bytes("7") }]);
    assert.deepEqual(request, { body: bytes("7") });
  });

  test("headers: the type of each parameter, unless a header has its name", () => {
    const parts = [
      { name: "body", contentType: "text/plain", value: "" },
      { name: "x", value: "" },
    ];
    assert.deepEqual(requestHeaders(parts, { x: "1", Host: "h" }), {
      body: { "content-type": "text/plain" },
      x: "1",
      Host: "h",
    });
  });
});
