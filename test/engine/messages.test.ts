import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type ChatMessage, type Engine, initInference, type Prompt } from "../../dist/index.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";

// Conversations as prompts.

const template =
  "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}" +
  "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}" +
  "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

const begin = "</s>";

/** The demo model with a template, and a tokenizer that begins each text with a token of its own. */
async function makeChatModel(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-messages-"));
  await cp(demoModel, folder, { recursive: true });
  const settings = path.join(folder, "tokenizer_config.json");
  const json = JSON.parse(await readFile(settings, "utf8")) as Record<string, unknown>;
  await writeFile(settings, JSON.stringify({ ...json, chat_template: template }));
  const vocabulary = path.join(folder, "tokenizer.json");
  const tokenizer = JSON.parse(await readFile(vocabulary, "utf8")) as {
    added_tokens: { content: string; id: number }[];
  };
  const id = tokenizer.added_tokens.find(({ content }) => content === begin)?.id;
  const [first, text] = [{ SpecialToken: { id: begin, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
  const post_processor = {
    type: "TemplateProcessing",
    single: [first, text],
    pair: [first, text, { Sequence: { id: "B", type_id: 0 } }],
    special_tokens: { [begin]: { id: begin, ids: [id], tokens: [begin] } },
  };
  await writeFile(vocabulary, JSON.stringify({ ...tokenizer, post_processor }));
  return folder;
}

const options = { maxNewTokens: 8 };

describe("messages as prompts", () => {
  let folder: string;
  let engine: Engine;
  before(async () => {
    folder = await makeChatModel();
    engine = await initInference(folder, { device: "cpu", threads: 2 });
  });
  after(async () => {
    await engine.dispose();
    await rm(folder, { recursive: true });
  });
  const messages: ChatMessage[] = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Call me" },
  ];
  const idsOf = (text: string) => engine.tokenizer?.encode(text, { addSpecialTokens: false }) as number[];

  test("become the text of the template, with no special tokens but its own", async () => {
    assert.equal(engine.tokenizer?.encode("x").length, 2, "a text begins with a special token");
    const ids = idsOf(`${begin}<system>Be brief.<user>Call me<assistant>`);
    const expected = await engine.generate(ids, options);
    const result = await engine.generate(messages, options);
    assert.deepEqual([result.ids, result.text], [expected.ids, expected.text]);
    const { promptTokens, newTokens } = expected.usage;
    assert.deepEqual(result.usage, { ...result.usage, promptTokens, newTokens });
    assert.equal(promptTokens, ids.length);
    let text = "";
    for await (const chunk of engine.stream(messages, options)) text += chunk.text;
    assert.equal(text, expected.text);
  });

  test("an array of conversations, texts and ids is a batch", async () => {
    const one = await engine.generate(messages, options);
    const other = await engine.generate([{ role: "user", content: "It was" }], options);
    const text = await engine.generate("The whale", options);
    const batch = await engine.generate(
      [messages, "The whale", [{ role: "user", content: "It was" }], idsOf("The whale")],
      options,
    );
    assert.deepEqual(
      batch.map(({ ids }) => ids),
      [one.ids, text.ids, other.ids, (await engine.generate(idsOf("The whale"), options)).ids],
    );
  });

  test("arguments of tool calls reach the template as objects", async () => {
    const withCalls = (given: unknown) => [
      {
        role: "assistant",
        content: null,
        tool_calls: [{ type: "function", function: { name: "f", arguments: given } }],
      },
    ];
    const count = async (given: unknown) => (await engine.generate(withCalls(given), options)).usage.promptTokens;
    const expected = (written: string) => idsOf(`${begin}<assistant>[f ${written}]<assistant>`).length;
    assert.equal(await count('{"a": [1, "x"]}'), expected('{"a": [1, "x"]}'));
    assert.equal(await count({ a: [1, "x"] }), expected('{"a": [1, "x"]}'));
    assert.equal(await count(""), expected("{}"));
    assert.equal(await count("no JSON"), expected('"no JSON"'));
    assert.equal(await count('"text"'), expected('"text"'));
  });

  test("what is no conversation", async () => {
    const wrong: [unknown, RegExp][] = [
      [[{ content: "no role" }], /messages\[0\]/],
      [[...messages, "text"], /messages\[2\]/],
      [["text", messages[0]], /prompt\[1\]/],
      [[messages, 5], /prompt\[1\]/],
      [messages[0], /prompt/],
      [[[{ role: 5 }]], /messages\[0\]/],
    ];
    for (const [prompt, message] of wrong)
      await assert.rejects(engine.generate(prompt as Prompt, options), hasCode("ERR_INVALID_ARGUMENT", message));
  });

  test("a conversation that is longer than the context", async () => {
    const long = [{ role: "user", content: "whale ".repeat(5000) }];
    await assert.rejects(engine.generate(long, options), hasCode("ERR_CONTEXT_LENGTH", /in prompt/));
  });
});

describe("models that take no messages", () => {
  test("without a template", async () => {
    await using engine = await initInference(demoModel, { device: "cpu", threads: 1 });
    await assert.rejects(
      engine.generate([{ role: "user", content: "Call me" }]),
      hasCode("ERR_TOKENIZER", /no chat template/),
    );
  });
  test("without a tokenizer", async () => {
    await using engine = await initInference(fixture("golden", "llama"), { device: "cpu", threads: 1 });
    await assert.rejects(
      engine.generate([{ role: "user", content: "Call me" }]),
      hasCode("ERR_TOKENIZER", /messages, and no tokenizer/),
    );
  });
});
