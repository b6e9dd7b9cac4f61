import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Client } from "../../dist/bench/client.js";
import { splitJsonArray } from "../../dist/bench/json_array.js";
import type { DatasetOptions } from "../../dist/bench/options.js";
import { drawPrompts } from "../../dist/bench/prompts.js";
import { Random } from "../../dist/bench/random.js";
import { ServerTokenizer } from "../../dist/bench/server_tokenizer.js";
import { ShardspeedError } from "../../dist/index.js";
import { type FakeServer, startFakeServer } from "./fake_server.js";

const random: DatasetOptions = { name: "random", inputLen: 10, outputLen: 6, rangeRatio: 0.5 };

describe("prompts", () => {
  let server: FakeServer;
  let client: Client;
  let folder: string;
  before(async () => {
    server = await startFakeServer({ tokenizer: true });
    client = new Client({ baseUrl: server.url });
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
  });
  after(async () => {
    client.close();
    await server[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  const draw = (options: DatasetOptions, count: number, { seed = 1, words = false, takesIds = true } = {}) =>
    drawPrompts(options, count, {
      random: new Random(seed),
      tokenizer: words ? undefined : new ServerTokenizer(client, "fake"),
      takesIds,
    });
  const file = async (text: string) => {
    const name = path.join(folder, `${Math.random()}.json`);
    await writeFile(name, text);
    return name;
  };
  const refuses = (options: DatasetOptions, says: RegExp) =>
    assert.rejects(draw(options, 2), (error) => {
      assert.ok(ShardspeedError.isInstance(error) && error.code === "ERR_INVALID_ARGUMENT");
      assert.match(error.message, says);
      return true;
    });

  test("random: ids of the server's tokenizer, of lengths in the range, the same for a seed", async () => {
    const prompts = await draw(random, 200);
    for (const { prompt, inputTokens, outputTokens } of prompts) {
      assert.ok(Array.isArray(prompt) && prompt.length === inputTokens && prompt.every((id) => id >= 100));
      assert.ok(inputTokens >= 5 && inputTokens <= 15 && outputTokens >= 3 && outputTokens <= 9);
    }
    assert.deepEqual(new Set(prompts.map((one) => one.inputTokens)).size, 11);
    assert.deepEqual(await draw(random, 200), prompts);
    assert.notDeepEqual(await draw(random, 200, { seed: 2 }), prompts);
    assert.equal(new Set(prompts.map((one) => String(one.prompt))).size, 200);
  });

  test("random: text of as many tokens for a chat; words for a server without a tokenizer", async () => {
    for (const words of [false, true]) {
      const prompts = await draw({ ...random, rangeRatio: 0 }, 20, { words, takesIds: false });
      for (const { prompt, inputTokens } of prompts) {
        assert.ok(typeof prompt === "string");
        assert.deepEqual([prompt.split(" ").length, inputTokens], [10, 10]);
      }
    }
  });

  test("prefix_repetition: as many prefixes as asked for, each in as many prompts", async () => {
    const options: DatasetOptions = {
      name: "prefix_repetition",
      prefixLen: 8,
      suffixLen: 3,
      numPrefixes: 4,
      outputLen: 5,
    };
    for (const words of [false, true]) {
      const prompts = await draw(options, 20, { words });
      const prefixes = prompts.map(({ prompt }) =>
        String((Array.isArray(prompt) ? prompt : prompt.split(" ")).slice(0, 8)),
      );
      const counts = [...new Set(prefixes)].map((one) => prefixes.filter((other) => other === one).length);
      assert.deepEqual(counts, [5, 5, 5, 5]);
      assert.ok(prompts.every(({ inputTokens, outputTokens }) => inputTokens === 11 && outputTokens === 5));
      assert.equal(new Set(prompts.map(({ prompt }) => String(prompt))).size, 20);
    }
  });

  test("sharegpt: the first question of conversations of usual length, repeated where there are few", async () => {
    const turns = (...texts: string[]) => ({ conversations: texts.map((value) => ({ from: "human", value })) });
    const long = "word ".repeat(1100).trim();
    const data = [
      turns("one two three four", "a b c d e"),
      turns("only a question"),
      turns("a b", "c d e f"),
      7,
      turns(long, "a b c d"),
    ];
    const name = await file(JSON.stringify(data));
    const prompts = await draw({ name: "sharegpt", path: name }, 3);
    const expected = { prompt: "one two three four", inputTokens: 4, outputTokens: 5 };
    assert.deepEqual(prompts, [expected, expected, expected]);
    const [told] = await draw({ name: "sharegpt", path: name, outputLen: 2 }, 1);
    assert.equal(told?.outputTokens, 2);
    await refuses({ name: "sharegpt", path: await file("[]") }, /no conversation/);
    await refuses({ name: "sharegpt", path: await file('{"a":1}') }, /no JSON array/);
    await refuses({ name: "sharegpt", path: path.join(folder, "none") }, /There is no file/);
  });

  test("custom: lines of JSON, with lengths of their own on request", async () => {
    const name = await file('\uFEFF{"prompt":"a b c","output_tokens":4}\n\n{"prompt":"d","output_tokens":null}\n');
    const prompts = await draw({ name: "custom", path: name, outputLen: 9 }, 2);
    assert.deepEqual(prompts.map(({ prompt, outputTokens }) => `${prompt}:${outputTokens}`).sort(), ["a b c:9", "d:9"]);
    await refuses({ name: "custom", path: name, outputLen: -1 }, /needs output_tokens/);
    await refuses(
      { name: "custom", path: await file('{"prompt":"a"}\n{"prompt":1}'), outputLen: 1 },
      /line 2: .*prompt/,
    );
    await refuses(
      { name: "custom", path: await file('{"prompt":"a","output_tokens":0}'), outputLen: 1 },
      /output_tokens/,
    );
    await refuses({ name: "custom", path: await file("{"), outputLen: 1 }, /line 1 is not JSON/);
    await refuses({ name: "custom", path: await file("\n"), outputLen: 1 }, /has no line/);
    await refuses({ name: "custom", path: folder, outputLen: 1 }, /regular file/);
  });

  test("splitJsonArray: elements as they are, whatever their texts hold", () => {
    const split = (text: string) => splitJsonArray(Buffer.from(text), "x").map(String);
    const elements = ['{"a":"]}\\"[,"}', " [1,[2]]", "\n3 ", '"\\\\"'];
    assert.deepEqual(split(` [${elements.join(",")}] `), elements);
    assert.deepEqual(split("[]"), []);
    assert.deepEqual(split("[ ]"), []);
    for (const bad of ["", "{}", "7", "[1", '["a', "]", "[[1]"]) {
      assert.throws(() => split(bad), { code: "ERR_INVALID_ARGUMENT" }, bad);
    }
  });
});
