import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import Fastify from "fastify";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { anthropicRoutes } from "../../../dist/serving/routes/anthropic/plugin.js";
import { parseAnswer, readNamedEvents as readEvents } from "../named_events.js";
import { directoryOf, FakeModel, type FakeOptions, type Script, say, startOf } from "../openai/fake_model.js";

const hermes = "{{ '<tool_call>' }}{% for m in messages %}{{ m.role }}{% endfor %}";
const weather = { name: "get_weather", description: "Weather", input_schema: { type: "object" } };
const hello = { model: "fake", max_tokens: 10, messages: [{ role: "user", content: "Hello" }] };

async function post(model: FakeModel | FakeOptions, payload: object, url = "/v1/messages") {
  const app = Fastify();
  const fake = model instanceof FakeModel ? model : new FakeModel(model);
  await app.register(anthropicRoutes, { models: directoryOf([fake]) });
  const answer = await app.inject({ method: "POST", url, payload, headers: { "x-request-id": "req-1" } });
  return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: parseAnswer(answer.body) };
}

describe("a message", () => {
  test("has the text, how it ended and what it took", async () => {
    const model = new FakeModel();
    const sampling = { temperature: 0.5, top_k: 5, top_p: 0.9, stop_sequences: ["X"] };
    const { status, headers, body } = await post(model, { ...hello, system: "Be kind.", ...sampling });
    assert.deepEqual([status, headers["request-id"]], [200, "req-1"]);
    assert.match(body.id, /^msg_/);
    assert.deepEqual(body, {
      ...{
        id: body.id,
        type: "message",
        role: "assistant",
        model: "fake",
        content: [{ type: "text", text: "Hi there." }],
      },
      ...{ stop_reason: "end_turn", stop_sequence: null },
      usage: { input_tokens: 2, output_tokens: 3, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 },
    });
    const { prompt, options } = model.generated[0] ?? {};
    assert.deepEqual(prompt && "chat" in prompt && prompt.chat.messages, [
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hello" },
    ]);
    const { maxNewTokens, temperature, topK, topP, stop } = options ?? {};
    assert.deepEqual([maxNewTokens, temperature, topK, topP, stop], [10, 0.5, 5, 0.9, ["X"]]);
    assert.equal(model.taken, 0);
  });

  test("continues a conversation with calls and results", async () => {
    const model = new FakeModel();
    const use = { type: "tool_use", id: "toolu_1", name: "get_weather", input: { city: "Oslo" } };
    const messages = [
      { role: "user", content: [{ type: "text", text: "Weather?", cache_control: { type: "ephemeral" } }] },
      {
        role: "assistant",
        content: [{ type: "thinking", thinking: "Hm", signature: "s" }, { type: "text", text: "See." }, use],
      },
      {
        role: "user",
        content: [
          { type: "text", text: "Here." },
          {
            type: "tool_result",
            tool_use_id: "toolu_1",
            content: [
              { type: "text", text: "Rain" },
              { type: "text", text: "Cold" },
            ],
          },
          { type: "text", text: "And now?" },
        ],
      },
    ];
    const system = [
      { type: "text", text: "Be kind." },
      { type: "text", text: "Be short." },
    ];
    assert.equal((await post(model, { ...hello, system, messages })).status, 200);
    const { prompt } = model.generated[0] ?? {};
    const called = { name: "get_weather", arguments: { city: "Oslo" } };
    assert.deepEqual(prompt && "chat" in prompt && prompt.chat.messages, [
      { role: "system", content: "Be kind.\nBe short." },
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "See.", tool_calls: [{ id: "toolu_1", type: "function", function: called }] },
      { role: "user", content: "Here." },
      { role: "tool", content: "Rain\nCold", name: "get_weather", tool_call_id: "toolu_1" },
      { role: "user", content: "And now?" },
    ]);
  });

  test("says what ended it", async () => {
    const cut = await post({ script: say(["a"], { finishReason: "length" }) }, hello);
    assert.equal(cut.body.stop_reason, "max_tokens");
    const script = say(["a"], { stopReason: "X" });
    const stopped = await post({ script }, { ...hello, stop_sequences: ["X"] });
    assert.deepEqual([stopped.body.stop_reason, stopped.body.stop_sequence], ["stop_sequence", "X"]);
    // A string of the model's own.
    assert.equal((await post({ script }, hello)).body.stop_reason, "end_turn");
  });

  test("calls a tool where it has to, and writes what output_format says", async () => {
    const model = new FakeModel({ engine: { chatTemplate: hermes } });
    const schema = { type: "object" };
    for (const payload of [
      { tools: [weather], tool_choice: { type: "any" } },
      { tools: [weather], tool_choice: { type: "tool", name: weather.name } },
      { output_format: { type: "json_schema", schema } },
      { output_config: { format: { type: "json_schema", schema } } },
    ])
      await post(model, { ...hello, ...payload });
    const [any, one, ...written] = model.generated.map(({ options }) => options.format);
    assert.ok(any?.type === "tagged_json" && any.most === 16);
    assert.ok(one?.type === "tagged_json" && one.most === 1);
    const { input_schema } = weather;
    assert.deepEqual(one.values[0]?.schema, input_schema);
    assert.deepEqual(written, Array(2).fill({ type: "json_schema", schema }));
  });

  test("calls tools", async () => {
    const script = say(['<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>']);
    const model = new FakeModel({ script, engine: { chatTemplate: hermes } });
    const { body } = await post(model, { ...hello, tools: [weather], tool_choice: { type: "auto" } });
    assert.equal(body.stop_reason, "tool_use");
    const [use] = body.content;
    assert.deepEqual(use, { type: "tool_use", id: use.id, name: "get_weather", input: { city: "Oslo" } });
    const [call] = model.generated;
    assert.ok(call && "chat" in call.prompt);
    const { name, description, input_schema: parameters } = weather;
    assert.deepEqual(call.prompt.chat.tools, [{ type: "function", function: { name, description, parameters } }]);
  });

  test("has its prompt counted", async () => {
    const { max_tokens: _, ...prompt } = hello;
    const { status, body } = await post({}, prompt, "/v1/messages/count_tokens");
    assert.equal(status, 200);
    assert.deepEqual(Object.keys(body), ["input_tokens"]);
    assert.ok(body.input_tokens > 0);
  });
});

describe("a request that cannot be answered", () => {
  test("is told of in Anthropic's form", async () => {
    const user = (content: unknown) => ({ ...hello, messages: [{ role: "user", content }] });
    const cases: [object, number, string, RegExp][] = [
      [{ ...hello, max_tokens: undefined }, 400, "invalid_request_error", /max_tokens/],
      [{ ...hello, max_tokens: 0 }, 400, "invalid_request_error", /max_tokens/],
      [{ ...hello, messages: [] }, 400, "invalid_request_error", /messages/],
      [{ ...hello, temperature: 2 }, 400, "invalid_request_error", /temperature/],
      [user([{ type: "image", source: {} }]), 400, "invalid_request_error", /image/],
      [user([{ type: "text" }]), 400, "invalid_request_error", /messages\[0\]\.content\[0\]\.text/],
      [
        user([{ type: "text", text: 5 }]),
        400,
        "invalid_request_error",
        /messages\[0\]\.content\[0\]\.text: .*string, found 5/,
      ],
      [user([{ type: "tool_result" }]), 400, "invalid_request_error", /tool_use_id/],
      [
        user([{ type: "tool_result", tool_use_id: "a", content: [{ type: "image" }] }]),
        400,
        "invalid_request_error",
        /image/,
      ],
      [
        user([{ type: "tool_result", tool_use_id: "a", content: [null] }]),
        400,
        "invalid_request_error",
        /content\[0\]/,
      ],
      [user([{ type: "tool_result", tool_use_id: "a", content: 1 }]), 400, "invalid_request_error", /content/],
      [{ ...hello, tools: [weather], tool_choice: { type: "any" } }, 400, "invalid_request_error", /cannot force/],
      [{ ...hello, tools: [weather], tool_choice: { type: "all" } }, 400, "invalid_request_error", /tool_choice\.type/],
      [{ ...hello, tools: [{ type: "bash_20250124", name: "bash" }] }, 400, "invalid_request_error", /bash_20250124/],
      [{ ...hello, mcp_servers: [{}] }, 400, "invalid_request_error", /mcp_servers/],
      [{ ...hello, output_config: { format: { type: "json_schema" } } }, 400, "invalid_request_error", /schema/],
      [{ ...hello, model: "other" }, 404, "not_found_error", /other/],
    ];
    for (const [payload, code, type, pattern] of cases) {
      const model = new FakeModel();
      const { status, body } = await post(model, payload);
      assert.equal(status, code, JSON.stringify(payload));
      assert.deepEqual([body.type, body.error.type, body.request_id], ["error", type, "req-1"]);
      assert.match(body.error.message, pattern);
      assert.equal(model.taken, 0);
    }
    const loading = await post({ state: "loading", engine: null }, hello);
    assert.deepEqual(
      [loading.status, loading.body.error.type, loading.headers["retry-after"]],
      [503, "overloaded_error", "3"],
    );
    assert.equal((await post({}, hello, "/v1/messages/batches")).body.error.type, "not_found_error");
  });

  test("is accepted with null for what is left out, and with fields that say nothing", async () => {
    const nothing = Object.fromEntries(
      ["system", "tools", "tool_choice", "stop_sequences", "top_k"].map((name) => [name, null]),
    );
    const harmless = { thinking: { type: "enabled", budget_tokens: 1024 }, metadata: { user_id: "u" }, anything: 1 };
    assert.equal((await post({}, { ...hello, ...nothing, ...harmless })).status, 200);
  });
});

describe("a stream of a message", () => {
  test("has the blocks one after another", async () => {
    const script = say(["See ", "<tool_call>", '{"name": "get_weather", "arg', 'uments": {"a": 1}}', "</tool_call>"]);
    const engine = { chatTemplate: hermes };
    const { headers, text } = await post({ script, engine }, { ...hello, tools: [weather], stream: true });
    assert.match(String(headers["content-type"]), /^text\/event-stream/);
    const events = readEvents(text);
    assert.deepEqual(
      events.map(({ type, index }) => (index === undefined ? type : `${type} ${index}`)),
      [
        ...["message_start", "content_block_start 0", "content_block_delta 0", "content_block_stop 0"],
        ...["content_block_start 1", "content_block_delta 1", "content_block_stop 1", "message_delta", "message_stop"],
      ],
    );
    assert.deepEqual(events[5]?.delta, { type: "input_json_delta", partial_json: '{"a": 1}' });
    const { delta } = events.at(-2) as { delta?: { stop_reason: string } };
    assert.equal(delta?.stop_reason, "tool_use");
  });

  test("refuses with a status before it begins, and fails with an event within", async () => {
    const fails = (after: boolean): Script =>
      async function* (call) {
        yield [startOf(call)];
        if (after) yield [{ chunk: { text: "a", ids: [1] } }];
        await nextTurn();
        throw new ShardspeedError("ERR_NUMERIC", "The model computed NaN.");
      };
    const early = await post({ script: fails(false) }, { ...hello, stream: true });
    assert.deepEqual([early.status, early.body.error.type], [500, "api_error"]);
    const late = await post({ script: fails(true) }, { ...hello, stream: true });
    const failure = { type: "error", error: { type: "api_error", message: "The model computed NaN." } };
    assert.deepEqual(readEvents(late.text).at(-1), failure);
  });
});
