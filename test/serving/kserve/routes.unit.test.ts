import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import Fastify, { type FastifyInstance } from "fastify";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { type KServeOptions, kserveRoutes } from "../../../dist/serving/routes/kserve/plugin.js";
import type { ServedModel } from "../../../dist/serving/served_model.js";
import {
  classifier,
  directoryOf,
  embedder,
  FakeModel,
  type FakeOptions,
  readEvents,
  type Script,
  say,
  startOf,
} from "../openai/fake_model.js";

async function makeApp(models: readonly ServedModel[], options: Partial<KServeOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify();
  await app.register(kserveRoutes, { models: directoryOf(models), ...options });
  return app;
}

/** The answer to one request: its status and body. */
async function ask(
  model: FakeModel | FakeOptions,
  url: string,
  payload?: object,
  options: Partial<KServeOptions> = {},
) {
  const app = await makeApp([model instanceof FakeModel ? model : new FakeModel(model)], options);
  const request = payload === undefined ? { method: "GET" as const } : { method: "POST" as const, payload };
  const answer = await app.inject({ url, ...request });
  return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: answer.json() };
}

describe("the server", () => {
  test("says what it is, and which models it has", async () => {
    const { status, body } = await ask({}, "/v2");
    assert.equal(status, 200);
    assert.equal(body.name, "shardspeed");
    assert.match(body.version, /^\d+\.\d+\.\d+/);
    assert.deepEqual(body.extensions, ["generate"]);
    assert.deepEqual((await ask({ name: "opt" }, "/v2/models")).body, { models: ["opt"] });
  });

  test("is live while models load, and ready when they have", async () => {
    const loading: FakeOptions = { state: "loading", engine: null };
    assert.deepEqual((await ask(loading, "/v2/health/live")).body, { live: true });
    const ready = await ask(loading, "/v2/health/ready");
    assert.deepEqual([ready.status, ready.body], [503, { ready: false }]);
    assert.deepEqual((await ask({}, "/v2/health/ready")).body, { ready: true });
    assert.equal((await ask({}, "/v2/health/ready", undefined, { isReady: () => false })).status, 503);
  });
});

describe("a model", () => {
  test("is described by its tensors", async () => {
    const { body } = await ask({ name: "opt" }, "/v2/models/opt");
    assert.deepEqual(body, {
      ...{ name: "opt", versions: ["1.0"], platform: "shardspeed" },
      inputs: [
        { name: "text_input", datatype: "BYTES", shape: [-1] },
        { name: "input_ids", datatype: "INT64", shape: [-1, -1] },
      ],
      outputs: [{ name: "text_output", datatype: "BYTES", shape: [-1] }],
    });
    const { outputs } = (await ask({ engine: classifier }, "/v2/models/fake/versions/1.0")).body;
    assert.deepEqual(outputs[0], { name: "scores", datatype: "FP32", shape: [-1, 2] });
    assert.deepEqual((await ask({ engine: embedder }, "/v2/models/fake")).body.outputs, [
      { name: "embeddings", datatype: "FP32", shape: [-1, 4] },
    ]);
  });

  test("is ready once a worker is", async () => {
    assert.deepEqual((await ask({}, "/v2/models/fake/ready")).body, { name: "fake", ready: true });
    const loading = await ask({ state: "loading", engine: null }, "/v2/models/fake/ready");
    assert.deepEqual([loading.status, loading.body], [503, { name: "fake", ready: false }]);
  });

  test("may have a slash in its name", async () => {
    const names = ["org/opt", "org%2Fopt", "org/opt/versions/1.0"];
    for (const name of names) {
      assert.equal((await ask({ name: "org/opt" }, `/v2/models/${name}`)).body.name, "org/opt", name);
      const answer = await ask({ name: "org/opt" }, `/v2/models/${name}/generate`, { text_input: "Hello" });
      assert.equal(answer.body.text_output, "Hi there.", name);
    }
  });

  test("that is not there is 404 in the protocol's form", async () => {
    const { status, body } = await ask({}, "/v2/models/other/generate", { text_input: "a" });
    assert.deepEqual([status, body], [404, { error: "No model other." }]);
    assert.equal((await ask({}, "/v2/nothing")).status, 404);
    const wrongMethod = await ask({}, "/v2/models/fake/infer");
    assert.deepEqual([wrongMethod.status, wrongMethod.headers.allow], [405, "POST, OPTIONS"]);
  });
});

describe("generate", () => {
  test("answers with the text", async () => {
    const { body } = await ask({}, "/v2/models/fake/generate", { id: "7", text_input: "Hello" });
    assert.deepEqual(body, { id: "7", text_output: "Hi there.", model_name: "fake", model_version: "1.0" });
  });

  test("tells details where they are asked for", async () => {
    const payload = { text_input: "Hello", parameters: { details: true, max_tokens: 3 } };
    const tokenizer = { eosTokenId: 2 };
    const { body } = await ask({ engine: { tokenizer } }, "/v2/models/fake/versions/1.0/generate", payload);
    assert.deepEqual(body.details, {
      finish_reason: "eos_token",
      logprobs: [
        { id: 0, logprob: -0.5, special: false, text: "Hi" },
        { id: 1, logprob: -0.5, special: false, text: " there" },
        { id: 2, logprob: -0.5, special: true, text: "." },
      ],
    });
    const endings = { eos_token: {}, stop_sequence: { stopReason: "x" }, length: { finishReason: "length" } } as const;
    for (const [name, ending] of Object.entries(endings)) {
      const ended = await ask({ script: say(["a"], ending) }, "/v2/models/fake/generate", payload);
      assert.equal(ended.body.details.finish_reason, name);
    }
  });

  test("streams the same", async () => {
    const app = await makeApp([new FakeModel()]);
    const payload = { text_input: "Hello", parameters: { details: true } };
    const answer = await app.inject({ method: "POST", url: "/v2/models/fake/generate_stream", payload });
    assert.match(String(answer.headers["content-type"]), /^text\/event-stream/);
    const events = readEvents(answer.body) as { text_output: string; details: { finish_reason: string | null } }[];
    assert.deepEqual(
      events.map(({ text_output }) => text_output),
      ["Hi", " there", "."],
    );
    assert.deepEqual(
      events.map(({ details }) => details.finish_reason),
      [null, null, "eos_token"],
    );
  });

  test("refuses before the stream begins with a status, and fails within it with an event", async () => {
    const fails = (after: boolean): Script =>
      async function* (call) {
        yield [startOf(call)];
        if (after) yield [{ chunk: { text: "a", ids: [1] } }];
        // What comes in one turn is sent together.
        await nextTurn();
        throw new ShardspeedError("ERR_NUMERIC", "The model computed NaN.");
      };
    const payload = { text_input: "Hello" };
    const early = await ask({ script: fails(false) }, "/v2/models/fake/generate_stream", payload);
    assert.deepEqual([early.status, early.body], [500, { error: "The model computed NaN." }]);
    const app = await makeApp([new FakeModel({ script: fails(true) })]);
    const late = await app.inject({ method: "POST", url: "/v2/models/fake/generate_stream", payload });
    assert.deepEqual(readEvents(late.body).at(-1), { error: "The model computed NaN." });
    const wrong = await ask({ engine: embedder }, "/v2/models/fake/generate", payload);
    assert.deepEqual([wrong.status, Object.keys(wrong.body)], [400, ["error"]]);
  });
});
