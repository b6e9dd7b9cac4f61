import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import Fastify from "fastify";
import { type KServeOptions, kserveRoutes } from "../../../dist/serving/routes/kserve/plugin.js";
import type { HandlerCall } from "../../../dist/serving/served_model.js";
import {
  classifier,
  directoryOf,
  embedder,
  FakeModel,
  type FakeOptions,
  type Script,
  say,
} from "../openai/fake_model.js";

async function infer(model: FakeModel | FakeOptions, payload: unknown, settings: KServeOptions["settings"] = {}) {
  const app = Fastify();
  const fake = model instanceof FakeModel ? model : new FakeModel(model);
  await app.register(kserveRoutes, { models: directoryOf([fake]), settings });
  const headers = { "content-type": "application/json" };
  const url = "/v2/models/fake/infer";
  const answer = await app.inject({ method: "POST", url, headers, payload: JSON.stringify(payload) });
  return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: answer.json() };
}

const of = (inputs: object[], more: object = {}) => ({ id: "7", inputs, ...more });
const texts = (data: unknown[], more: object = {}) => ({
  ...{ name: "text_input", datatype: "BYTES", shape: [data.length], data },
  ...more,
});
const ids = (data: unknown, shape: number[] = [1, 2]) => ({ name: "input_ids", datatype: "INT64", shape, data });

describe("infer", () => {
  test("generates from texts, a row each", async () => {
    const script: Script = (call, signal) =>
      say([`${"text" in call.prompt ? call.prompt.text : ""}!`, "?"])(call, signal);
    const model = new FakeModel({ script });
    const parameters = { temperature: 0, max_tokens: 5, stop: ["x"], seed: 3 };
    const { status, body } = await infer(model, of([texts(["a", "b"])], { parameters }));
    assert.equal(status, 200);
    assert.deepEqual(body, {
      ...{ model_name: "fake", model_version: "1.0", id: "7" },
      outputs: [{ name: "text_output", datatype: "BYTES", shape: [2], data: ["a!?", "b!?"] }],
    });
    const { maxNewTokens, temperature, stop, seed } = model.generated[0]?.options ?? {};
    assert.deepEqual([maxNewTokens, temperature, stop, seed], [5, 0, ["x"], 3]);
    assert.equal(model.mostTaken, 2);
    assert.equal(model.taken, 0);
  });

  test("generates from ids, whose padding a mask leaves out", async () => {
    const model = new FakeModel();
    const rows = ids(
      [
        [9, 5, 6],
        [7, 8, 4],
      ],
      [2, 3],
    );
    const mask = { name: "attention_mask", datatype: "INT64", shape: [2, 3], data: [0, 1, 1, 1, 1, 1] };
    const { body } = await infer(model, of([rows, mask]));
    assert.deepEqual(body.outputs[0].shape, [2]);
    assert.deepEqual(
      model.generated.map(({ prompt }) => prompt),
      [{ ids: [5, 6] }, { ids: [7, 8, 4] }],
    );
    assert.equal(model.generated[0]?.options.maxNewTokens, 20);
    await infer(model, of([{ name: "x", datatype: "INT32", shape: [2], data: [1, 2] }]));
    assert.deepEqual(model.generated.at(-1)?.prompt, { ids: [1, 2] });
  });

  test("embeds", async () => {
    const answers = { embed: () => ({ values: Float32Array.of(1, 2, 0.5, -1), width: 2, promptTokens: 4 }) };
    const model = new FakeModel({ engine: embedder, answers });
    const { body } = await infer(model, of([texts(["YQ==", "w7w="], { parameters: { content_type: "base64" } })]));
    assert.deepEqual(body.outputs, [{ name: "embeddings", datatype: "FP32", shape: [2, 2], data: [1, 2, 0.5, -1] }]);
    assert.deepEqual(model.called[0]?.argument, { texts: ["a", "ü"] });
  });

  test("classifies texts and pairs, and gives the outputs that are asked for", async () => {
    const results = [{ label: "no", scores: [0.75, 0.25], logits: [2, 1] }];
    const model = new FakeModel({ engine: classifier, answers: { classify: () => ({ results, promptTokens: 2 }) } });
    const all = await infer(model, of([texts(["a"])]));
    assert.deepEqual(all.body.outputs, [
      { name: "scores", datatype: "FP32", shape: [1, 2], data: [0.75, 0.25] },
      { name: "logits", datatype: "FP32", shape: [1, 2], data: [2, 1] },
      { name: "label", datatype: "BYTES", shape: [1], data: ["no"] },
    ]);
    const one = await infer(model, of([texts(["a"]), texts(["b"])], { outputs: [{ name: "label" }] }));
    assert.deepEqual(
      one.body.outputs.map(({ name }: { name: string }) => name),
      ["label"],
    );
    assert.deepEqual(model.called[1]?.argument, { texts: [{ text: "a", textPair: "b" }] });
    assert.equal((await infer(model, of([ids([1, 2])]))).status, 400);
  });

  test("refuses what fits no model, and says where it is", async () => {
    const cases: [unknown, RegExp][] = [
      [{}, /inputs/],
      [of([]), /inputs/],
      [of([texts(["a"], { datatype: "FP32" })]), /datatype/],
      [of([texts(["a"], { shape: [2] })]), /2 elements, as the shape \[2\] says, found 1/],
      [of([texts([1])]), /inputs\[0\]\.data\[0\]/],
      [of([texts(["/w=="], { parameters: { content_type: "base64" } })]), /base64/],
      [of([texts(["a"]), texts(["b"])]), /two/],
      [of([ids([1, 1000])]), /token id from 0 to 999/],
      [of([ids([1.5, 1])]), /token id/],
      [of([ids("1")]), /data/],
      [of([ids([1], [1, 1, 1])]), /dimensions/],
      [of([ids([1, 2]), ids([1, 2])]), /tensors/],
      [of([texts(["a"])], { outputs: [{ name: "logits" }] }), /There is no output "logits": outputs are text_output/],
      [of([texts(["a"])], { parameters: { temperature: -1 } }), /parameters\.temperature/],
      [of([texts(["a"])], { parameters: { min_tokens: 9, max_tokens: 2 } }), /min_tokens/],
    ];
    for (const [payload, pattern] of cases) {
      const model = new FakeModel();
      const { status, body } = await infer(model, payload);
      assert.equal(status, 400, JSON.stringify(payload));
      assert.deepEqual(Object.keys(body), ["error"]);
      assert.match(body.error, pattern);
      assert.equal(model.taken, 0);
    }
    const long = await infer({}, of([ids(new Array(300_000).fill(1), [1, 1])]));
    assert.match(long.body.error, /1 elements, .* found 300000/);
    const many = await infer({}, of([texts(["a", "b", "c"])]), { maxInputs: 2 });
    assert.match(many.body.error, /at most 2 rows, found 3/);
  });

  test("answers a full queue with 503, and more rows than it ever holds with 400", async () => {
    assert.equal((await infer({ places: 1 }, of([texts(["a", "b"])]))).status, 400);
    const model = new FakeModel({ places: 1 });
    model.reserve();
    const { status, headers } = await infer(model, of([texts(["a"])]));
    assert.deepEqual([status, headers["retry-after"]], [503, "1"]);
  });

  test("answers no body with a 5xx", async () => {
    const tensor = fc.record(
      {
        name: fc.string(),
        datatype: fc.constantFrom("BYTES", "INT64", "FP32", ""),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
        data: fc.oneof(fc.array(fc.oneof(fc.string(), fc.nat(2000), fc.jsonValue()), { maxLength: 4 }), fc.jsonValue()),
        parameters: fc.option(fc.record({ content_type: fc.constantFrom("base64", "str") })),
      },
      { requiredKeys: [] },
    );
    const parameters = fc.option(fc.dictionary(fc.constantFrom("temperature", "stop", "seed", "x"), fc.jsonValue()));
    const bodies = fc.record({ inputs: fc.array(tensor, { maxLength: 3 }), parameters }, { requiredKeys: [] });
    await fc.assert(
      fc.asyncProperty(fc.oneof(bodies, fc.jsonValue()), async (body) => {
        const answer = await infer({}, body);
        assert.ok([200, 400].includes(answer.status), answer.text);
      }),
      { numRuns: 300 },
    );
  });

  test("hands the body to a handler, and its answer to the client", async () => {
    const calls: HandlerCall[] = [];
    const model = new FakeModel({ engine: null });
    const body = Buffer.from('{"outputs": []}');
    model.predict = async (call?: HandlerCall) => {
      calls.push(call as HandlerCall);
      const head = { requestId: "1", status: 200, phrase: null, contentType: undefined, headers: { "x-own": "1" } };
      return { code: 200, message: "", response: { ...head, body } };
    };
    const answer = await infer(model, { any: 1 });
    assert.deepEqual([answer.status, answer.headers["x-own"], answer.text], [200, "1", '{"outputs": []}']);
    assert.equal(answer.headers["content-type"], undefined);
    assert.deepEqual(calls[0]?.parts, [{ name: "body", contentType: "application/json", value: '{"any":1}' }]);
  });
});
