import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { APIError, AuthenticationError, BadRequestError, InternalServerError, NotFoundError } from "openai";
import { ShardspeedError } from "../../../dist/base/errors.js";
import type { OpenAiOptions } from "../../../dist/serving/routes/openai/plugin.js";
import { FakeModel, type FakeOptions, say, startOf, withServer } from "./fake_model.js";

// The official client, over real HTTP.

interface Setting {
  client: OpenAI;
  model: FakeModel;
  url: string;
}

async function withClient(
  options: FakeOptions,
  work: (setting: Setting) => Promise<void>,
  server: Partial<OpenAiOptions> = {},
): Promise<void> {
  const model = new FakeModel(options);
  await withServer([model], server, (url) =>
    work({ client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }), model, url }),
  );
}

const messages = [{ role: "user" as const, content: "Hello" }];
const request = { model: "fake", messages };

/** Calls of both as the template asks for them. */
const called =
  '<tool_call>\n{"name": "f", "arguments": {"a": [1, "x"]}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>';
const withTools: FakeOptions = {
  engine: { chatTemplate: "{{ tools }} <tool_call>" },
  script: say(called.split(/(?<=[ {])/)),
};
const tools = ["f", "g"].map((name) => ({ type: "function" as const, function: { name, parameters: {} } }));

describe("the official client", () => {
  test("lists and retrieves models", async () => {
    await withClient({ name: "org/fake" }, async ({ client }) => {
      const ids: string[] = [];
      for await (const { id } of client.models.list()) ids.push(id);
      assert.deepEqual(ids, ["org/fake"]);
      assert.equal((await client.models.retrieve("org/fake")).owned_by, "shardspeed");
    });
  });

  test("completes, at once and in a stream", async () => {
    await withClient({}, async ({ client }) => {
      const whole = await client.completions.create({ model: "fake", prompt: ["a", "b"], logprobs: 1 });
      assert.deepEqual(
        whole.choices.map(({ text }) => text),
        ["Hi there.", "Hi there."],
      );
      assert.equal(whole.choices[0]?.logprobs?.tokens?.length, 3);
      let text = "";
      for await (const chunk of await client.completions.create({ model: "fake", prompt: "a", stream: true })) {
        text += chunk.choices[0]?.text ?? "";
      }
      assert.equal(text, "Hi there.");
    });
  });

  test("chats, and knows the request's id", async () => {
    await withClient({}, async ({ client }) => {
      const answer = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 1 });
      assert.equal(answer.choices[0]?.message.content, "Hi there.");
      assert.equal(answer.choices[0]?.logprobs?.content?.length, 3);
      assert.match(answer._request_id ?? "", /^[0-9a-f-]{36}$/);
      let text = "";
      const stream = await client.chat.completions.create({
        ...request,
        stream: true,
        stream_options: { include_usage: true },
      });
      let total = 0;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        total = chunk.usage?.total_tokens ?? total;
      }
      assert.deepEqual([text, total], ["Hi there.", 4]);
    });
  });

  test("puts a stream together by its helper, which checks roles and reasons", async () => {
    await withClient({}, async ({ client }) => {
      const helper = client.chat.completions.stream(request);
      const seen: string[] = [];
      helper.on("content", (delta) => seen.push(delta));
      const final = await helper.finalChatCompletion();
      assert.equal(final.choices[0]?.message.content, "Hi there.");
      assert.equal(final.choices[0]?.finish_reason, "stop");
      assert.equal(seen.join(""), "Hi there.");
    });
  });

  test("puts calls of tools together, streamed or not", async () => {
    await withClient(withTools, async ({ client }) => {
      const whole = await client.chat.completions.create({ ...request, tools });
      const streamed = await client.chat.completions.stream({ ...request, tools }).finalChatCompletion();
      for (const { choices } of [whole, streamed]) {
        assert.equal(choices[0]?.finish_reason, "tool_calls");
        const calls = choices[0]?.message.tool_calls?.map((call) => call.type === "function" && call.function);
        assert.deepEqual(
          calls?.map((call) => call && [call.name, JSON.parse(call.arguments)]),
          [
            ["f", { a: [1, "x"] }],
            ["g", {}],
          ],
        );
      }
    });
  });

  test("gets embeddings as base64, which it asks for by itself, and as numbers", async () => {
    const answers: FakeOptions["answers"] = {
      embed: ({ texts }) => ({
        values: Float32Array.from(texts.flatMap((_, i) => [i, 0.1])),
        width: 2,
        promptTokens: 4,
      }),
    };
    await withClient({ engine: { tasks: ["embed"] }, answers }, async ({ client }) => {
      for (const form of [{}, { encoding_format: "float" as const }]) {
        const { data } = await client.embeddings.create({ model: "fake", input: ["a", "b"], ...form });
        assert.deepEqual(
          data.map(({ embedding }) => [...embedding]),
          [
            [0, Math.fround(0.1)],
            [1, Math.fround(0.1)],
          ],
        );
      }
    });
  });

  test("throws the class of each error, with its fields", async () => {
    const fail = (error: Error): FakeOptions["script"] =>
      async function* (call) {
        yield [startOf(call)];
        throw error;
      };
    const nan = new ShardspeedError("ERR_NUMERIC", "NaN.");
    await withClient({ script: fail(nan) }, async ({ client }) => {
      await assert.rejects(client.chat.completions.create(request), (error: APIError) => {
        assert.ok(error instanceof InternalServerError);
        assert.deepEqual([error.code, error.type], ["engine_error", "server_error"]);
        return true;
      });
      await assert.rejects(client.chat.completions.create({ ...request, model: "gpt-4" }), (error: APIError) => {
        assert.ok(error instanceof NotFoundError);
        assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
        assert.match(error.requestID ?? "", /^[0-9a-f-]{36}$/);
        return true;
      });
      await assert.rejects(client.chat.completions.create({ ...request, temperature: 9 }), (error: APIError) => {
        assert.ok(error instanceof BadRequestError && !(error instanceof AuthenticationError));
        assert.deepEqual([error.code, error.param, error.status], ["invalid_value", "temperature", 400]);
        return true;
      });
    });
  });

  test("throws what fails in a stream", async () => {
    const script: FakeOptions["script"] = async function* (call) {
      yield [startOf(call), { chunk: { text: "Hi", ids: [1] } }];
      await sleep(20);
      throw new ShardspeedError("ERR_NUMERIC", "NaN.");
    };
    await withClient({ script }, async ({ client }) => {
      let text = "";
      await assert.rejects(
        async () => {
          for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
            text += chunk.choices[0]?.delta.content ?? "";
          }
        },
        (error: APIError) =>
          error instanceof APIError && error.code === "engine_error" && error.type === "server_error",
      );
      assert.equal(text, "Hi");
    });
  });

  test("tries again where the queue is full, and not where it is in vain", async () => {
    let tries = 0;
    const script: FakeOptions["script"] = async function* (call) {
      tries++;
      yield [startOf(call)];
      throw new ShardspeedError("ERR_NUMERIC", "NaN.");
    };
    await withClient({ script }, async ({ url }) => {
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 2 });
      await assert.rejects(client.chat.completions.create(request), InternalServerError);
      assert.equal(tries, 1);
    });
  });

  test("cancels by its signal, streamed or not", async () => {
    const script: FakeOptions["script"] = async function* (call, signal) {
      yield [startOf(call), { chunk: { text: "Hi", ids: [1] } }];
      await once(signal, "abort");
      yield [];
    };
    await withClient({ script }, async ({ client, model }) => {
      const stream = await client.chat.completions.create({ ...request, stream: true });
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
      const controller = new AbortController();
      const waiting = client.chat.completions.create(request, { signal: controller.signal });
      while (model.generated.length < 2) await sleep(2);
      controller.abort();
      await assert.rejects(waiting);
      while (model.aborted < 2 || model.taken > 0) await sleep(2);
    });
  });

  test("is not confused by comments", async () => {
    const script: FakeOptions["script"] = async function* (call) {
      yield [startOf(call)];
      await sleep(50);
      yield [{ chunk: { text: "Hi", ids: [1], finishReason: "stop" as const } }];
    };
    const server = { settings: { ssePingIntervalMs: 5 } };
    const work = async ({ client }: Setting) => {
      const final = await client.chat.completions.stream(request).finalChatCompletion();
      assert.equal(final.choices[0]?.message.content, "Hi");
    };
    await withClient({ script }, work, server);
  });
});
