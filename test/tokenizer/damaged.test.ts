import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { AutoTokenizer, ShardspeedError } from "../../dist/index.js";
import { byteCharacters, spellBytes } from "../../dist/tokenizer/byte_level.js";
import { demoModel, readJson } from "../support/fixtures.js";
import { kinds, tokenizersFolder } from "./fixtures.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shardspeed-damaged-"));
});
after(() => rm(folder, { recursive: true }));

let count = 0;
async function write(files: Record<string, string | Uint8Array>): Promise<string> {
  const target = path.join(folder, String(count++));
  await mkdir(target);
  for (const [name, content] of Object.entries(files)) await writeFile(path.join(target, name), content);
  return target;
}

/** Loads and uses a tokenizer; only typed errors of loading are right. */
async function use(files: Record<string, string | Uint8Array>, what: string): Promise<void> {
  let tokenizer: Awaited<ReturnType<typeof AutoTokenizer.fromPretrained>>;
  try {
    tokenizer = await AutoTokenizer.fromPretrained(await write(files));
  } catch (error) {
    assert.ok(ShardspeedError.isInstance(error) && error.code === "ERR_TOKENIZER", `${what}: ${error}`);
    return;
  }
  const ids = tokenizer.encode("The fox's 12 é😀 <s> x\n");
  assert.ok(
    ids.every((id) => Number.isInteger(id) && id >= 0),
    what,
  );
  assert.equal(typeof tokenizer.decode(ids), "string", what);
}

const junk: unknown[] = [
  null,
  5,
  -1,
  "x",
  "",
  [],
  {},
  [5],
  [null],
  { type: "x" },
  true,
  1e30,
  [["a", "b"]],
  { a: "b" },
];

describe("damaged tokenizer files", () => {
  for (const kind of kinds) {
    test(`${kind}: any value in the place of any other`, async () => {
      const json = JSON.parse(await readFile(`${tokenizersFolder}${kind}/tokenizer.json`, "utf8"));
      const places: { holder: Record<string, unknown>; key: string; name: string }[] = [];
      const walk = (holder: Record<string, unknown>, name: string, depth: number): void => {
        for (const key of Object.keys(holder).slice(0, 12)) {
          places.push({ holder, key, name: `${name}.${key}` });
          const inner = holder[key];
          if (depth < 5 && typeof inner === "object" && inner !== null)
            walk(inner as Record<string, unknown>, `${name}.${key}`, depth + 1);
        }
      };
      walk(json, "", 0);
      for (const [i, { holder, key, name }] of places.entries()) {
        const kept = holder[key];
        const value = junk[i % junk.length];
        holder[key] = value;
        await use({ "tokenizer.json": JSON.stringify(json) }, `${name} = ${JSON.stringify(value)}`);
        holder[key] = kept;
      }
    });
  }

  test("tokenizer.model: cut off, and with any byte changed", async () => {
    const { shared } = readJson<{ shared: Record<string, { gzip: string }> }>(`${tokenizersFolder}forms.json`);
    const data = gunzipSync(Buffer.from(shared["bpe_bytes.model"]?.gzip as string, "base64"));
    for (let i = 0; i < 60; i++) {
      const place = Math.floor((i * data.length) / 60);
      await use({ "tokenizer.model": data.subarray(0, place) }, `cut at ${place}`);
      const changed = Buffer.from(data);
      changed[place] = (changed[place] as number) ^ (1 << (i % 8));
      await use({ "tokenizer.model": changed }, `changed at ${place}`);
    }
  });

  test("nested JSON of any depth", async () => {
    const deep = `${'{"a":'.repeat(200_000)}1${"}".repeat(200_000)}`;
    for (const name of ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]) {
      await use({ "tokenizer.json": "{}", [name]: deep }, name);
    }
  });

  test("a pipe in a file's place is not waited for", { skip: process.platform === "win32" }, async () => {
    const target = await write({});
    execFileSync("mkfifo", [path.join(target, "tokenizer.json")]);
    await assert.rejects(AutoTokenizer.fromPretrained(target), {
      code: "ERR_TOKENIZER",
      message: /tokenizer\.json: is a pipe, expected a regular file$/,
    });
  });

  test("a vocabulary that its class does not find its unknown token in", async () => {
    const model = { type: "Unigram", vocab: [null, ["a", 0]] };
    const files = { "tokenizer.json": { model }, "tokenizer_config.json": { tokenizer_class: "DebertaV2Tokenizer" } };
    const written = Object.entries(files).map(([name, content]) => [name, JSON.stringify(content)] as const);
    const location = await write(Object.fromEntries(written));
    await assert.rejects(AutoTokenizer.fromPretrained(location), {
      code: "ERR_TOKENIZER",
      message: /tokenizer\.json cannot be used/,
    });
  });

  test("tiktoken files whose reading could take hours", async () => {
    const line = (bytes: string, rank: number) => `${Buffer.from(bytes).toString("base64")} ${rank}\n`;
    const config = (given: object) => ({ "tokenizer_config.json": JSON.stringify(given) });
    const numbered = (length: number, at: (i: number) => [string, unknown]) =>
      Object.fromEntries(Array.from({ length }, (_, i) => at(i)));
    const startedAt = performance.now();
    await use({ "tiktoken.model": line("a", 0) + line("a".repeat(2_000_000), 1) }, "a long token");
    const declared = numbered(200_000, (i) => [`${i + 1}`, { content: `x${i}` }]);
    const many = await write({ "tiktoken.model": line("a", 0), ...config({ added_tokens_decoder: declared }) });
    assert.equal((await AutoTokenizer.fromPretrained(many)).vocabSize, 200_001);
    const extra = { 60000: { content: "x" } };
    const names = Array.from({ length: 60_000 }, (_, i) => `y${i}`);
    await use(
      { "tiktoken.model": line("a", 0), ...config({ added_tokens_decoder: extra, extra_special_tokens: names }) },
      "many names",
    );
    const takenMs = performance.now() - startedAt;
    assert.ok(takenMs < 20_000, `took ${takenMs} ms`);
  });

  test("tiktoken files and tekken.json", async () => {
    const line = "YQ== 0\n";
    const tekken = { config: { pattern: "\\w+" }, vocab: [{ token_bytes: "YQ==" }], special_tokens: [] };
    const cases: [files: Record<string, string>, message: RegExp][] = [
      [{ "tiktoken.model": "" }, /tiktoken\.model cannot be used: its ranks have gaps/],
      [{ "tiktoken.model": `${line}YQ== x\n` }, /line 2 is no base64 token with its rank/],
      [{ "tiktoken.model": `${line}Yg== 99999999\n` }, /line 2 is no base64/],
      [{ "tiktoken.model": `${line}Yg== 2\n` }, /its ranks have gaps/],
      [{ "qwen.tiktoken": "" }, /qwen\.tiktoken cannot be used: its ranks have gaps/],
      [
        {
          "tiktoken.model": line,
          "tokenizer_config.json": JSON.stringify({ tokenizer_class: "X", auto_map: { AutoTokenizer: ["x.X", null] } }),
        },
        /tiktoken\.model cannot be used: how "X" splits text is code of the model's folder/,
      ],
      [{ "tekken.json": "{}" }, /it has no config\.pattern and vocab/],
      [{ "tekken.json": JSON.stringify({ ...tekken, special_tokens: undefined }) }, /does not list its special tokens/],
      [{ "tekken.json": JSON.stringify({ ...tekken, vocab: [{}] }) }, /has no token_bytes/],
      [
        { "tekken.json": JSON.stringify({ ...tekken, vocab: [null] }) },
        /used: a token of its vocabulary has no token_bytes/,
      ],
      [
        { "tekken.json": JSON.stringify({ ...tekken, special_tokens: [null] }) },
        /used: a special token has no text and rank/,
      ],
      [{ "tekken.json": JSON.stringify({ ...tekken, config: null }) }, /it has no config\.pattern and vocab/],
      [
        { "tekken.json": JSON.stringify({ ...tekken, special_tokens: [{ rank: 1, token_str: "<s>" }] }) },
        /no text and rank/,
      ],
      [
        { "tekken.json": JSON.stringify({ ...tekken, config: { ...tekken.config, default_num_special_tokens: -1 } }) },
        /default_num_special_tokens is -1/,
      ],
    ];
    for (const [files, message] of cases)
      await assert.rejects(AutoTokenizer.fromPretrained(await write(files)), { code: "ERR_TOKENIZER", message });
  });

  test("BioGPT's files", async () => {
    const config = { "config.json": '{"model_type": "biogpt"}' };
    const load = async (vocab: string, merges: string) =>
      AutoTokenizer.fromPretrained(await write({ ...config, "vocab.json": vocab, "merges.txt": merges }));
    await assert.rejects(load('{"a": 0}', "a b 7\nc\n"), { code: "ERR_TOKENIZER", message: /merges\[1\] is no pair/ });
    const tokenizer = await load('{"<unk>": 0, "a": 1, "c</w>": 2}', "a b 7\n__proto__ ab 3\n");
    assert.deepEqual(tokenizer.encode("ab abc __proto__ac", { addSpecialTokens: false }).slice(0, 4), [1, 0, 0, 2]);
    assert.deepEqual([tokenizer.tokenToId("ab"), tokenizer.vocabSize], [undefined, 6]);
    const startedAt = performance.now();
    for (const text of ["DOT", "'", "a'", ".", "a.", "-", ",", "日", "a"]) tokenizer.encode(text.repeat(100_000));
    const takenMs = performance.now() - startedAt;
    assert.ok(takenMs < 20_000, `took ${takenMs} ms`);
  });

  test("a folder with forms that are not read says which files are there", async () => {
    const target = await write({ "emu3.tiktoken": "", "vocab.json": "{}" });
    await assert.rejects(AutoTokenizer.fromPretrained(target), {
      code: "ERR_TOKENIZER",
      message:
        /has emu3\.tiktoken, vocab\.json, but none of the forms that are read: tokenizer\.json, vocab\.json with merges/,
    });
  });
});

test("60,000 special tokens", async () => {
  const json = JSON.parse(await readFile(`${tokenizersFolder}byte_level/tokenizer.json`, "utf8"));
  const first = Object.keys(json.model.vocab).length + json.added_tokens.length;
  for (let i = 0; i < 60_000; i++) json.added_tokens.push({ id: first + i, content: `<extra_id_${i}>`, special: true });
  const tokenizer = await AutoTokenizer.fromPretrained(await write({ "tokenizer.json": JSON.stringify(json) }));
  const id = tokenizer.tokenToId("<extra_id_59999>") as number;
  assert.deepEqual(tokenizer.encode("<extra_id_59999><extra_id_5>"), [id, id - 59_994]);
});

test("encodeAsync gives way within long runs of tokens and long words", async (t) => {
  const tokenizer = await AutoTokenizer.fromPretrained(demoModel);
  for (const [what, text] of [
    ["tokens", "</s>".repeat(32_000)],
    ["one word", "漢字かな交じり文".repeat(4000)],
    ["spaces", " ".repeat(50_000)],
    ["words", "hello ".repeat(32_000)],
  ] as const) {
    // Each look at the clock is a place where other work may come between.
    const clock = t.mock.method(performance, "now", () => 0);
    const ids = await tokenizer.encodeAsync(text);
    const looks = clock.mock.callCount();
    clock.mock.restore();
    assert.deepEqual(ids, tokenizer.encode(text));
    assert.ok(looks > ids.length / 512, `${what}: ${looks} of ${ids.length} ids`);
  }
});

test("bytes are spelled alike in short and long words", () => {
  const text = Array.from({ length: 0x3000 }, (_, code) => String.fromCharCode(code)).join("");
  for (let length = 0; length < text.length; length += length < 200 ? 1 : 997) {
    const bytes = [...new TextEncoder().encode(text.slice(0, length))];
    assert.equal(spellBytes(text.slice(0, length)), bytes.map((byte) => byteCharacters[byte]).join(""));
  }
});

test("encodeAsync gives encode's ids", async () => {
  const text = "The quick brown fox doesn't jump, 1234 times. naïve 日本語\n".repeat(400);
  for (const kind of kinds) {
    const tokenizer = await AutoTokenizer.fromPretrained(tokenizersFolder + kind);
    for (const given of [text, "short", "", "a".repeat(20_000), " ".repeat(20_000)]) {
      assert.deepEqual(await tokenizer.encodeAsync(given), tokenizer.encode(given), kind);
    }
    const plain = { addSpecialTokens: false };
    assert.deepEqual(await tokenizer.encodeAsync(text, plain), tokenizer.encode(text, plain), kind);
    await assert.rejects(tokenizer.encodeAsync(5 as never), { code: "ERR_INVALID_ARGUMENT" });
  }
});
