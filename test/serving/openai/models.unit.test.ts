import assert from "node:assert/strict";
import { test } from "node:test";
import { modelAnswer, modelsAnswer } from "../../../dist/serving/routes/openai/answers.js";
import { FakeModel, makeApp } from "./fake_model.js";

test("models are listed with what clients of vLLM and llama.cpp read", async () => {
  const app = await makeApp([new FakeModel(), new FakeModel({ name: "late", state: "loading", engine: null })]);
  const list = modelsAnswer.parse((await app.inject("/v1/models")).json());
  assert.deepEqual(list.data[0], {
    id: "fake",
    object: "model",
    created: 1_700_000_000,
    owned_by: "shardspeed",
    root: "fake",
    parent: null,
    max_model_len: 64,
    tasks: ["generate", "chat"],
    meta: { n_vocab: 1000, n_ctx_train: 128, n_params: 1234, size: 2468 },
  });
  assert.equal(list.data[1]?.status, "loading");
});

test("root is the name that a model was loaded under, also where it is served under others", async () => {
  const app = await makeApp([new FakeModel()], { settings: { servedNames: { fake: ["fake", "alias"] } } });
  const { data } = modelsAnswer.parse((await app.inject("/v1/models")).json());
  assert.deepEqual(
    data.map(({ id, root }) => [id, root]),
    [
      ["fake", "fake"],
      ["alias", "fake"],
    ],
  );
});

test("a model without a chat template chats by the server's", async () => {
  const model = new FakeModel({ engine: { tasks: ["generate", "embed"] } });
  for (const [chatTemplate, tasks] of [
    [undefined, ["generate", "embed"]],
    ["{{ messages[0].content }}", ["generate", "embed", "chat"]],
  ] as const) {
    const app = await makeApp([model], { settings: { chatTemplate } });
    const { data } = modelsAnswer.parse((await app.inject("/v1/models")).json());
    assert.deepEqual(data[0]?.tasks, tasks);
  }
});

test("models of handlers without an engine are not OpenAI's", async () => {
  const app = await makeApp([new FakeModel({ engine: null }), new FakeModel({ name: "other" })]);
  const { data } = modelsAnswer.parse((await app.inject("/v1/models")).json());
  assert.deepEqual(
    data.map(({ id }) => id),
    ["other"],
  );
});

test("one model is found by its id, which may have slashes", async () => {
  const app = await makeApp([new FakeModel({ name: "org/fake" }), new FakeModel({ name: "b" })]);
  for (const url of ["/v1/models/org/fake", "/v1/models/org%2Ffake"]) {
    assert.equal(modelAnswer.parse((await app.inject(url)).json()).id, "org/fake");
  }
  const alone = await makeApp([new FakeModel()], { settings: { anyModelName: true } });
  for (const url of ["/v1/models/none", "/v1/models/"]) {
    const missing = await alone.inject(url);
    assert.equal(missing.statusCode, 404);
    assert.equal(missing.json().error.code, "model_not_found");
  }
  assert.equal((await app.inject({ method: "HEAD", url: "/v1/models" })).statusCode, 200);
  const options = await app.inject({ method: "OPTIONS", url: "/v1/models" });
  assert.deepEqual([options.statusCode, options.headers.allow], [204, "GET, HEAD, OPTIONS"]);
});

async function modelOf(names: string[], model: string | undefined, settings = {}): Promise<[number, string]> {
  const app = await makeApp(
    names.map((name) => new FakeModel({ name })),
    { settings },
  );
  const response = await app.inject({ method: "POST", url: "/v1/completions", payload: { prompt: "a", model } });
  return [response.statusCode, response.json().model ?? response.json().error.code];
}

test("a request may leave out the only model, and is answered under the name that it gave", async () => {
  assert.deepEqual(await modelOf(["a"], undefined), [200, "a"]);
  assert.deepEqual(await modelOf(["a"], ""), [200, "a"]);
  assert.deepEqual(await modelOf(["a", "b"], undefined), [400, "missing_required_parameter"]);
  assert.deepEqual(await modelOf(["a", "b"], "b"), [200, "b"]);
  assert.deepEqual(await modelOf(["a"], "gpt-4", { anyModelName: true }), [200, "gpt-4"]);
  assert.deepEqual(await modelOf(["a", "b"], "gpt-4", { anyModelName: true }), [404, "model_not_found"]);
});

test("served names replace a model's own", async () => {
  const settings = { servedNames: { a: ["main", "alias"] } };
  assert.deepEqual(await modelOf(["a"], "alias", settings), [200, "alias"]);
  assert.deepEqual(await modelOf(["a"], undefined, settings), [200, "main"]);
  assert.deepEqual(await modelOf(["a"], "a", settings), [404, "model_not_found"]);
});
