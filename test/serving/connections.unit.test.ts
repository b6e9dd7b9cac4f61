import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify from "fastify";
import { anthropicRoutes } from "../../dist/serving/routes/anthropic/plugin.js";
import { kserveRoutes } from "../../dist/serving/routes/kserve/plugin.js";
import { openAiRoutes } from "../../dist/serving/routes/openai/plugin.js";
import { directoryOf, FakeModel, type Script, startOf } from "./openai/fake_model.js";

// All APIs on one server, as it has them. test/serving/openai/ has the same tests of its own routes.

/** Runs until it is told to go on, or its signal aborts. */
function waiting(): { script: Script; release: () => void } {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const script: Script = async function* (call, signal) {
    yield [startOf(call)];
    await Promise.race([released, once(signal, "abort")]);
    yield [{ chunk: { text: "end", ids: [2], finishReason: "stop" as const } }];
  };
  return { script, release };
}

async function withApis<T>(model: FakeModel, work: (url: string) => Promise<T>): Promise<T> {
  const app = Fastify();
  const options = { models: directoryOf([model]) };
  await app.register(openAiRoutes, options);
  await app.register(anthropicRoutes, options);
  await app.register(kserveRoutes, options);
  try {
    return await work(await app.listen({ port: 0, host: "127.0.0.1" }));
  } finally {
    app.server.closeAllConnections();
    await app.close();
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "it never came");
    await sleep(2);
  }
}

const message = { max_tokens: 5, messages: [{ role: "user", content: "a" }] };
const texts = { name: "text_input", datatype: "BYTES", shape: [1], data: ["a"] };
const requests: [string, string, object][] = [
  ["a response", "/v1/responses", { input: "a" }],
  ["a stream of a response", "/v1/responses", { input: "a", stream: true }],
  ["a message", "/v1/messages", message],
  ["a stream of a message", "/v1/messages", { ...message, stream: true }],
  ["infer", "/v2/models/fake/infer", { inputs: [texts] }],
  ["generate", "/v2/models/fake/generate", { text_input: "a" }],
  ["generate_stream", "/v2/models/fake/generate_stream", { text_input: "a" }],
];

describe("a client", () => {
  for (const [title, path, body] of requests) {
    test(`that goes away ends ${title} and gives its place back`, async () => {
      const model = new FakeModel({ script: waiting().script });
      await withApis(model, async (url) => {
        const request = http.request(url + path, { method: "POST", headers: { "content-type": "application/json" } });
        request.on("error", () => {});
        request.end(JSON.stringify(body));
        await until(() => model.generated.length === 1);
        // Node has read the body by now, which is what aborts Fastify's own signal.
        await sleep(20);
        assert.equal(model.aborted, 0);
        request.destroy();
        await until(() => model.aborted === 1 && model.taken === 0);
      });
    });

    test(`that stays gets ${title}`, async () => {
      const { script, release } = waiting();
      const model = new FakeModel({ script });
      await withApis(model, async (url) => {
        const headers = { "content-type": "application/json" };
        const answered = fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
        await until(() => model.generated.length === 1);
        release();
        const response = await answered;
        assert.equal(response.status, 200);
        assert.match(await response.text(), /end/);
        assert.deepEqual([model.aborted, model.taken], [0, 0]);
      });
    });
  }
});

test("URLs that are not there are told of in the form of their API", async () => {
  await withApis(new FakeModel(), async (url) => {
    const ask = async (path: string) => {
      const response = await fetch(url + path, { method: "POST" });
      assert.equal(response.status, 404);
      return Object.keys((await response.json()) as object);
    };
    assert.deepEqual(await ask("/v1/nothing"), ["error"]);
    assert.deepEqual(await ask("/v1/messages/nothing"), ["type", "error", "request_id"]);
    assert.deepEqual(await ask("/v2/nothing"), ["error"]);
  });
});
