import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { AutoTokenizer, type BatchEncoding, type Tokenizer, type TokenizerCallOptions } from "../../dist/index.js";
import { demoModel, hasCode, readJson } from "../support/fixtures.js";
import { demoFolder, tokenizersFolder } from "./fixtures.js";

/** Made by test/fixtures/tokenizers/make_calls.py with transformers. */
interface Case {
  tokenizer: string;
  set: Record<string, unknown>;
  texts: string[] | string;
  options: TokenizerCallOptions;
  result?: { inputIds: number[][]; attentionMask: number[][] };
  error?: string;
}

const load = (name: string) => AutoTokenizer.fromPretrained(name === "demo" ? demoFolder : tokenizersFolder + name);

describe("calls against transformers", () => {
  const groups: Record<string, Case[]> = {};
  for (const one of readJson<Case[]>(`${tokenizersFolder}calls.json`)) {
    const name = `${one.tokenizer} ${JSON.stringify(one.set)}`;
    groups[name] = [...(groups[name] ?? []), one];
  }
  for (const [name, cases] of Object.entries(groups)) {
    test(name, async () => {
      for (const { tokenizer: kind, set, texts, options, result, error } of cases) {
        const tokenizer = await load(kind);
        Object.assign(tokenizer, set);
        const call = () => tokenizer(texts as string[], options);
        if (error === undefined) assert.deepEqual(call(), result, JSON.stringify(options));
        else assert.throws(call, { code: "ERR_TOKENIZER", message: /tokenizer\.padToken = tokenizer\.eosToken/ });
      }
    });
  }
});

describe("a tokenizer that is a function", () => {
  let tokenizer: Tokenizer;
  before(async () => {
    tokenizer = await load("byte_fallback");
  });

  test("has its methods and properties, and is a function", () => {
    assert.equal(typeof tokenizer, "function");
    assert.ok(tokenizer instanceof Function);
    assert.deepEqual(tokenizer.bind(null)("a"), tokenizer("a"));
    assert.deepEqual(
      ["a"].map((text) => tokenizer(text).inputIds),
      [tokenizer.encode("a")],
    );
    assert.equal(tokenizer.decode(tokenizer.encode("the fox"), { skipSpecialTokens: true }), "the fox");
  });

  test("two of them share nothing", async () => {
    const other = await load("byte_fallback");
    other.padToken = "</s>";
    assert.equal(tokenizer.padToken, undefined);
  });

  test("encode() and encodeAsync() cut as the call does", async () => {
    const text = "the quick brown fox ".repeat(200);
    for (const truncationSide of ["right", "left"] as const) {
      const one = await AutoTokenizer.fromPretrained(`${tokenizersFolder}byte_fallback`, { truncationSide });
      const expected = one(text, { truncation: true, maxLength: 5 }).inputIds;
      assert.equal(expected.length, 5);
      assert.deepEqual(one.encode(text, { maxLength: 5 }), expected);
      assert.deepEqual(await one.encodeAsync(text, { maxLength: 5 }), expected);
      assert.deepEqual(one.encode("a", { maxLength: 500 }), one.encode("a"));
    }
    for (const maxLength of [0, -1, 1.5, Number.NaN, "5"] as number[])
      assert.throws(() => tokenizer.encode("a", { maxLength }), hasCode("ERR_INVALID_ARGUMENT", /maxLength/));
  });

  test("an empty batch is an empty result", () => {
    assert.deepEqual(tokenizer([]), { inputIds: [], attentionMask: [] });
  });

  test("leaves options and texts as they are", () => {
    const options = Object.freeze({ maxLength: 3, truncation: true });
    assert.equal(tokenizer(Object.freeze(["the fox"]) as string[], options).inputIds[0]?.length, 3);
  });

  const wrong: [unknown, unknown, RegExp][] = [
    [5, {}, /texts to be a string or an array of strings, found 5/],
    [undefined, {}, /texts/],
    [["a", 5], {}, /texts\[1\]/],
    [[["a"]], {}, /texts\[0\]/],
    ["a", 5, /the tokenizer call options/],
    ["a", { maxlength: 5 }, /maxlength.*Did you mean maxLength\?/],
    ["a", { returnTensors: "pt" }, /returnTensors/],
    ["a", { maxLength: 0 }, /maxLength/],
    ["a", { maxLength: 2.5 }, /maxLength/],
    ["a", { padding: "left" }, /padding to be true, false, "longest" or "max_length"/],
    ["a", { truncation: "longest" }, /truncation/],
    ["a", { paddingSide: "top" }, /paddingSide to be "left" or "right"/],
    ["a", { addSpecialTokens: 1 }, /addSpecialTokens/],
  ];
  for (const [texts, options, message] of wrong) {
    test(`wrong: ${JSON.stringify([texts, options])}`, () => {
      assert.throws(() => tokenizer(texts as never, options as never), { code: "ERR_INVALID_ARGUMENT", message });
    });
  }

  test("maxLength has room for the special tokens", async () => {
    const words = await load("word_piece");
    assert.deepEqual(words("fox", { truncation: true, maxLength: 2 }).inputIds, [2, 3]);
    assert.throws(() => words("fox", { truncation: true, maxLength: 1 }), {
      code: "ERR_INVALID_ARGUMENT",
      message: /maxLength to be at least 2, for the special tokens.*found 1/,
    });
    assert.equal(words("fox", { truncation: true, maxLength: 1, addSpecialTokens: false }).inputIds.length, 1);
  });

  test("padding to a length that means none is refused, not tried", async () => {
    const demo = await load("demo");
    for (const maxLength of [2 ** 27 + 1, Number.MAX_SAFE_INTEGER]) {
      assert.throws(() => demo("a", { padding: "max_length", maxLength }), {
        code: "ERR_INVALID_ARGUMENT",
        message: /ids in one result/,
      });
    }
  });

  test("any options and texts: a rectangle that decodes as without padding, or a typed error", async () => {
    const demo = await load("demo");
    const option = <T>(...values: T[]) => fc.option(fc.constantFrom(...values), { nil: undefined });
    const options = fc.record({
      padding: option<unknown>(true, false, "longest", "max_length", "maxLength", 1, null),
      truncation: option<unknown>(true, false, "only_first"),
      maxLength: option<unknown>(1, 2, 7, 30, -1, "7"),
      paddingSide: option<unknown>("left", "right", ""),
      addSpecialTokens: option(true, false),
    });
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "binary", maxLength: 12 }), { maxLength: 4 }), options, (texts, any) => {
        let encoding: BatchEncoding;
        try {
          encoding = demo(texts, any as TokenizerCallOptions);
        } catch (error) {
          assert.equal((error as { code?: string }).code, "ERR_INVALID_ARGUMENT", String(error));
          return;
        }
        const { inputIds, attentionMask } = encoding;
        assert.deepEqual(
          inputIds.map((row) => row.length),
          attentionMask.map((row) => row.length),
        );
        if (any.padding === true) assert.ok(new Set(inputIds.map((row) => row.length)).size <= 1);
        for (const [i, row] of inputIds.entries()) {
          const tokens = row.filter((_, place) => attentionMask[i]?.[place] === 1);
          const whole = demo.encode(texts[i] as string, { addSpecialTokens: any.addSpecialTokens ?? true });
          assert.deepEqual(tokens, whole.slice(0, tokens.length));
          if (any.maxLength === undefined) assert.deepEqual(tokens, whole);
        }
      }),
    );
  });
});

describe("settings", () => {
  test("ids follow tokens, tokens follow ids, and chat templates see them", async () => {
    const tokenizer = await load("byte_fallback");
    for (const [token, id] of [
      ["bosToken", "bosTokenId"],
      ["eosToken", "eosTokenId"],
      ["padToken", "padTokenId"],
      ["unkToken", "unkTokenId"],
    ] as const) {
      tokenizer[token] = "<0x41>";
      assert.equal(tokenizer[id], tokenizer.tokenToId("<0x41>"));
      tokenizer[id] = 2;
      assert.equal(tokenizer[token], "</s>");
      tokenizer[token] = undefined;
      assert.equal(tokenizer[id], undefined);
      tokenizer[id] = 1;
      tokenizer[id] = undefined;
      assert.equal(tokenizer[token], undefined);
    }
    const template = { chatTemplate: "{{ eos_token }}{{ pad_token }}", tokenize: false } as const;
    tokenizer.eosToken = "<s>";
    tokenizer.padToken = tokenizer.eosToken;
    assert.equal(tokenizer.applyChatTemplate([{ role: "user" }], template), "<s><s>");
  });

  test("what cannot be set", async () => {
    const tokenizer = await load("byte_fallback");
    const set = (name: string, value: unknown) => () => {
      (tokenizer as unknown as Record<string, unknown>)[name] = value;
    };
    assert.throws(set("padToken", "[nothing]"), {
      code: "ERR_TOKENIZER",
      message: /padToken to "\[nothing\]": the vocabulary has no such token/,
    });
    for (const id of [-1, 1e6]) assert.throws(set("padTokenId", id), { code: "ERR_TOKENIZER" });
    const wrong: [string, unknown][] = [
      ["padToken", 5],
      ["padTokenId", "2"],
      ["eosTokenId", 1.5],
      ["paddingSide", "up"],
      ["truncationSide", undefined],
      ["modelMaxLength", 0],
      ["modelMaxLength", Number.NaN],
      ["modelMaxLength", "10"],
    ];
    for (const [name, value] of wrong) {
      assert.throws(set(name, value), { code: "ERR_INVALID_ARGUMENT", message: new RegExp(name) });
    }
    assert.equal(tokenizer.padToken, undefined, "nothing was set");
    assert.equal(tokenizer.paddingSide, "right");
  });

  test("sides and the longest input come from tokenizer_config.json", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-call-"));
    t.after(() => rm(folder, { recursive: true }));
    const model = { type: "WordLevel", vocab: { "[UNK]": 0, a: 1, b: 2 }, unk_token: "[UNK]" };
    await writeFile(
      path.join(folder, "tokenizer.json"),
      JSON.stringify({ model, pre_tokenizer: { type: "WhitespaceSplit" } }),
    );
    const config = { padding_side: "left", truncation_side: "left", model_max_length: 3, pad_token: "[UNK]" };
    await writeFile(path.join(folder, "tokenizer_config.json"), JSON.stringify(config));
    const tokenizer = await AutoTokenizer.fromPretrained(folder);
    assert.deepEqual(tokenizer(["a a a b", "b"], { padding: true, truncation: true }), {
      inputIds: [
        [1, 1, 2],
        [0, 0, 2],
      ],
      attentionMask: [
        [1, 1, 1],
        [0, 0, 1],
      ],
    });
    tokenizer.modelMaxLength = Number.POSITIVE_INFINITY;
    assert.equal(tokenizer("a a a b", { truncation: true }).inputIds.length, 4);
  });

  test("it is loaded with what is to be set of it", async () => {
    const options = { paddingSide: "left", truncationSide: "left", modelMaxLength: 3, padToken: "</s>" } as const;
    const tokenizer = await AutoTokenizer.fromPretrained(demoFolder, options);
    const { paddingSide, truncationSide, modelMaxLength, padToken } = tokenizer;
    assert.deepEqual({ paddingSide, truncationSide, modelMaxLength, padToken }, options);
    const wrong: [object | null, string, RegExp][] = [
      [{ padding_side: "left" }, "ERR_INVALID_ARGUMENT", /Did you mean paddingSide/],
      [{ paddingSide: "both" }, "ERR_INVALID_ARGUMENT", /paddingSide/],
      [{ padToken: "no such token" }, "ERR_TOKENIZER", /padToken/],
      [null, "ERR_INVALID_ARGUMENT", /an object/],
    ];
    for (const [given, code, message] of wrong) {
      await assert.rejects(AutoTokenizer.fromPretrained(demoFolder, given as never), { code, message });
    }
  });
});

test("strategies by their names in transformers", async () => {
  const tokenizer = await AutoTokenizer.fromPretrained(demoModel);
  const texts = ["Call me", "It is a truth universally acknowledged"];
  const plain = (options: object) => tokenizer(texts, { maxLength: 4, ...options });
  assert.deepEqual(plain({ truncation: "longest_first" }), plain({ truncation: true }));
  assert.deepEqual(plain({ truncation: "do_not_truncate" }), plain({ truncation: false }));
  assert.deepEqual(plain({ padding: "do_not_pad", truncation: true }), plain({ padding: false, truncation: true }));
  assert.throws(
    () => plain({ truncation: "all" }),
    hasCode("ERR_INVALID_ARGUMENT", /truncation to be true, false, "longest_first"/),
  );
});
