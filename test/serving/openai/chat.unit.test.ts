import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { chatAnswer, chatChunk } from "../../../dist/serving/routes/openai/answers.js";
import { chatSchema } from "../../../dist/serving/routes/openai/fields.js";
import { FakeModel, type FakeOptions, makeApp, readEvents, say, startOf } from "./fake_model.js";

const hello = [{ role: "user", content: "Hello" }];

async function post(body: object, options: FakeOptions = {}, settings = {}) {
  const model = new FakeModel(options);
  const app = await makeApp([model], { settings });
  const payload = { messages: hello, ...body };
  const response = await app.inject({ method: "POST", url: "/v1/chat/completions", payload });
  const isStream = String(response.headers["content-type"]).startsWith("text/event-stream");
  const answer = isStream ? undefined : response.json();
  if (response.statusCode === 200 && answer !== undefined) chatAnswer.parse(answer);
  assert.equal(model.taken, 0, "places are given back");
  return { model, response, answer, call: model.generated[0] };
}

async function stream(body: object, options: FakeOptions = {}, settings = {}) {
  const { response } = await post({ ...body, stream: true }, options, settings);
  assert.equal(response.statusCode, 200, response.body);
  const events = readEvents(response.body);
  assert.equal(events.pop(), "[DONE]");
  return events.map((event) => chatChunk.parse(event));
}

/** The conversation that a worker got. */
async function sent(body: object, options: FakeOptions = {}, settings = {}) {
  const { call, response } = await post(body, options, settings);
  assert.equal(response.statusCode, 200, response.body);
  assert.ok(call !== undefined && "chat" in call.prompt);
  return call.prompt.chat;
}

/** The code and the field of a refusal. */
async function refusal(body: object, options: FakeOptions = {}, settings = {}): Promise<[string, string]> {
  const { response, model } = await post(body, options, settings);
  assert.equal(response.statusCode, 400, response.body);
  assert.equal(model.generated.length, 0);
  const { code, param } = response.json().error;
  return [code, param];
}

describe("an answer to a conversation", () => {
  test("has OpenAI's form", async () => {
    const { answer, call } = await post({ max_tokens: 7 });
    assert.match(answer.id, /^chatcmpl-[0-9a-f]{24}$/);
    assert.equal(answer.object, "chat.completion");
    assert.deepEqual(answer.choices, [
      {
        index: 0,
        message: { role: "assistant", content: "Hi there.", refusal: null },
        logprobs: null,
        finish_reason: "stop",
        stop_reason: null,
      },
    ]);
    assert.deepEqual(answer.usage, {
      prompt_tokens: 1,
      completion_tokens: 3,
      total_tokens: 4,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    });
    assert.equal(call?.options.maxNewTokens, 7);
    assert.ok(call !== undefined && !("ids" in call.prompt) && call.prompt.addSpecialTokens === false);
  });

  test("has as many tokens as there is room for, unless max_completion_tokens or max_tokens says less", async () => {
    const most = async (body: object, engine = {}) => (await post(body, { engine })).call?.options.maxNewTokens;
    assert.equal(await most({}), 64);
    assert.equal(await most({}, { generationDefaults: { maxNewTokens: 30 } }), 30);
    assert.equal(await most({ max_tokens: 5 }), 5);
    assert.equal(await most({ max_tokens: 5, max_completion_tokens: 6 }), 6);
    assert.deepEqual(await refusal({ max_tokens: 0 }), ["invalid_value", "max_tokens"]);
    assert.deepEqual(await refusal({ max_completion_tokens: -1 }), ["invalid_value", "max_completion_tokens"]);
  });

  test("takes null for absent in every field", async () => {
    const names = [...Object.keys(chatSchema.shape), "functions", "audio", "modalities", "made_up"];
    const nulls = Object.fromEntries(names.map((name) => [name, null]));
    const { response, call } = await post({ ...nulls, messages: [{ ...hello[0], name: null, tool_calls: null }] });
    assert.equal(response.statusCode, 200, response.body);
    assert.deepEqual(call, (await post({})).call);
  });

  test("has log-probabilities with the bytes of the vocabulary", async () => {
    const { answer } = await post({ logprobs: true, top_logprobs: 1 });
    assert.deepEqual(answer.choices[0].logprobs.content[0], {
      token: "Hi",
      logprob: -0.5,
      bytes: [72, 105],
      top_logprobs: [{ token: "Hi", logprob: -0.5, bytes: [72, 105] }],
    });
    assert.equal(answer.choices[0].logprobs.refusal, null);
    assert.equal(answer.choices[0].logprobs.content.length, answer.usage.completion_tokens);
    assert.deepEqual(await refusal({ top_logprobs: 1 }), ["invalid_value", "top_logprobs"]);
    assert.deepEqual(await refusal({ logprobs: true, top_logprobs: 21 }), ["invalid_value", "top_logprobs"]);
    assert.deepEqual(await refusal({ logprobs: 1 }), ["invalid_type", "logprobs"]);
  });

  test("has token ids where they are asked for", async () => {
    const { answer } = await post({ return_token_ids: true });
    assert.deepEqual(answer.choices[0].token_ids, [0, 1, 2]);
    assert.ok(Array.isArray(answer.prompt_token_ids));
  });
});

describe("messages", () => {
  test("reach the template with lower-case roles and the developer as system", async () => {
    const messages = [
      { role: "Developer", content: "Be brief." },
      { role: "USER", content: "Hello", name: "ann" },
    ];
    const chat = await sent({ messages });
    assert.deepEqual(chat.messages, [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hello", name: "ann" },
    ]);
    const engine = { chatTemplate: "{% if m.role == 'developer' %}{% endif %}" };
    assert.equal((await sent({ messages }, { engine })).messages[0]?.role, "developer");
    assert.deepEqual(await refusal({ messages: [{ role: "narrator", content: "a" }] }), [
      "invalid_value",
      "messages[0].role",
    ]);
  });

  test("in parts are joined by lines, or stay parts for templates that go over them", async () => {
    const content = [
      { type: "text", text: "one" },
      { type: "text", text: "two" },
    ];
    const messages = [{ role: "user", content }];
    assert.equal((await sent({ messages })).messages[0]?.content, "one\ntwo");
    const chatTemplate = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}";
    assert.deepEqual((await sent({ messages }, { engine: { chatTemplate } })).messages[0]?.content, content);
    const refused = [{ role: "assistant", content: [{ type: "refusal", refusal: "No." }] }];
    assert.equal((await sent({ messages: refused })).messages[0]?.content, "No.");
    const half = [{ role: "user", content: "a\udc00" }];
    assert.equal((await sent({ messages: half })).messages[0]?.content, "a\uFFFD");
  });

  test("with what the model cannot read are refused by the part's path", async () => {
    const withPart = (part: unknown) => ({
      messages: [...hello, { role: "user", content: [{ type: "text", text: "a" }, part] }],
    });
    for (const type of ["image_url", "input_audio", "file", undefined, 3]) {
      assert.deepEqual(await refusal(withPart({ type })), ["unsupported_value", "messages[1].content[1].type"]);
    }
    assert.deepEqual(await refusal(withPart("a")), ["invalid_type", "messages[1].content[1]"]);
    assert.deepEqual(await refusal(withPart({ type: "text" })), ["invalid_type", "messages[1].content[1].text"]);
    assert.deepEqual(await refusal({ messages: [{ role: "user", content: 3 }] }), [
      "invalid_type",
      "messages[0].content",
    ]);
    assert.deepEqual(await refusal({ messages: [{ role: "user" }] }), [
      "missing_required_parameter",
      "messages[0].content",
    ]);
    assert.deepEqual(await refusal({ messages: [] }), ["invalid_value", "messages"]);
    assert.deepEqual(await refusal({ messages: "a" }), ["invalid_type", "messages"]);
    assert.deepEqual(await refusal({ messages: undefined }), ["missing_required_parameter", "messages"]);
    assert.deepEqual(await refusal({ messages: [{ content: "a" }] }), [
      "missing_required_parameter",
      "messages[0].role",
    ]);
  });

  test("of calls have their arguments as objects, and of results the name of their call", async () => {
    const call = (id: string, given: unknown) => ({
      id,
      type: "function",
      function: { name: `f_${id}`, arguments: given },
    });
    const chat = await sent({
      messages: [
        ...hello,
        { role: "assistant", content: null, tool_calls: [call("a", '{"x": 1}'), call("b", "not json"), call("c", "")] },
        { role: "tool", tool_call_id: "a", content: "1" },
        { role: "tool", tool_call_id: "b", name: "own", content: "2" },
      ],
    });
    const calls = chat.messages[1]?.tool_calls as { function: { arguments: unknown } }[];
    assert.deepEqual(
      calls.map((one) => one.function.arguments),
      [{ x: 1 }, "not json", {}],
    );
    assert.equal(chat.messages[1]?.content, null);
    assert.deepEqual([chat.messages[2]?.name, chat.messages[3]?.name], ["f_a", "own"]);
  });

  test("are rendered with what the request and the server say", async () => {
    const chat = await sent(
      {
        chat_template_kwargs: { style: "short" },
        documents: [{ title: "t", text: "x" }],
        reasoning_effort: "none",
        continue_final_message: true,
      },
      {},
      { defaultChatTemplateKwargs: { style: "long", level: 2 } },
    );
    assert.deepEqual(chat.templateVariables, {
      style: "short",
      level: 2,
      reasoning_effort: "none",
      enable_thinking: false,
    });
    assert.deepEqual(chat.documents, [{ title: "t", text: "x" }]);
    assert.deepEqual([chat.addGenerationPrompt, chat.continueFinalMessage], [false, true]);
    const both = { add_generation_prompt: true, continue_final_message: true };
    assert.deepEqual(await refusal(both), ["invalid_value", "continue_final_message"]);
    for (const name of ["messages", "tools", "add_generation_prompt"]) {
      const path = `chat_template_kwargs.${name}`;
      assert.deepEqual(await refusal({ chat_template_kwargs: { [name]: [] } }), ["invalid_value", path]);
    }
    assert.deepEqual(await refusal({ reasoning_effort: "some" }), ["invalid_value", "reasoning_effort"]);
  });

  test("bring a template of their own only to a server that trusts them", async () => {
    const body = { chat_template: "{{ messages[0].content }}" };
    assert.deepEqual(await refusal(body), ["unsupported_parameter", "chat_template"]);
    const trusting = { trustRequestChatTemplate: true };
    assert.equal((await sent(body, {}, trusting)).chatTemplate, body.chat_template);
    const bare: FakeOptions = { engine: { tasks: ["generate"], chatTemplate: undefined } };
    assert.equal((await sent(body, bare, trusting)).chatTemplate, body.chat_template);
    assert.equal((await sent({}, bare, { chatTemplate: "{{ 1 }}" })).chatTemplate, "{{ 1 }}");
    assert.deepEqual(await refusal({}, bare), ["unsupported_task", "model"]);
    assert.match((await post({}, bare)).response.json().error.message, /--chat-template FILE/);
  });
});

describe("a stream of an answer", () => {
  test("begins with the role, when the first token is there, and ends with the reason", async () => {
    const chunks = await stream({});
    assert.deepEqual(
      chunks.map(({ choices }) => [choices[0]?.delta, choices[0]?.finish_reason]),
      [
        [{ role: "assistant", content: "" }, null],
        [{ content: "Hi" }, null],
        [{ content: " there" }, null],
        [{ content: "." }, null],
        [{}, "stop"],
      ],
    );
    assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && !("usage" in chunk)));
  });

  test("has its usage where it is asked for", async () => {
    const chunks = await stream({ stream_options: { include_usage: true } });
    assert.deepEqual(chunks.at(-1)?.choices, []);
    assert.equal(chunks.at(-1)?.usage?.total_tokens, 4);
    assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null));
    const steady = await stream({ stream_options: { include_usage: true, continuous_usage_stats: true } });
    assert.deepEqual(
      steady.map(({ usage }) => usage?.completion_tokens),
      [1, 1, 2, 3, 3, 3],
    );
  });

  test("gives every token's log-probability and id once, also where text is held back", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.constant(""), fc.string({ unit: "grapheme", maxLength: 4 })), {
          minLength: 1,
          maxLength: 10,
        }),
        async (texts) => {
          const script = say(texts);
          const body = { logprobs: true, return_token_ids: true };
          const { answer } = await post(body, { script });
          const chunks = await stream(body, { script });
          const choices = chunks.flatMap((chunk) => chunk.choices);
          const [choice] = answer.choices;
          assert.equal(choices.map(({ delta }) => delta.content ?? "").join(""), choice.message.content);
          assert.equal(choice.message.content, texts.join(""));
          assert.deepEqual(
            choices.flatMap(({ logprobs }) => logprobs?.content ?? []),
            choice.logprobs.content,
          );
          assert.deepEqual(
            choices.flatMap(({ token_ids }) => token_ids ?? []),
            choice.token_ids,
          );
          assert.equal(choice.token_ids.length, texts.length);
          assert.deepEqual(chunks[0]?.prompt_token_ids, answer.prompt_token_ids);
        },
      ),
      { numRuns: 40 },
    );
  });
});

const tools = [
  { type: "function", function: { name: "f", description: "Does f.", parameters: { type: "object" } } },
  { type: "function", function: { name: "g" } },
];
const withTools: FakeOptions = { engine: { chatTemplate: "{{ tools }} <tool_call>" } };
/** A call as the template above asks for it. */
const written = (name: string, given: string) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${given}}\n</tool_call>`;

describe("tools", () => {
  test("reach the template, and special tokens the parser", async () => {
    const { call } = await post({ tools }, withTools);
    assert.ok(call !== undefined && "chat" in call.prompt);
    assert.deepEqual(call.prompt.chat.tools, [
      tools[0],
      { type: "function", function: { name: "g", parameters: { type: "object", properties: {} } } },
    ]);
    assert.equal(call.skipSpecialTokens, false);
    assert.equal((await post({})).call?.skipSpecialTokens, undefined);
  });

  test("of a model whose template shows no format leave calls as text", async () => {
    const text = written("f", "{}");
    const { answer, call } = await post({ tools }, { script: say([text]) });
    assert.equal(answer.choices[0].message.content, text);
    assert.equal(call?.skipSpecialTokens, undefined);
    const off = await post({ tools }, { ...withTools, script: say([text]) }, { toolCallParser: "none" });
    assert.equal(off.answer.choices[0].finish_reason, "stop");
    const forced = await post({ tools }, { script: say([text]) }, { toolCallParser: "hermes" });
    assert.equal(forced.answer.choices[0].finish_reason, "tool_calls");
  });

  test("are left out for none, for an empty list, and but for those that are allowed", async () => {
    const shown = async (body: object) =>
      (await sent(body, withTools)).tools?.map((tool) => (tool as (typeof tools)[0]).function.name);
    assert.equal(await shown({ tools, tool_choice: "none" }), undefined);
    assert.equal(await shown({ tools: [] }), undefined);
    assert.equal(await shown({ tools: [], tool_choice: "auto" }), undefined);
    assert.deepEqual(await shown({ tools, tool_choice: "auto" }), ["f", "g"]);
    const allow = (name: string, mode = "auto") => ({
      type: "allowed_tools",
      allowed_tools: { mode, tools: [{ type: "function", function: { name } }] },
    });
    assert.deepEqual(await shown({ tools, tool_choice: allow("g") }), ["g"]);
    assert.deepEqual(await refusal({ tools, tool_choice: allow("h") }), [
      "invalid_value",
      "tool_choice.allowed_tools.tools[0]",
    ]);
    for (const tool_choice of ["required", { type: "function", function: { name: "f" } }, allow("f", "required")]) {
      assert.deepEqual(await refusal({ tools, tool_choice }), ["unsupported_parameter", "tool_choice"]);
    }
    for (const tool_choice of ["some", { type: "none" }, { type: "allowed_tools" }]) {
      assert.deepEqual(await refusal({ tools, tool_choice }), ["invalid_value", "tool_choice"]);
    }
  });

  test("that are none are refused by their path", async () => {
    assert.deepEqual(await refusal({ tools: [{ type: "custom", custom: {} }] }), [
      "unsupported_value",
      "tools[0].type",
    ]);
    assert.deepEqual(await refusal({ tools: [{ type: "function" }] }), [
      "missing_required_parameter",
      "tools[0].function",
    ]);
    const named = (name: string) => ({ tools: [{ type: "function", function: { name } }] });
    assert.deepEqual(await refusal(named("a b")), ["invalid_value", "tools[0].function.name"]);
    assert.deepEqual(await refusal(named("x".repeat(65))), ["invalid_value", "tools[0].function.name"]);
    assert.deepEqual(await refusal({ tools: {} }), ["invalid_type", "tools"]);
  });

  test("that are called end the answer for that reason, in a stream piece by piece", async () => {
    const text = `Let me see.\n${written("f", '{"a": 1}')}\n${written("g", "{}")}`;
    const options = { ...withTools, script: say(text.split(/(?<=[ e])/)) };
    const { answer } = await post({ tools }, options);
    const [choice] = answer.choices;
    assert.equal(choice.message.content.trim(), "Let me see.");
    assert.deepEqual(
      choice.message.tool_calls.map((call: { function: object }) => call.function),
      [
        { name: "f", arguments: '{"a": 1}' },
        { name: "g", arguments: "{}" },
      ],
    );
    assert.match(choice.message.tool_calls[0].id, /^call_\w{24}$/);
    assert.equal(choice.finish_reason, "tool_calls");
    const chunks = await stream({ tools }, options);
    const deltas = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    assert.deepEqual(deltas[0], {
      index: 0,
      id: deltas[0]?.id,
      type: "function",
      function: { name: "f", arguments: "" },
    });
    assert.deepEqual(Object.keys(deltas[1] ?? {}), ["index", "function"]);
    const given = deltas.filter(({ index }) => index === 0).map((delta) => delta.function.arguments);
    assert.equal(given.join(""), '{"a": 1}');
    const contents = chunks.map(({ choices }) => choices[0]?.delta.content ?? "");
    assert.equal(contents.join(""), choice.message.content);
    assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, "tool_calls");
  });

  test("have no text as null, one call where more are not wanted, and length where it was cut", async () => {
    const options = { ...withTools, script: say([written("f", "{}") + written("g", "{}")]) };
    const { answer } = await post({ tools, parallel_tool_calls: false }, options);
    assert.equal(answer.choices[0].message.content, null);
    assert.equal(answer.choices[0].message.tool_calls.length, 1);
    const script: FakeOptions["script"] = async function* (call) {
      yield [startOf(call), { chunk: { text: written("f", "{}"), ids: [1], finishReason: "length" } }];
    };
    const cut = await post({ tools }, { ...withTools, script });
    assert.equal(cut.answer.choices[0].finish_reason, "length");
  });

  test("that are called in a broken way are the text that the model wrote", async () => {
    const text = '<tool_call>\n{"name": "f", "arguments": {"a": nonsense}}\n</tool_call>';
    const { answer } = await post({ tools }, { ...withTools, script: say([...text]) });
    const [choice] = answer.choices;
    assert.equal(choice.message.content, text);
    assert.equal(choice.finish_reason, "stop");
    assert.ok(!("tool_calls" in choice.message));
  });

  test("have ids that Mistral's template takes", async () => {
    const engine = { chatTemplate: "{{ tools }} [TOOL_CALLS]" };
    const id = "call_0123456789";
    const call = { id, type: "function", function: { name: "f", arguments: "{}" } };
    const messages = [
      ...hello,
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: id, content: "1" },
    ];
    const chat = await sent({ messages, tools }, { engine });
    const [given] = ((chat.messages[1]?.tool_calls ?? []) as { id: string }[]).map((one) => one.id);
    assert.match(given ?? "", /^[0-9A-Za-z]{9}$/);
    assert.equal(chat.messages[2]?.tool_call_id, given);
  });
});

describe("fields that are not followed", () => {
  test("pass with neutral values", async () => {
    const { response } = await post({
      ...{ n: 1, logit_bias: {}, response_format: { type: "text" }, modalities: ["text"], functions: [] },
      ...{ use_beam_search: false, echo: false, bad_words: [], allowed_token_ids: [], tool_choice: "auto" },
    });
    assert.equal(response.statusCode, 200, response.body);
  });

  test("are refused with any other", async () => {
    for (const [name, value] of Object.entries({
      n: 2,
      logit_bias: { 5: 1 },
      response_format: { type: "json_object" },
      structured_outputs: { regex: "a" },
      guided_json: {},
      modalities: ["text", "audio"],
      audio: { voice: "a" },
      prediction: { type: "content" },
      web_search_options: {},
      functions: [{ name: "f" }],
      function_call: { name: "f" },
      use_beam_search: true,
      prompt_logprobs: 0,
      bad_words: ["a"],
      allowed_token_ids: [1],
      echo: true,
      lora_path: "a",
    })) {
      assert.deepEqual(await refusal({ [name]: value }), ["unsupported_parameter", name]);
    }
  });

  test("are counted where they are known, and logged once", async () => {
    const counted: string[] = [];
    const logged: string[] = [];
    const logger = { debug: (message: string) => logged.push(message), info() {}, warn() {}, error() {} };
    const app = await makeApp([new FakeModel()], { logger, onIgnoredField: (field) => counted.push(field) });
    const payload = { messages: hello, user: "ann", made_up: 1, metadata: {}, store: null };
    for (let i = 0; i < 2; i++) await app.inject({ method: "POST", url: "/v1/chat/completions", payload });
    assert.deepEqual(counted, ["user", "metadata", "user", "metadata"]);
    assert.equal(logged.length, 3);
    assert.match(logged[1] ?? "", /"made_up"/);
  });
});

test("a conversation that is too long is told of its messages", async () => {
  const script: FakeOptions["script"] = async function* () {
    yield [];
    const { ShardspeedError } = await import("../../../dist/base/errors.js");
    throw Object.assign(new ShardspeedError("ERR_CONTEXT_LENGTH", "Long."), { details: { promptTokens: 100 } });
  };
  for (const isStream of [true, false]) {
    const { response } = await post({ stream: isStream }, { script });
    const { error } = response.json();
    assert.deepEqual([response.statusCode, error.code, error.param], [400, "context_length_exceeded", "messages"]);
    assert.match(error.message, /100 in the messages/);
  }
});

test("a template that refuses a conversation is the request's fault", async () => {
  const script: FakeOptions["script"] = async function* () {
    yield [];
    const { ShardspeedError } = await import("../../../dist/base/errors.js");
    throw new ShardspeedError("ERR_TOKENIZER", "The chat template failed: roles must alternate");
  };
  const { response } = await post({}, { script });
  assert.deepEqual([response.statusCode, response.json().error.param], [400, "messages"]);
  assert.match(response.json().error.message, /roles must alternate/);
});
