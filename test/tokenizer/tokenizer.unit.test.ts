import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { AutoTokenizer, loadTokenizer } from "../../dist/tokenizer/index.js";
import { demoFolder, kinds, readCases, tokenizersFolder } from "./fixtures.js";

describe("against the Rust tokenizers package", () => {
  for (const kind of kinds) {
    test(`${kind}: the bytes of tokens are those of their text`, async () => {
      const tokenizer = await AutoTokenizer.fromPretrained(tokenizersFolder + kind);
      for (const { ids } of readCases(kind).decode.filter(({ text }) => !text.includes("\uFFFD"))) {
        const bytes = Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id) ?? Buffer.of()));
        // A word piece goes on with what is before it; at the start it stands as it is.
        const text = tokenizer
          .decode(ids, { cleanUpTokenizationSpaces: false })
          .replace(kind === "word_piece" ? /^##/ : "", "");
        // What the start of a text leaves out is there: a token stands behind others.
        const spaced = bytes.toString("utf8").trim();
        if (kind !== "word_suffix") assert.equal(spaced.replaceAll(/\s/g, ""), text.replaceAll(/\s/g, ""), `${ids}`);
        if (["byte_level", "byte_fallback"].includes(kind)) assert.ok(bytes.toString("utf8").endsWith(text), `${ids}`);
      }
      assert.equal(tokenizer.tokenBytes(10_000_000), undefined);
    });

    test(kind, async () => {
      const tokenizer = await AutoTokenizer.fromPretrained(tokenizersFolder + kind);
      const cases = readCases(kind);
      assert.equal(tokenizer.vocabSize, cases.size);
      for (const id of cases.special) assert.ok(tokenizer.specialTokenIds.has(id), `token ${id} is special`);
      for (const { text, ids, plain } of cases.encode) {
        assert.deepEqual(tokenizer.encode(text), ids, text);
        assert.deepEqual(tokenizer.encode(text, { addSpecialTokens: false }), plain, text);
      }
      for (const { ids, text, skipped } of cases.decode) {
        assert.equal(tokenizer.decode(ids), text, `${ids}`);
        assert.equal(tokenizer.decode(ids, { skipSpecialTokens: true }), skipped, `${ids}`);
      }
      const rows = cases.decode.slice(0, 8);
      assert.deepEqual(
        tokenizer.batchDecode(rows.map(({ ids }) => ids)),
        rows.map(({ text }) => text),
      );
    });
  }
});

test("the demo model's golden file: ids of prompts, text of greedy ids", async () => {
  const tokenizer = await AutoTokenizer.fromPretrained(demoFolder);
  const rows = JSON.parse(await readFile(path.join(demoFolder, "golden.json"), "utf8"));
  assert.ok(rows.length > 0);
  for (const row of rows) {
    assert.deepEqual(tokenizer.encode(row.prompt), row.ids);
    assert.equal(tokenizer.decode(row.ids), row.decoded_prompt);
    assert.equal(tokenizer.decode(row.greedy), row.text);
  }
  assert.equal(tokenizer.vocabSize, 4096);
  assert.equal(tokenizer.modelMaxLength, Number.POSITIVE_INFINITY);
  assert.deepEqual([tokenizer.bosToken, tokenizer.bosTokenId], ["</s>", 2]);
  assert.deepEqual([tokenizer.eosToken, tokenizer.eosTokenId], ["</s>", 2]);
  assert.deepEqual([tokenizer.padToken, tokenizer.padTokenId], ["<pad>", 1]);
  assert.equal(tokenizer.idToToken(2), "</s>");
  assert.equal(tokenizer.tokenToId("</s>"), 2);
  assert.deepEqual(tokenizer.encode(""), []);
  assert.equal(tokenizer.decode([]), "");
  assert.throws(() => tokenizer.decode([1.5]), { code: "ERR_INVALID_ARGUMENT" });
  assert.throws(() => tokenizer.decode([-1]), { code: "ERR_INVALID_ARGUMENT" });
  assert.throws(() => tokenizer.encode(5 as never), { code: "ERR_INVALID_ARGUMENT" });
});

test("spaces before punctuation go where the config or the caller asks for it", async () => {
  const words = await AutoTokenizer.fromPretrained(`${tokenizersFolder}metaspace_never`);
  const ids = words.encode("dog , dog .", { addSpecialTokens: false });
  assert.equal(words.decode(ids), "dog, dog.");
  assert.equal(words.decode(ids, { cleanUpTokenizationSpaces: false }), "dog , dog .");
  // Byte-level text has its own spaces, whatever the config says.
  const bytes = await AutoTokenizer.fromPretrained(`${tokenizersFolder}byte_level`);
  assert.equal(bytes.decode(bytes.encode("dog , dog .")), "dog , dog .");
});

describe("files", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-tokenizer-"));
  });
  after(() => rm(folder, { recursive: true }));

  const minimal = {
    model: { type: "WordLevel", vocab: { "[UNK]": 0, a: 1, "</s>": 2, "<sys>": 3 }, unk_token: "[UNK]" },
    added_tokens: [],
  };
  const write = async (name: string, files: Record<string, unknown>): Promise<string> => {
    const target = path.join(folder, name);
    for (const [file, content] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(target, file)), { recursive: true });
      await writeFile(path.join(target, file), typeof content === "string" ? content : JSON.stringify(content));
    }
    return target;
  };

  test("no tokenizer.json: undefined, and an error from AutoTokenizer", async () => {
    const target = await write("none", { "config.json": {} });
    assert.equal(await loadTokenizer(target), undefined);
    await assert.rejects(AutoTokenizer.fromPretrained(target), { code: "ERR_TOKENIZER", message: /tokenizer\.json/ });
  });

  const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
  const broken: [string, Record<string, unknown>, RegExp][] = [
    ["not JSON", { "tokenizer.json": '{"model": {' }, /tokenizer\.json is not JSON: line 1, column/],
    ["an array", { "tokenizer.json": [] }, /no JSON object/],
    ["no model", { "tokenizer.json": {} }, /no "model"/],
    ["no vocab", { "tokenizer.json": { model: { type: "BPE" } } }, /model\.vocab/],
    ["no merges", { "tokenizer.json": { model: { type: "BPE", vocab: { a: 0 } } } }, /model\.merges/],
    ["added tokens", { "tokenizer.json": { ...minimal, added_tokens: [{ id: "x" }] } }, /added_tokens/],
    [
      "decoder",
      { "tokenizer.json": { ...minimal, decoder: { type: "Telepathy" } } },
      /tokenizer\.json cannot be used: decoder type "Telepathy"/,
    ],
    [
      "pre-tokenizer",
      { "tokenizer.json": { ...minimal, pre_tokenizer: { type: "Telepathy" } } },
      /tokenizer\.json .*Telepathy/,
    ],
    [
      "pattern",
      { "tokenizer.json": { ...minimal, pre_tokenizer: { type: "Split", pattern: { Regex: "(" } } } },
      /tokenizer\.json/,
    ],
    ["id", { "tokenizer.json": { ...minimal, model: { ...minimal.model, vocab: { a: "x" } } } }, /"a"/],
    ["a git-lfs pointer", { "tokenizer.json": pointer }, /tokenizer\.json: is a git-lfs pointer/],
    ["a git-lfs pointer for a vocabulary", { "vocab.txt": pointer }, /vocab\.txt: is a git-lfs pointer/],
    [
      "a score that is not finite",
      { "tokenizer.json": '{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["a", NaN]]}}' },
      /model\.vocab\[1\] is no \[token, score\]/,
    ],
    ["config", { "tokenizer.json": minimal, "tokenizer_config.json": "{,}" }, /tokenizer_config\.json is not JSON/],
  ];
  for (const [name, files, message] of broken) {
    test(`broken: ${name}`, async () => {
      await assert.rejects(loadTokenizer(await write(`broken ${name}`, files)), { code: "ERR_TOKENIZER", message });
    });
  }

  test("special tokens of the config are special, wherever they are named", async () => {
    const settings = { unk_token: "wrong", pad_token: null, model_max_length: 77, extra_special_tokens: ["<sys>"] };
    const target = await write("special", {
      "tokenizer.json": minimal,
      "special_tokens_map.json": { eos_token: { content: "</s>" }, unk_token: "[UNK]" },
      "tokenizer_config.json": settings,
    });
    const tokenizer = await AutoTokenizer.fromPretrained(target);
    assert.equal(tokenizer.eosTokenId, 2);
    assert.equal(tokenizer.unkTokenId, 0);
    assert.equal(tokenizer.padToken, undefined);
    assert.equal(tokenizer.modelMaxLength, 77);
    assert.deepEqual([...tokenizer.specialTokenIds].sort(), [0, 2, 3]);
    assert.deepEqual(tokenizer.encode("a</s>a<sys>"), [1, 2, 1, 3]);
    assert.equal(tokenizer.decode([1, 3, 2], { skipSpecialTokens: true }), "a");
    // With added_tokens_decoder special_tokens_map.json does not count.
    const modern = await write("modern", {
      "tokenizer.json": minimal,
      "special_tokens_map.json": { eos_token: "</s>" },
      "tokenizer_config.json": { unk_token: "[UNK]", added_tokens_decoder: { 3: { content: "<sys>", special: true } } },
    });
    const other = await AutoTokenizer.fromPretrained(modern);
    assert.equal(other.eosToken, undefined);
    assert.deepEqual([...other.specialTokenIds].sort(), [0, 3]);
  });

  test("added_tokens_decoder changes what tokenizer.json says about its tokens", async () => {
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const target = await write("flags", {
      "tokenizer.json": {
        ...minimal,
        pre_tokenizer: { type: "Whitespace" },
        added_tokens: [
          { id: 2, content: "</s>", ...flags, special: false },
          { id: 3, content: "<sys>", ...flags, special: true },
        ],
      },
      "tokenizer_config.json": {
        added_tokens_decoder: {
          2: { content: "</s>", ...flags, special: true, rstrip: true },
          3: { content: "<sys>", ...flags, special: false },
        },
      },
    });
    const tokenizer = await AutoTokenizer.fromPretrained(target);
    assert.deepEqual([...tokenizer.specialTokenIds], [2]);
    assert.equal(tokenizer.decode([1, 3, 2], { skipSpecialTokens: true }), "a <sys>");
    assert.deepEqual(tokenizer.encode("a</s> a<sys>a"), [1, 2, 1, 3, 1]);
    // One that is named stays special, whatever the decoder says.
    const named = await write("named flags", {
      "tokenizer.json": { ...minimal, added_tokens: [{ id: 3, content: "<sys>", ...flags, special: true }] },
      "tokenizer_config.json": {
        eos_token: "<sys>",
        added_tokens_decoder: { 3: { content: "<sys>", ...flags, special: false } },
      },
    });
    assert.deepEqual([...(await AutoTokenizer.fromPretrained(named)).specialTokenIds], [3]);
  });

  test("chat templates: file before config, named ones, the old file", async () => {
    const at = async (name: string, files: Record<string, unknown>) =>
      AutoTokenizer.fromPretrained(await write(name, { "tokenizer.json": minimal, ...files }));
    const messages = [{ role: "user", content: "a" }];
    const text = { tokenize: false } as const;
    const config = { "tokenizer_config.json": { chat_template: "config" } };
    assert.equal((await at("config", config)).applyChatTemplate(messages, text), "config");
    assert.equal(
      (await at("file", { ...config, "chat_template.jinja": "file" })).applyChatTemplate(messages, text),
      "file",
    );
    assert.equal(
      (await at("old", { "chat_template.json": { chat_template: "old" } })).applyChatTemplate(messages, text),
      "old",
    );
    const named = await at("named", {
      "tokenizer_config.json": {
        chat_template: [
          { name: "tool_use", template: "tools" },
          { name: "rag", template: "rag" },
        ],
      },
    });
    assert.equal(named.applyChatTemplate(messages, { ...text, tools: [{}] }), "tools");
    assert.equal(named.applyChatTemplate(messages, { ...text, chatTemplate: "rag" }), "rag");
    assert.throws(() => named.applyChatTemplate(messages, text), { code: "ERR_TOKENIZER", message: /rag, tool_use/ });
    const more = await at("more", { "chat_template.jinja": "file", "additional_chat_templates/brief.jinja": "brief" });
    assert.equal(more.applyChatTemplate(messages, { ...text, chatTemplate: "brief" }), "brief");
    assert.throws(() => tokenizerWithoutTemplate.applyChatTemplate(messages, text), {
      code: "ERR_TOKENIZER",
      message: /no chat template/,
    });
  });

  let tokenizerWithoutTemplate: Awaited<ReturnType<typeof AutoTokenizer.fromPretrained>>;
  before(async () => {
    tokenizerWithoutTemplate = await AutoTokenizer.fromPretrained(await write("plain", { "tokenizer.json": minimal }));
  });
});

describe("chat templates against transformers", async () => {
  const cases = JSON.parse(await readFile(`${tokenizersFolder}chat.json`, "utf8"));
  const tokenizer = await AutoTokenizer.fromPretrained(`${tokenizersFolder}byte_fallback`);
  for (const [i, { template, messages, options, text, ids, error }] of cases.entries()) {
    test(`case ${i}: ${template.slice(0, 40)}...`, () => {
      const before = JSON.stringify(messages);
      const render = () =>
        tokenizer.applyChatTemplate(messages, { ...options, chatTemplate: template, tokenize: false });
      if (error !== undefined) {
        assert.throws(render, { code: "ERR_TOKENIZER", message: new RegExp(error.slice(0, 30)) });
      } else {
        assert.equal(render(), text);
        assert.deepEqual(tokenizer.applyChatTemplate(messages, { ...options, chatTemplate: template }), ids);
      }
      assert.equal(JSON.stringify(messages), before);
    });
  }

  test("wrong calls", () => {
    const chatTemplate = "{{ messages[0].content }}";
    const wrong: [unknown, object, RegExp][] = [
      ["hello", {}, /messages/],
      [[], {}, /messages to be at least one message/],
      [[{ content: "x" }], {}, /messages\[0\]/],
      [
        [{ role: "user", content: "x" }],
        { addGenerationPrompt: true, continueFinalMessage: true },
        /addGenerationPrompt/,
      ],
      [[{ role: "user" }], { continueFinalMessage: true }, /continueFinalMessage/],
    ];
    for (const [messages, options, message] of wrong) {
      assert.throws(() => tokenizer.applyChatTemplate(messages as never, { chatTemplate, ...options }), {
        code: "ERR_INVALID_ARGUMENT",
        message,
      });
    }
    const broken = { chatTemplate: "{% if %}", tokenize: false } as const;
    assert.throws(() => tokenizer.applyChatTemplate([{ role: "user" }], broken), {
      code: "ERR_TOKENIZER",
      message: /template failed/,
    });
  });
});
