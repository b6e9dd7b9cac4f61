import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  detectToolFormat,
  type ToolFormat,
  toolFormats,
  toTemplateCallId,
} from "../../../dist/serving/routes/openai/tools/format.js";
import { makeToolStream } from "../../../dist/serving/routes/openai/tools/tool_stream.js";
import { merge, read, readPieces } from "./pieces.js";

describe("calls that models write", () => {
  const cases: { format: ToolFormat; written: string; calls: [string, string][]; text?: string }[] = [
    {
      format: "hermes",
      written:
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo, \\"N\\"", "days": [1, 2.5e3]}}\n</tool_call>',
      calls: [["get_weather", '{"city": "Oslo, \\"N\\"", "days": [1, 2.5e3]}']],
    },
    {
      format: "hermes",
      written:
        'Let me see.\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n<tool_call>{"arguments":{"x":null},"name":"b"}</tool_call>\n',
      text: "Let me see.\n",
      calls: [
        ["a", "{}"],
        ["b", '{"x":null}'],
      ],
    },
    { format: "hermes", written: '<tool_call>{"name": "f"}</tool_call> Done.', text: " Done.", calls: [["f", "{}"]] },
    { format: "hermes", written: '<tool_call>{"name": "f", "arguments": null}</tool_call>', calls: [["f", "{}"]] },
    { format: "hermes", written: '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}', calls: [["f", '{"a": 1}']] },
    { format: "hermes", written: '<tool_call>{"name": "f", "arguments": {"a": 1}', calls: [["f", '{"a": 1}']] },
    {
      format: "llama3_json",
      written: '{"name": "f", "parameters": {"a": {"b": [[]]}}}',
      calls: [["f", '{"a": {"b": [[]]}}']],
    },
    {
      format: "llama3_json",
      written:
        '<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": "}"}}; {"name": "g", "parameters": {}}',
      calls: [
        ["f", '{"a": "}"}'],
        ["g", "{}"],
      ],
    },
    {
      format: "mistral",
      written:
        '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 3.5}, "id": "abc123xyz"}, {"arguments": {}, "name": "g"}]',
      calls: [
        ["f", '{"a": 3.5}'],
        ["g", "{}"],
      ],
    },
    {
      format: "mistral",
      written: 'So: [TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]mul_2[CALL_ID]a1B2c3D4e[ARGS]{"b": 2}[TOOL_CALLS]no{}',
      text: "So: ",
      calls: [
        ["add", '{"a": 1}'],
        ["mul_2", '{"b": 2}'],
        ["no", "{}"],
      ],
    },
    {
      format: "pythonic",
      written: `[f(a=1, b="x"), g(), h.i(c=[True, None, -1.5, .5, 1_000], d={'k': {}, "l": 'it\\'s "so"\\n'},)]`,
      calls: [
        ["f", '{"a": 1, "b": "x"}'],
        ["g", "{}"],
        ["h.i", '{"c": [true, null, -1.5, 0.5, 1000], "d": {"k": {}, "l": "it\'s \\"so\\"\\n"}}'],
      ],
    },
    {
      format: "pythonic",
      written: `<|python_start|>[ run( code = """if a:\n  print("x")\n""" , n=0x1F, e='\\x41\\u00e9\\U0001F600\\101\\d\\ud83d', f='') ]<|python_end|>`,
      calls: [["run", '{"code": "if a:\\n  print(\\"x\\")\\n", "n": 31, "e": "Aé😀A\\\\d\\ud83d", "f": ""}']],
    },
  ];
  for (const { format, written, calls, text = "" } of cases)
    test(`${format}: ${written.slice(0, 60).replaceAll("\n", " ")}`, () => {
      assert.deepEqual(read(format, written), { text, calls });
      for (const [, json] of calls) JSON.parse(json);
    });
});

describe("text that is no call", () => {
  const texts: Record<ToolFormat, string[]> = {
    hermes: [
      "Hello.",
      " \n",
      "",
      "a < b <tool <tool_call",
      "<tool_call>oops</tool_call>",
      '<tool_call>{"name": "f", "arguments": {"a": tru5}}</tool_call>',
      '\n<tool_call>{"name": "f", "arguments": {"a": ',
      '<tool_call>{"arguments": {}}</tool_call>',
      '<tool_call>{"name": "", "arguments": {}}</tool_call>',
      '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
      '<tool_call>{"name": "f", "arguments": "[1]"}</tool_call>',
      '<tool_call>{"name": "f", "name": "g"}</tool_call>',
      '<tool_call>{"name": "f", "arguments": {"a": 01}}</tool_call>',
      '<tool_call>{"name": "f", "arguments": {"a": [1}}}</tool_call>',
      '{"name": "f", "arguments": {}}',
    ],
    llama3_json: [
      '{"name": "Bob", "age": 3}',
      '{"a": 1}',
      "{}",
      "{",
      '<|python_tag|>print("x")',
      'See {"name": "f", "parameters": {}}',
    ],
    mistral: [
      "[TOOL_CALLS]",
      "[TOOL_CALLS] []",
      "[TOOL_CALLS]I will {",
      "[TOOL_CALLS]f[ARG]{}",
      "[TOOL",
      "[1, 2]",
      "[TOOL_CALLS]f[ARGS]{]",
    ],
    pythonic: [
      "[]",
      "[1, 2]",
      "[f(1)]",
      "[f(a=b)]",
      "[f(a='x]",
      "[see](http://x)",
      "Say [f(a=1)]",
      "[f(a=007)]",
      "[f(a=f'x')]",
      "[f(a={1: 2})]",
    ],
  };
  for (const format of toolFormats)
    test(format, () => {
      for (const text of texts[format]) assert.deepEqual(read(format, text), { text, calls: [] }, text);
    });

  test("is given back from behind the last call that is complete", () => {
    assert.deepEqual(read("pythonic", "[f(a=1), g(b=?)]"), { text: ", g(b=?)]", calls: [["f", '{"a": 1}']] });
    const second = '<tool_call>{"name": "f"}</tool_call>\n<tool_call>{]</tool_call>';
    assert.deepEqual(read("hermes", second), { text: "\n<tool_call>{]</tool_call>", calls: [["f", "{}"]] });
    const again = '<tool_call><tool_call>{"name": "f"}</tool_call>';
    assert.deepEqual(read("hermes", again), { text: "<tool_call>", calls: [["f", "{}"]] });
  });

  test("follows a call that was announced already, and says so", () => {
    const written = '<tool_call>{"name": "f", "arguments": {"a": tru5}}</tool_call><tool_call>{"name": "g"}';
    assert.deepEqual(merge(readPieces("hermes", [...written])), [
      { kind: "call", index: 0, id: "1", name: "f" },
      { kind: "arguments", index: 0, text: '{"a": tru' },
      { kind: "text", text: '<tool_call>{"name": "f", "arguments": {"a": tru', abandons: 0 },
      { kind: "text", text: "5}}</tool_call>" },
      { kind: "call", index: 1, id: "2", name: "g" },
      { kind: "arguments", index: 1, text: "{}" },
    ]);
  });

  test("and a call that is cut off by the length stays", () => {
    const written = '<tool_call>{"name": "f", "arguments": {"a": ';
    assert.deepEqual(read("hermes", written, { reason: "length" }), { text: "", calls: [["f", '{"a": ']] });
    assert.deepEqual(read("hermes", "<tool_call>{", { reason: "length" }), { text: "<tool_call>{", calls: [] });
    assert.deepEqual(read("pythonic", "[f(a='x", { reason: "length" }), { text: "", calls: [["f", '{"a": "x']] });
  });
});

describe("options", () => {
  test("names tell calls from other JSON and lists where there is no tag", () => {
    const names = new Set(["f"]);
    for (const [format, written] of [
      ["llama3_json", '{"name": "Bob", "parameters": {}}'],
      ["pythonic", "[g(a=1)]"],
    ] as const) {
      assert.deepEqual(read(format, written, { names }), { text: written, calls: [] });
      assert.equal(read(format, written).calls.length, 1);
      assert.equal(read(format, `<|python_tag|>${written}`, { names }).calls.length, 1);
    }
    assert.deepEqual(read("pythonic", "[f(a=1)]", { names }).calls, [["f", '{"a": 1}']]);
  });

  test("single passes on the first call alone", () => {
    assert.deepEqual(read("pythonic", "[f(a=1), g(b=2)] and more", { single: true }), {
      text: "",
      calls: [["f", '{"a": 1}']],
    });
    const malformed = '<tool_call>{"name": "f", "arguments": {"a": ?<tool_call>{"name": "g"}</tool_call> and';
    const { text, calls } = read("hermes", malformed, { single: true });
    assert.deepEqual({ text, calls }, { text: '<tool_call>{"name": "f", "arguments": {"a": ?', calls: [["g", "{}"]] });
  });

  test("ids are call_ and 24 letters and digits, and no two are equal", () => {
    const stream = makeToolStream("hermes");
    const deltas = stream.push('<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>');
    const ids = deltas.flatMap((delta) => (delta.kind === "call" ? [delta.id] : []));
    for (const id of ids) assert.match(id, /^call_[0-9A-Za-z]{24}$/);
    assert.equal(new Set(ids).size, 2);
    assert.equal(stream.completeCalls, 2);
  });
});

describe("what comes when", () => {
  test("the name as soon as it is complete, and arguments as they come", () => {
    const steps: [ToolFormat, string, string][] = [
      ["hermes", '<tool_call>\n{"name": "get', '_x"'],
      ["mistral", '[TOOL_CALLS][{"name": "get', '_x"'],
      ["mistral", "[TOOL_CALLS]get_x[ARGS", "]"],
      ["pythonic", "[get_x", "("],
    ];
    for (const [format, before, last] of steps) {
      const stream = makeToolStream(format);
      assert.deepEqual(stream.push(before), []);
      const [delta] = stream.push(last);
      assert.ok(delta?.kind === "call" && delta.name === "get_x" && delta.index === 0);
    }
    const named = makeToolStream("llama3_json", { names: new Set(["f"]) });
    assert.deepEqual(named.push('{"name": "f'), []);
    assert.equal(named.push('"')[0]?.kind, "call");
    assert.deepEqual(named.push(', "parameters": {"a": "xy'), [{ kind: "arguments", index: 0, text: '{"a": "xy' }]);
    assert.deepEqual(named.push("z"), [{ kind: "arguments", index: 0, text: "z" }]);
  });

  test("no text that may still be a call", () => {
    const stream = makeToolStream("hermes");
    assert.deepEqual(stream.push("a <tool_"), [{ kind: "text", text: "a " }]);
    assert.deepEqual(stream.push("bar>"), [{ kind: "text", text: "<tool_bar>" }]);
    for (const held of ["", '"name": "x"', '"name": "x", "parameters"'])
      assert.deepEqual(makeToolStream("llama3_json").push(`{${held}`), []);
    assert.deepEqual(makeToolStream("pythonic").push("[abc"), []);
  });
});

test("the format is detected from the template", () => {
  const cases: [string | undefined, ToolFormat | undefined][] = [
    [undefined, undefined],
    ["{% for message in messages %}{{ message.content }}{% endfor %}", undefined],
    ["<tools></tools> return a json object within <tool_call></tool_call> XML tags", "hermes"],
    ["<tool_call>\n<function=example_function_name>\n<parameter=x>", undefined],
    ["<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>", undefined],
    ['{{- "[TOOL_CALLS] [" }}', "mistral"],
    [
      'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
      "llama3_json",
    ],
    ["{{- '<|python_tag|>' + tool_call.name }}", "llama3_json"],
    ["{{ '<|python_start|>' }} you MUST put it in the format of [func_name1(params_name1=params_value1)]", "pythonic"],
    ['<|python_start|> {"name": function name, "parameters": dictionary of argument name}', "llama3_json"],
    ["{{ '<|python_start|>' }}", "pythonic"],
  ];
  for (const [template, format] of cases) assert.equal(detectToolFormat(template), format, template);
});

test("ids are fed back as the template takes them", () => {
  const id = "call_0123456789abcdefghijklmn";
  assert.equal(toTemplateCallId("hermes", id), id);
  assert.equal(toTemplateCallId(undefined, id), id);
  assert.match(toTemplateCallId("mistral", id), /^[0-9A-Za-z]{9}$/);
  assert.equal(toTemplateCallId("mistral", id), toTemplateCallId("mistral", id));
  assert.notEqual(toTemplateCallId("mistral", id), toTemplateCallId("mistral", `${id}x`));
  assert.equal(toTemplateCallId("mistral", "a1B2c3D4e"), "a1B2c3D4e");
});
