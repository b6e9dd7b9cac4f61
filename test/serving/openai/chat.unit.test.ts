import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { chatSchema } from "../../../dist/serving/routes/openai/fields.js";
import { hello, post, refusal, sent, stream } from "./chat_requests.js";
import { FakeModel, type FakeOptions, interleave, makeApp, say } from "./fake_model.js";

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

test("log-probabilities of a prompt are in vLLM's form beside the choices", async () => {
  const bytes = [65];
  const own = { id: 65, token: "A", bytes, logprob: -2, rank: 3 };
  const top = [{ id: 66, token: "B", bytes: [66], logprob: Number.NEGATIVE_INFINITY }, { ...own }];
  const script: NonNullable<FakeOptions["script"]> = async function* () {
    yield [{ start: { promptTokens: 2, maxNewTokens: 1, firstToken: { id: 1 } } }];
    const promptLogprobs = [null, { ...own, top }];
    yield [{ chunk: { text: "x", ids: [1], promptLogprobs, finishReason: "length" } }];
  };
  const { answer, call } = await post({ prompt_logprobs: 1 }, { script });
  assert.equal(call?.options.promptLogprobs, 1);
  assert.deepEqual(answer.prompt_logprobs, [
    null,
    { 65: { logprob: -2, rank: 3, decoded_token: "A" }, 66: { logprob: -9999, rank: 1, decoded_token: "B" } },
  ]);
  assert.equal("prompt_logprobs" in (await post({})).answer, false);
  assert.deepEqual(await refusal({ prompt_logprobs: 1, stream: true }), ["invalid_value", "prompt_logprobs"]);
  assert.deepEqual(await refusal({ prompt_logprobs: 21 }), ["invalid_value", "prompt_logprobs"]);
  assert.deepEqual(await refusal({ prompt_logprobs: -1 }), ["invalid_value", "prompt_logprobs"]);
});

describe("the form of an answer", () => {
  const schema = { type: "object", properties: { a: { type: "integer" } } };
  const json = { type: "json_schema", schema };

  test("is that of one field", async () => {
    for (const [body, format] of [
      [{ response_format: { type: "text" }, structured_outputs: {}, guided_choice: null }, undefined],
      [{ response_format: { type: "json_object" } }, { type: "json_object" }],
      [{ response_format: { type: "json_object", schema } }, json],
      [
        { response_format: { type: "json_schema", json_schema: { name: "a", schema, strict: true } } },
        { ...json, strict: true },
      ],
      [{ response_format: { type: "json_schema", json_schema: { name: "a", schema, strict: false } } }, json],
      [{ structured_outputs: { json: schema, disable_any_whitespace: true } }, json],
      [{ structured_outputs: { json: JSON.stringify(schema), regex: null } }, json],
      [{ structured_outputs: { regex: "a+" } }, { type: "regex", pattern: "a+" }],
      [{ structured_outputs: { choice: ["a", "b"] } }, { type: "choice", choices: ["a", "b"] }],
      [{ structured_outputs: { json_object: true } }, { type: "json_object" }],
      [{ guided_json: schema }, json],
      [{ guided_regex: "a+" }, { type: "regex", pattern: "a+" }],
      [{ guided_choice: ["a"] }, { type: "choice", choices: ["a"] }],
    ]) {
      const { call, response } = await post(body as object);
      assert.equal(response.statusCode, 200, response.body);
      assert.deepEqual(call?.options.format, format, JSON.stringify(body));
    }
  });

  test("is refused by the field that is wrong", async () => {
    for (const [body, code, param] of [
      [{ response_format: { type: "xml" } }, "unsupported_value", "response_format.type"],
      [{ response_format: {} }, "missing_required_parameter", "response_format.type"],
      [
        { response_format: { type: "json_schema" } },
        "missing_required_parameter",
        "response_format.json_schema.schema",
      ],
      [{ structured_outputs: { grammar: "root ::= a" } }, "unsupported_parameter", "structured_outputs.grammar"],
      [{ structured_outputs: { json: "{" } }, "invalid_value", "structured_outputs.json"],
      [{ structured_outputs: { choice: [] } }, "invalid_value", "structured_outputs.choice"],
      [{ structured_outputs: { regex: 5 } }, "invalid_value", "structured_outputs.regex"],
      [{ guided_choice: [1] }, "invalid_type", "guided_choice[0]"],
      [{ guided_json: 5 }, "invalid_value", "guided_json"],
      [{ guided_json: {}, response_format: { type: "json_object" } }, "invalid_value", "guided_json"],
    ] as const)
      assert.deepEqual(await refusal(body), [code, param], JSON.stringify(body));
  });
});

describe("several choices", () => {
  test("come one behind another, each with its own text and calls", async () => {
    const { answer, call, model } = await post(
      { n: 3, return_token_ids: true },
      { script: interleave(["ab", "c", "def"]) },
    );
    assert.deepEqual(
      answer.choices.map((choice: { index: number; message: { content: string } }) => [
        choice.index,
        choice.message.content,
      ]),
      [
        [0, "ab"],
        [1, "c"],
        [2, "def"],
      ],
    );
    assert.equal(call?.options.n, 3);
    assert.equal(model.mostTaken, 3);
  });

  test("are told apart in a stream, and each begins with its role", async () => {
    const chunks = await stream({ n: 2 }, { script: interleave(["ab", "cde"]) });
    for (const [index, text] of ["ab", "cde"].entries()) {
      const own = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      assert.equal(own.map(({ delta }) => delta.content ?? "").join(""), text);
      assert.equal(own.filter(({ delta }) => delta.role !== undefined).length, 1);
      assert.equal(own.at(-1)?.finish_reason, "stop");
    }
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
      guided_grammar: "root ::= a",
      grammar: "root ::= a",
      modalities: ["text", "audio"],
      audio: { voice: "a" },
      prediction: { type: "content" },
      web_search_options: {},
      functions: [{ name: "f" }],
      function_call: { name: "f" },
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
