import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import OpenAI from "openai";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { inputTokensAnswer, responseAnswer, responseEvent } from "../../../dist/serving/routes/responses/answers.js";
import { parseAnswer, readNamedEvents } from "../named_events.js";
import { FakeModel, type FakeOptions, makeApp, type Script, say, startOf, withServer } from "../openai/fake_model.js";

const hermes = "{{ '<tool_call>' }}{% for m in messages %}{{ m.role }}{% endfor %}";
const weather = { type: "function", name: "get_weather", parameters: { type: "object" } };

async function post(model: FakeModel | FakeOptions, payload: object, url = "/v1/responses") {
  const app = await makeApp([model instanceof FakeModel ? model : new FakeModel(model)]);
  const answer = await app.inject({ method: "POST", url, payload });
  return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: parseAnswer(answer.body) };
}

/** Events of the form that the schema has. */
function readEvents(text: string) {
  const events = readNamedEvents(text);
  for (const event of events) responseEvent.parse(event);
  return events;
}

describe("a response", () => {
  test("repeats what it was asked with, and has the text", async () => {
    const model = new FakeModel();
    const { status, body } = await post(model, {
      model: "fake",
      input: "Hello",
      instructions: "Be kind.",
      temperature: 0.5,
    });
    assert.equal(status, 200);
    responseAnswer.parse(body);
    const [item] = body.output;
    assert.match(body.id, /^resp_/);
    assert.deepEqual(item.content, [{ type: "output_text", text: "Hi there.", annotations: [], logprobs: [] }]);
    assert.deepEqual([body.instructions, body.temperature, body.top_p, body.model], ["Be kind.", 0.5, 1, "fake"]);
    assert.deepEqual([body.status, body.store, body.usage.output_tokens], ["completed", false, 3]);
    const { prompt, options } = model.generated[0] ?? {};
    assert.deepEqual(prompt && "chat" in prompt && prompt.chat.messages, [
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hello" },
    ]);
    assert.equal(options?.temperature, 0.5);
    assert.equal(model.taken, 0);
  });

  test("continues a conversation of items", async () => {
    const model = new FakeModel();
    const input = [
      { role: "developer", content: "Be kind." },
      { type: "message", role: "user", content: [{ type: "input_text", text: "Weather?" }] },
      { type: "reasoning", id: "rs_1", summary: [] },
      { role: "assistant", content: [{ type: "output_text", text: "Let me see." }] },
      { type: "function_call", call_id: "call_1", name: "get_weather", arguments: '{"city":"Oslo"}' },
      { type: "function_call", call_id: "call_2", name: "get_weather", arguments: "{}" },
      { type: "function_call_output", call_id: "call_1", output: "Rain" },
      { type: "function_call_output", call_id: "call_2", output: [{ type: "input_text", text: "Sun" }] },
    ];
    assert.equal((await post(model, { input })).status, 200);
    const { prompt } = model.generated[0] ?? {};
    const call = (id: string, given: object) => ({
      id,
      type: "function",
      function: { name: "get_weather", arguments: given },
    });
    assert.deepEqual(prompt && "chat" in prompt && prompt.chat.messages, [
      { role: "system", content: "Be kind." },
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "Let me see.", tool_calls: [call("call_1", { city: "Oslo" }), call("call_2", {})] },
      { role: "tool", content: "Rain", name: "get_weather", tool_call_id: "call_1" },
      { role: "tool", content: "Sun", name: "get_weather", tool_call_id: "call_2" },
    ]);
  });

  test("says that the limit of tokens ended it", async () => {
    const { body } = await post(
      { script: say(["a"], { finishReason: "length" }) },
      { input: "Hello", max_output_tokens: 1 },
    );
    responseAnswer.parse(body);
    assert.deepEqual([body.status, body.incomplete_details], ["incomplete", { reason: "max_output_tokens" }]);
  });

  test("calls tools", async () => {
    const script = say(["<tool_call>", '{"name": "get_weather", ', '"arguments": {"city": "Oslo"}}', "</tool_call>"]);
    const model = new FakeModel({ script, engine: { chatTemplate: hermes } });
    const { body } = await post(model, { input: "Weather?", tools: [weather] });
    responseAnswer.parse(body);
    assert.deepEqual(
      body.output.map((item: { name: string; arguments: string; status: string }) => [
        item.name,
        item.arguments,
        item.status,
      ]),
      [["get_weather", '{"city": "Oslo"}', "completed"]],
    );
    assert.match(body.output[0].call_id, /^call_/);
    const [call] = model.generated;
    assert.ok(call && "chat" in call.prompt);
    assert.deepEqual(call.prompt.chat.tools, [
      { type: "function", function: { name: "get_weather", parameters: { type: "object" } } },
    ]);
    assert.equal(call.skipSpecialTokens, false);
    const none = await post(
      { script, engine: { chatTemplate: hermes } },
      { input: "W?", tools: [weather], tool_choice: "none" },
    );
    assert.equal(none.body.output[0].type, "message");
  });

  test("has the form that text.format asks for, and calls that tool_choice forces", async () => {
    const schema = { type: "object", properties: { a: { type: "integer" } } };
    const format = { type: "json_schema", name: "a", schema, strict: true };
    const model = new FakeModel({ engine: { chatTemplate: hermes } });
    const { body } = await post(model, { input: "Hello", text: { format } });
    assert.deepEqual(body.text, { format });
    assert.deepEqual(model.generated[0]?.options.format, { type: "json_schema", schema, strict: true });
    await post(model, { input: "Hello", tools: [weather], tool_choice: { type: "function", name: "get_weather" } });
    const forced = model.generated[1]?.options.format;
    assert.ok(forced?.type === "tagged_json" && forced.most === 1);
  });

  test("has log-probabilities where they are asked for", async () => {
    const { body } = await post({}, { input: "Hello", top_logprobs: 1 });
    responseAnswer.parse(body);
    const { logprobs } = body.output[0].content[0];
    assert.deepEqual(
      logprobs.map(({ token }: { token: string }) => token),
      ["Hi", " there", "."],
    );
    assert.equal(logprobs[0].top_logprobs.length, 1);
    const included = await post({}, { input: "Hello", include: ["message.output_text.logprobs"] });
    assert.equal(included.body.output[0].content[0].logprobs.length, 3);
  });

  test("cuts a prompt that is too long only where it may", async () => {
    const model = new FakeModel();
    await post(model, { input: "Hello", truncation: "auto" });
    await post(model, { input: "Hello" });
    assert.deepEqual(
      model.generated.map(({ truncatePromptTokens }) => truncatePromptTokens),
      [-1, undefined],
    );
  });

  test("is refused where it asks for what is not there", async () => {
    const cases: [object, string, string][] = [
      [{}, "missing_required_parameter", "input"],
      [{ input: [] }, "invalid_value", "input"],
      [{ input: "a", previous_response_id: "resp_1" }, "unsupported_parameter", "previous_response_id"],
      [{ input: "a", conversation: "c" }, "unsupported_parameter", "conversation"],
      [{ input: "a", prompt: { id: "p" } }, "unsupported_parameter", "prompt"],
      [{ input: "a", background: true }, "unsupported_parameter", "background"],
      [{ input: "a", text: { format: { type: "grammar" } } }, "unsupported_value", "response_format.type"],
      [{ input: "a", tools: [{ type: "web_search" }] }, "unsupported_parameter", "tools[0].type"],
      [{ input: "a", tools: [{ type: "function" }] }, "missing_required_parameter", "tools[0].name"],
      [{ input: "a", tools: [weather], tool_choice: "required" }, "unsupported_parameter", "tool_choice"],
      [{ input: "a", tool_choice: { type: "function", name: "f" } }, "invalid_value", "tool_choice"],
      [
        { input: [{ role: "user", content: [{ type: "input_image" }] }] },
        "unsupported_value",
        "input[0].content[0].type",
      ],
      [{ input: [{ type: "item_reference", id: "x" }] }, "unsupported_value", "input[0].type"],
      [
        { input: [{ type: "function_call", name: "f", arguments: "{}" }] },
        "missing_required_parameter",
        "input[0].call_id",
      ],
      [{ input: [{ role: "user" }] }, "missing_required_parameter", "input[0].content"],
      [
        { input: [{ role: "user", content: [{ type: "input_text", text: 5 }] }] },
        "invalid_type",
        "input[0].content[0].text",
      ],
      [{ input: [{ role: "user", content: "a" }, { role: 5 }] }, "invalid_type", "input[1].role"],
      [{ input: 5 }, "invalid_type", "input"],
      [{ input: "a", temperature: 3 }, "invalid_value", "temperature"],
      [{ input: "a", max_output_tokens: 0 }, "invalid_value", "max_output_tokens"],
      [{ input: "a", model: "other" }, "model_not_found", "model"],
    ];
    for (const [payload, code, param] of cases) {
      const model = new FakeModel();
      const { status, body } = await post(model, payload);
      assert.equal(status, code === "model_not_found" ? 404 : 400, JSON.stringify(payload));
      assert.deepEqual([body.error.code, body.error.param], [code, param], JSON.stringify(payload));
      assert.equal(model.taken, 0);
    }
  });

  test("is refused where it has more than conversations have", async () => {
    let deep: unknown = "a";
    for (let i = 0; i < 200; i++) deep = { deep };
    for (const input of [new Array(300_000).fill(1), [{ role: "user", content: "a", deep }]]) {
      const { status, body } = await post({}, { input });
      assert.deepEqual([status, body.error.code], [400, "invalid_value"]);
    }
  });

  test("takes null for what is left out, and fields that say nothing", async () => {
    const nothing = Object.fromEntries(
      [
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "previous_response_id",
        "stream",
        "user",
      ].map((name) => [name, null]),
    );
    const harmless = {
      store: true,
      metadata: { a: "b" },
      prompt_cache_key: "k",
      include: ["reasoning.encrypted_content"],
    };
    const { status, body } = await post({}, { input: "Hello", ...nothing, ...harmless });
    assert.equal(status, 200);
    responseAnswer.parse(body);
    assert.deepEqual([body.metadata, body.store], [{ a: "b" }, false]);
  });

  test("is not kept", async () => {
    const app = await makeApp([new FakeModel()]);
    for (const [method, url] of [
      ["GET", "/v1/responses/resp_1"],
      ["DELETE", "/v1/responses/resp_1"],
      ["POST", "/v1/responses/resp_1/cancel"],
      ["GET", "/v1/responses/resp_1/input_items"],
    ] as const) {
      const answer = await app.inject({ method, url });
      assert.equal(answer.statusCode, 404);
      assert.equal(typeof answer.json().error.message, "string");
    }
  });

  test("has its prompt counted", async () => {
    const { status, body } = await post({}, { input: "Hello" }, "/v1/responses/input_tokens");
    assert.equal(status, 200);
    inputTokensAnswer.parse(body);
    assert.ok(body.input_tokens > 0);
  });
});

describe("a stream of a response", () => {
  test("ends with the response that there would be without it", async () => {
    const script = say(["See ", "<tool_call>", '{"name": "get_weather", "arg', 'uments": {"a": 1}}', "</tool_call>"]);
    const engine = { chatTemplate: hermes };
    const payload = { input: "Weather?", tools: [weather] };
    const whole = await post({ script, engine }, payload);
    const { headers, text } = await post({ script, engine }, { ...payload, stream: true });
    assert.match(String(headers["content-type"]), /^text\/event-stream/);
    const events = readEvents(text);
    assert.deepEqual(
      events.map(({ sequence_number }) => sequence_number),
      [...events.keys()],
    );
    const last = events.at(-1) as { type: string; response?: unknown };
    assert.equal(last.type, "response.completed");
    const withoutIds = (value: unknown) =>
      JSON.parse(JSON.stringify(value, (key, one) => (/(^|_)(id|at)$/.test(key) ? undefined : one)));
    assert.deepEqual(withoutIds(last.response), withoutIds(whole.body));
    assert.ok(!text.includes("[DONE]"));
  });

  test("refuses with a status before it begins, and fails with events within", async () => {
    const fails = (after: boolean): Script =>
      async function* (call) {
        yield [startOf(call)];
        if (after) yield [{ chunk: { text: "a", ids: [1] } }];
        await nextTurn();
        throw new ShardspeedError("ERR_NUMERIC", "The model computed NaN.");
      };
    const early = await post({ script: fails(false) }, { input: "Hello", stream: true });
    assert.deepEqual([early.status, early.body.error.code], [500, "engine_error"]);
    const late = await post({ script: fails(true) }, { input: "Hello", stream: true });
    const events = readEvents(late.text).slice(-2);
    assert.deepEqual(
      events.map(({ type, code }) => [type, code]),
      [
        ["error", "engine_error"],
        ["response.failed", undefined],
      ],
    );
  });

  test("is read by OpenAI's client", async () => {
    const script = say(["Hel", "lo ", "<tool_call>", '{"name": "get_weather", "arguments": {"a": 1}}', "</tool_call>"]);
    const model = new FakeModel({ script, engine: { chatTemplate: hermes } });
    await withServer([model], {}, async (url) => {
      const client = new OpenAI({ apiKey: "none", baseURL: `${url}/v1`, maxRetries: 0 });
      const tools = [{ ...weather, type: "function" as const, strict: false }];
      const stream = client.responses.stream({ model: "fake", input: "Weather?", tools });
      let text = "";
      stream.on("response.output_text.delta", ({ delta }) => {
        text += delta;
      });
      const final = await stream.finalResponse();
      assert.equal(text, "Hello ");
      assert.equal(final.output_text, "Hello ");
      const whole = await client.responses.create({ model: "fake", input: "Weather?", tools });
      assert.equal(whole.output_text, "Hello ");
      const call = whole.output.find((item) => item.type === "function_call");
      assert.deepEqual(JSON.parse(call?.arguments ?? ""), { a: 1 });
    });
  });
});
