import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { AutoTokenizer, type Tokenizer } from "../../dist/index.js";
import { tokenizersFolder } from "./fixtures.js";

describe("options of applyChatTemplate", () => {
  let tokenizer: Tokenizer;
  before(async () => {
    tokenizer = await AutoTokenizer.fromPretrained(`${tokenizersFolder}byte_fallback`);
  });
  const messages = [{ role: "user", content: "hi" }];
  const chatTemplate = "{{ messages[-1].content }}{{ '|a' if add_generation_prompt }}{{ (tools or [])|length }}{{ x }}";
  const render = (options: object, given: readonly object[] = messages) =>
    tokenizer.applyChatTemplate(
      given as never,
      { chatTemplate, tokenize: false, ...options } as never,
    ) as unknown as string;

  test("transformers' names are ours", () => {
    assert.equal(render({ add_generation_prompt: true }), "hi|a0");
    assert.equal(render({ chatTemplate: undefined, chat_template: "{{ messages[0].role }}" }), "user");
    assert.equal(render({ continue_final_message: true }), "hi");
    assert.equal(render({ chat_template_kwargs: { x: 5 }, tools: [{}] }), "hi15");
    assert.equal(render({ tools: null, documents: null, add_generation_prompt: undefined }), "hi0");
  });

  const wrong: [object, RegExp][] = [
    [{ addgenerationprompt: true }, /Did you mean addGenerationPrompt\?/],
    [{ enable_thinking: false }, /templateVariables: \{ enable_thinking/],
    [
      { return_tensors: "pt" },
      /Unknown applyChatTemplate option "return_tensors"\. Not supported: ids come back as an array/,
    ],
    [{ returnDict: true }, /Unknown applyChatTemplate option "returnDict"\. Not supported/],
    [{ padding: true }, /Unknown applyChatTemplate option "padding"/],
    [{ add_generation_prompt: true, addGenerationPrompt: true }, /one option/],
    [{ addGenerationPrompt: "yes" }, /addGenerationPrompt to be true or false/],
    [{ tokenize: 1 }, /tokenize to be true or false/],
    [{ tools: {} }, /tools to be an array of objects/],
    [{ tools: ["x"] }, /tools to be an array of objects/],
    [{ documents: "x" }, /documents to be an array of objects/],
    [{ templateVariables: 5 }, /templateVariables to be an object/],
    [{ chat_template: 5, chatTemplate: undefined }, /chatTemplate to be a string/],
  ];
  for (const [options, message] of wrong) {
    test(`refused: ${JSON.stringify(options)}`, () => {
      assert.throws(() => render(options), { code: "ERR_INVALID_ARGUMENT", message });
    });
  }

  test("an options argument that is no object", () => {
    for (const options of [null, 5, "x", []]) {
      assert.throws(() => tokenizer.applyChatTemplate(messages, options as never), { code: "ERR_INVALID_ARGUMENT" });
    }
  });

  describe("content parts", () => {
    const parts = [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
    ];
    const image = [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "image_url", image_url: {} },
        ],
      },
    ];
    const iterating =
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}<{{ p.type }}>{{ p.text }}{% endfor %}{% endif %}{% endfor %}";

    test("are joined for a template that takes content for text", () => {
      assert.equal(render({}, parts), "ab0");
      assert.equal(render({ chatTemplate: "{{ 'x: ' + messages[0].content }}" }, parts), "x: ab");
      assert.equal(render({ chatTemplate: "{{ messages[0]['content']|trim }}" }, parts), "ab");
      assert.equal(render({ continueFinalMessage: true }, parts), "ab");
    });

    test("stay for a template that goes over them", () => {
      assert.equal(render({ chatTemplate: iterating }, parts), "<text>a<text>b");
      assert.equal(render({ chatTemplate: iterating }, image), "<text>a<image_url>");
    });

    test("other than text are refused where text is needed", () => {
      assert.throws(() => render({}, image), { code: "ERR_INVALID_ARGUMENT", message: /part of type "image_url"/ });
      assert.throws(() => render({}, [{ role: "user", content: [5] }]), { code: "ERR_INVALID_ARGUMENT" });
    });

    test("messages stay as they are", () => {
      const before = JSON.stringify(parts);
      render({ continueFinalMessage: true }, parts);
      render({ chatTemplate: iterating, continueFinalMessage: true }, parts);
      assert.equal(JSON.stringify(parts), before);
    });
  });

  test("fields that are null are absent, as in transformers", () => {
    const given = [{ role: "assistant", content: null, tool_calls: null }];
    const template = "{{ messages[0].content is defined }}{{ 'tool_calls' in messages[0] }}";
    assert.equal(render({ chatTemplate: template }, given), "FalseFalse");
  });

  test("continueFinalMessage with a template that trims", () => {
    const trimming = "<{{ messages[-1].content|trim }}>";
    assert.equal(
      render({ chatTemplate: trimming, continueFinalMessage: true }, [{ role: "user", content: "hi  " }]),
      "<hi",
    );
    assert.throws(
      () =>
        render({ chatTemplate: "{{ messages[-1].content[:3] }}", continueFinalMessage: true }, [
          { role: "user", content: "hello" },
        ]),
      { code: "ERR_TOKENIZER", message: /leaves out the end/ },
    );
  });
});
