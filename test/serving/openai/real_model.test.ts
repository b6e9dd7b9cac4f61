import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import OpenAI from "openai";
import { type Engine, initInference } from "../../../dist/index.js";
import type { ModelPool } from "../../../dist/serving/model_pool.js";
import { ModelRegistry } from "../../../dist/serving/registry.js";
import { demoModel } from "../../support/fixtures.js";
import { makeAppOf } from "./fake_model.js";

// The whole way: the official client, HTTP, a worker process and its engine.

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const template = "{% for m in messages %}{{ m.content }}{% endfor %}";

let registry: ModelRegistry;
let pool: ModelPool;
let app: FastifyInstance;
let client: OpenAI;
let engine: Engine;

before(async () => {
  registry = new ModelRegistry({
    server: { deviceType: "cpu" },
    maxConcurrentRequests: 64,
    maxQueuedSequences: 64,
    requestTimeoutMs: 0,
    handlerMap: {},
    engineOptions: {},
    streamIntervalMs: 0,
    logger: silent,
    observe: () => ({}),
  });
  const registered = await registry.register({ location: demoModel, settings: {} });
  pool = registered.pool;
  await pool.replicas.scaleTo(registered.minWorkers);
  app = await makeAppOf(registry, { settings: { chatTemplate: template } });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  engine = await initInference(demoModel);
});

after(async () => {
  await engine?.dispose();
  app?.server.closeAllConnections();
  await app?.close();
  await registry?.dispose(1000);
});

const prompt = "It is a truth";

describe("a model behind the API", () => {
  test("finds in its prefix cache what a request of the same salt has computed", async () => {
    const long = "It is a truth universally acknowledged, that a single man in possession of a good fortune. ".repeat(
      3,
    );
    const ask = async (salt?: string) => {
      const body = { model: "demo", prompt: long, max_tokens: 4, temperature: 0, ...(salt && { cache_salt: salt }) };
      const { choices, usage } = await client.completions.create(body);
      return { text: choices[0]?.text, cached: usage?.prompt_tokens_details?.cached_tokens };
    };
    const first = await ask();
    const second = await ask();
    assert.equal(first.cached, 0);
    assert.ok((second.cached as number) >= 16);
    assert.equal(second.text, first.text);
    assert.deepEqual(await ask("mine"), first);
    assert.deepEqual(await ask("mine"), second);
  });

  test("keeps to the form that a request asks for, and says what of a schema is not supported", async () => {
    const schema = {
      type: "object",
      properties: { a: { enum: ["x", 12] } },
      required: ["a"],
      additionalProperties: false,
    };
    const ask = (more: object) =>
      client.chat.completions.create({
        ...{ model: "demo", messages: [{ role: "user", content: prompt }], temperature: 2, seed: 5, max_tokens: 40 },
        ...{ response_format: { type: "json_schema", json_schema: { name: "a", schema } } },
        ...more,
      });
    const { choices } = await ask({});
    assert.equal(choices[0]?.finish_reason, "stop");
    assert.ok(["x", 12].includes(JSON.parse(choices[0]?.message.content ?? "").a));
    const wrong = { response_format: { type: "json_schema", json_schema: { name: "a", schema: { not: {} } } } };
    await assert.rejects(ask(wrong), (error: { status: number; message: string }) => {
      assert.equal(error.status, 400);
      assert.match(error.message, /\/not cannot be used/);
      return true;
    });
    // A stream has not begun by then.
    await assert.rejects(ask({ ...wrong, stream: true }), { status: 400 });
  });

  test("gives the samples and the beams that its engine gives", async () => {
    const options = { maxNewTokens: 9, temperature: 1, seed: 4, n: 3 };
    const expected = (await engine.generate(prompt, options)).choices?.map(({ text }) => text);
    const request = { model: "demo", prompt, max_tokens: 9, temperature: 1, seed: 4, n: 3 };
    const { choices, usage } = await client.completions.create(request);
    assert.deepEqual(
      choices.map(({ text }) => text),
      expected,
    );
    assert.equal(usage?.prompt_tokens, engine.tokenizer?.encode(prompt).length);
    const streamed = ["", "", ""];
    for await (const chunk of await client.completions.create({ ...request, stream: true }))
      for (const { index, text } of chunk.choices) streamed[index] += text;
    assert.deepEqual(streamed, expected);
    const messages = [{ role: "user" as const, content: prompt }];
    const chat = await client.chat.completions.create({ model: "demo", messages, max_tokens: 5, seed: 4, n: 2 });
    assert.equal(new Set(chat.choices.map(({ message }) => message.content)).size, 2);
    const beams = await engine.generate(prompt, { maxNewTokens: 9, numBeams: 3, n: 3 });
    const searched = await client.completions.create({ ...request, use_beam_search: true } as typeof request);
    assert.deepEqual(
      searched.choices.map(({ text }) => text),
      beams.choices?.map(({ text }) => text),
    );
  });

  test("says what its engine says", async () => {
    const expected = await engine.generate(prompt, { maxNewTokens: 12, logprobs: 2 });
    const request = { model: "demo", prompt, max_tokens: 12, temperature: 0, logprobs: 2 };
    const { choices, usage } = await client.completions.create(request);
    assert.equal(choices[0]?.text, expected.text);
    assert.equal(choices[0]?.finish_reason, "length");
    assert.equal(usage?.prompt_tokens, expected.usage.promptTokens);
    assert.deepEqual(
      choices[0]?.logprobs?.token_logprobs,
      expected.logprobs?.map(({ logprob }) => logprob),
    );
    const messages = [{ role: "user" as const, content: prompt }];
    const chat = await client.chat.completions.create({ model: "demo", messages, max_tokens: 12, temperature: 0 });
    const rendered = await engine.generate(engine.tokenizer?.encode(prompt, { addSpecialTokens: false }) ?? [], {
      maxNewTokens: 12,
    });
    assert.equal(chat.choices[0]?.message.content, rendered.text);
  });

  test("gives the same text for a seed alone, in a stream and among others", async () => {
    const request = { model: "demo", prompt, max_tokens: 24, seed: 7, temperature: 1 };
    const alone = (await client.completions.create(request)).choices[0]?.text;
    const others = Array.from({ length: 15 }, (_, i) => client.completions.create({ ...request, seed: 100 + i }));
    let streamed = "";
    for await (const { choices } of await client.completions.create({ ...request, stream: true })) {
      streamed += choices[0]?.text ?? "";
    }
    const [again] = await Promise.all([client.completions.create(request), ...others]);
    assert.equal(streamed, alone);
    assert.equal(again?.choices[0]?.text, alone);
  });

  test("tells how long a prompt is that does not fit", async () => {
    await assert.rejects(client.completions.create({ model: "demo", prompt: "word ".repeat(2000) }), {
      status: 400,
      code: "context_length_exceeded",
      message: /maximum context length is 512 tokens\. However, you requested \d{4} tokens/,
    });
  });

  test("turns text into ids and back", async () => {
    const post = async (path: string, body: object) =>
      (await client.post(path, { body })) as { tokens: number[]; prompt: string };
    const { tokens } = await post("/tokenize", { prompt, add_special_tokens: false });
    assert.deepEqual(tokens, engine.tokenizer?.encode(prompt, { addSpecialTokens: false }));
    assert.equal((await post("/detokenize", { tokens })).prompt, prompt);
  });

  test("is free again when a client has gone", async () => {
    const stream = await client.completions.create({
      ...{ model: "demo", prompt, max_tokens: 400, stream: true },
      ...({ ignore_eos: true } as object),
    } as OpenAI.CompletionCreateParamsStreaming);
    for await (const _ of stream) break;
    while (pool.pending > 0) await sleep(5);
  });
});
