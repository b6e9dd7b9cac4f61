import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hello, post, refusal, sent, stream } from "./chat_requests.js";
import { type FakeOptions, say, startOf } from "./fake_model.js";

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
    for (const tool_choice of ["some", { type: "none" }, { type: "allowed_tools" }]) {
      assert.deepEqual(await refusal({ tools, tool_choice }), ["invalid_value", "tool_choice"]);
    }
  });

  test("that have to be called are the form of the answer", async () => {
    const strict = { type: "function", function: { name: "g", strict: true, parameters: { properties: { a: {} } } } };
    const given = [tools[0], strict];
    const named = { type: "function", function: { name: "g" } };
    const allowed = { type: "allowed_tools", allowed_tools: { mode: "required", tools: [named] } };
    const forced = async (tool_choice: unknown, chatTemplate: string, more = {}) => {
      const { call, response } = await post({ tools: given, tool_choice, ...more }, { engine: { chatTemplate } });
      assert.equal(response.statusCode, 200, response.body);
      return call?.options.format;
    };
    const [hermes, mistral, llama] = [
      "{{ tools }} <tool_call>",
      "{{ tools }} [TOOL_CALLS]",
      "{{ tools }} <|python_tag|>",
    ];
    assert.equal(await forced("auto", hermes), undefined);
    const f = { schema: { type: "object" } };
    const g = { schema: { type: "object", properties: { a: {} } }, strict: true };
    const tag = (name: string) => ({
      begin: `<tool_call>\n{"name": "${name}", "arguments": `,
      end: "}\n</tool_call>",
    });
    const around = { begin: "", separator: "\n", end: "" };
    assert.deepEqual(await forced("required", hermes), {
      ...{
        type: "tagged_json",
        values: [
          { ...f, ...tag("f") },
          { ...g, ...tag("g") },
        ],
        most: 16,
        ...around,
      },
    });
    const only = { type: "tagged_json", values: [{ ...g, ...tag("g") }], ...around };
    assert.deepEqual(await forced(named, hermes), { ...only, most: 1 });
    assert.deepEqual(await forced(allowed, hermes), { ...only, most: 16 });
    assert.deepEqual(await forced(allowed, hermes, { parallel_tool_calls: false }), { ...only, most: 1 });
    const values = [{ ...g, begin: '{"name": "g", "arguments": ', end: "}" }];
    const list = { begin: "[", separator: ", ", end: "]" };
    assert.deepEqual(await forced(named, mistral), { type: "tagged_json", values, ...list, most: 1 });
    const [one] = values;
    const parameters = { ...one, begin: '{"name": "g", "parameters": ' };
    assert.deepEqual(await forced(allowed, llama), {
      ...{ type: "tagged_json", values: [parameters], begin: "", separator: "", end: "", most: 1 },
    });
    for (const chatTemplate of ["{{ tools }}", "{{ tools }} <|python_start|>"]) {
      const options = { engine: { chatTemplate } };
      assert.deepEqual(await refusal({ tools, tool_choice: "required" }, options), [
        "unsupported_parameter",
        "tool_choice",
      ]);
    }
    assert.deepEqual(await refusal({ tool_choice: "required" }), ["invalid_value", "tool_choice"]);
    const other = { type: "function", function: { name: "h" } };
    assert.deepEqual(await refusal({ tools, tool_choice: other }), ["invalid_value", "tool_choice.function.name"]);
  });

  test("that had to be called are read from what the form lets come", async () => {
    const written: [string, string][] = [
      [
        "<tool_call>",
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
      ],
      ["[TOOL_CALLS]", '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]'],
      ["<|python_tag|>", '{"name": "f", "parameters": {"a": 1}}'],
    ];
    for (const [tag, text] of written) {
      const options = { engine: { chatTemplate: `{{ tools }} ${tag}` }, script: say([...text]) };
      const { answer } = await post({ tools, tool_choice: "required" }, options);
      const [{ message, finish_reason }] = answer.choices;
      const calls = message.tool_calls.map((call: { function: object }) => call.function);
      assert.deepEqual(calls[0], { name: "f", arguments: '{"a": 1}' });
      assert.equal(calls.length, tag === "<|python_tag|>" ? 1 : 2);
      assert.deepEqual([message.content, finish_reason], [null, "tool_calls"]);
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
