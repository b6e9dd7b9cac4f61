import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { post, stream } from "./completion_requests.js";
import { type FakeOptions, startOf } from "./fake_model.js";

describe("log-probabilities of a completion", () => {
  test("are columns, with the chosen token always among the likely ones", async () => {
    const script = scriptOf([
      { token: " a", logprob: -1.5, top: [{ token: " the", logprob: -0.5 }] },
      { token: "€", logprob: Number.NEGATIVE_INFINITY, top: [] },
      { token: "b", logprob: -2, top: [{ token: "b", logprob: -2 }] },
    ]);
    const { answer } = await post({ prompt: "a", logprobs: 1 }, { script });
    assert.deepEqual(answer.choices[0].logprobs, {
      tokens: [" a", "€", "b"],
      token_logprobs: [-1.5, -9999, -2],
      top_logprobs: [{ " the": -0.5, " a": -1.5 }, { "€": -9999 }, { b: -2 }],
      text_offset: [0, 2, 3],
    });
  });

  test("name parts of characters by their bytes, and count characters as Python does", async () => {
    const [first, second] = [
      [0xf0, 0x9f],
      [0x98, 0x80],
    ];
    const script = scriptOf([
      { token: "\uFFFD", bytes: first, logprob: -1, top: [] },
      { token: "\uFFFD\uFFFD", bytes: second, logprob: -2, top: [] },
      { token: "!", logprob: -3, top: [] },
    ]);
    const { answer } = await post({ prompt: "a", logprobs: 0 }, { script });
    const { tokens, text_offset, top_logprobs } = answer.choices[0].logprobs;
    assert.deepEqual(tokens, ["bytes:\\xf0\\x9f", "bytes:\\x98\\x80", "!"]);
    assert.deepEqual(text_offset, [0, 0, 1]);
    assert.deepEqual(top_logprobs[0], { "bytes:\\xf0\\x9f": -1 });
  });

  test("are by id where that is asked for, or by the server's setting", async () => {
    const script = scriptOf([{ token: "x", logprob: -1, top: [{ token: "y", logprob: -0.5 }] }]);
    const body = { prompt: "a", logprobs: 1 };
    const asked = await post({ ...body, return_tokens_as_token_ids: true }, { script });
    assert.deepEqual(asked.answer.choices[0].logprobs.tokens, ["token_id:0"]);
    const set = await post(body, { script }, { returnTokensAsTokenIds: true });
    assert.deepEqual(set.answer.choices[0].logprobs.top_logprobs, [{ "token_id:100": -0.5, "token_id:0": -1 }]);
  });

  test("of an echoed prompt go ahead of the others, with nothing for the first token", async () => {
    const script = readingOf(
      [
        { token: "</s>", logprob: Number.NaN, top: [] },
        { token: " Ça", logprob: -1.5, rank: 2, top: [{ token: " It", logprob: -0.5 }] },
        { token: "\uFFFD", bytes: [0xf0, 0x9f], logprob: Number.NEGATIVE_INFINITY, rank: 9, top: [] },
        { token: "\uFFFD\uFFFD", bytes: [0x98, 0x80], logprob: -2, rank: 1, top: [] },
        { token: " va", logprob: -3, rank: 1, top: [{ token: " va", logprob: -3 }] },
      ],
      [{ token: "!", logprob: -0.25, top: [{ token: "?", logprob: -1.5 }] }],
    );
    const body = { prompt: "Ça😀 va", echo: true, logprobs: 1 };
    const { answer, model } = await post(body, { script });
    assert.equal(answer.choices[0].text, "Ça😀 va!");
    assert.deepEqual(answer.choices[0].logprobs, {
      tokens: ["</s>", " Ça", "bytes:\\xf0\\x9f", "bytes:\\x98\\x80", " va", "!"],
      token_logprobs: [null, -1.5, -9999, -2, -3, -0.25],
      top_logprobs: [
        null,
        { " It": -0.5, " Ça": -1.5 },
        { "bytes:\\xf0\\x9f": -9999 },
        { "bytes:\\x98\\x80": -2 },
        { " va": -3 },
        { "?": -1.5, "!": -0.25 },
      ],
      text_offset: [0, 0, 2, 2, 3, 6],
    });
    const { promptLogprobs, logprobs, maxNewTokens } = model.generated[0]?.options ?? {};
    assert.deepEqual([promptLogprobs, logprobs, maxNewTokens], [1, 1, 16]);
    const { chunks } = await stream(body, { script });
    const parts = chunks.flatMap(({ choices }) => choices[0] ?? []);
    assert.equal(parts.map(({ text }) => text).join(""), "Ça😀 va!");
    assert.deepEqual(
      parts.flatMap(({ logprobs }) => logprobs?.token_logprobs),
      answer.choices[0].logprobs.token_logprobs,
    );
    assert.equal(parts[0]?.logprobs?.tokens.length, 6, "the first chunk has the whole prompt");
  });

  test("of a prompt alone are asked of the engine with no new tokens, and only what is asked for is answered", async () => {
    const prompt = [
      { token: "a", logprob: Number.NaN, top: [] },
      {
        token: "b",
        logprob: -2,
        rank: 4,
        top: [
          { token: "x", logprob: -0.5 },
          { token: "y", logprob: -1 },
        ],
      },
    ];
    const script = readingOf(prompt, []);
    const { answer, model } = await post({ prompt: [[97, 98]], echo: true, max_tokens: 0, logprobs: 0 }, { script });
    assert.deepEqual(model.generated[0]?.options.maxNewTokens, 0);
    assert.equal(answer.choices[0].text, "ab");
    assert.deepEqual(answer.choices[0].logprobs, {
      ...{ tokens: ["a", "b"], token_logprobs: [null, -2], top_logprobs: [null, { b: -2 }], text_offset: [0, 1] },
    });
    assert.equal(answer.choices[0].finish_reason, "length");
    // As many as the larger of the two wants; each gets its own number.
    const both = await post({ prompt: "ab", echo: true, logprobs: 1, prompt_logprobs: 2, max_tokens: 0 }, { script });
    assert.equal(both.model.generated[0]?.options.promptLogprobs, 2);
    const [choice] = both.answer.choices;
    assert.deepEqual(choice.logprobs.top_logprobs, [null, { x: -0.5, b: -2 }]);
    assert.deepEqual(choice.prompt_logprobs, [
      null,
      {
        1: { logprob: -2, rank: 4, decoded_token: "b" },
        100: { logprob: -0.5, rank: 1, decoded_token: "x" },
        101: { logprob: -1, rank: 2, decoded_token: "y" },
      },
    ]);
    const plain = await post({ prompt: "ab", prompt_logprobs: 0, max_tokens: 0 }, { script });
    assert.deepEqual(plain.answer.choices[0].prompt_logprobs, [null, { 1: choice.prompt_logprobs[1][1] }]);
    assert.deepEqual([plain.answer.choices[0].text, plain.answer.choices[0].logprobs], ["", null]);
    // Without an echo nobody sees them.
    const unseen = await post({ prompt: "ab", logprobs: 1 });
    assert.equal(unseen.model.generated[0]?.options.promptLogprobs, undefined);
  });

  test("of an echoed prompt tell where each token begins, also those that are not in the text", async () => {
    const offsets = async (prompt: string, tokens: readonly string[]) => {
      const script = readingOf(
        tokens.map((token) => ({ token, logprob: -1, top: [] })),
        [],
      );
      const { answer } = await post({ prompt, echo: true, logprobs: 0, max_tokens: 0 }, { script });
      return answer.choices[0].logprobs.text_offset;
    };
    // A tokenizer that puts a space ahead of all.
    assert.deepEqual(await offsets("a a b", ["<s>", " a", " a", " b"]), [0, 0, 1, 3]);
    // One that reads the text otherwise than it is written.
    assert.deepEqual(await offsets("é?! fi ok", ["É", "<unk>", " ﬁ", " ok"]), [0, 0, 0, 6]);
    assert.deepEqual(await offsets("abab", ["ab", "ab", "ab"]), [0, 2, 4]);
  });

  test("of prompts are refused in a stream, and above the server's limit", async () => {
    for (const [body, param] of [
      [{ prompt_logprobs: 1, stream: true }, "prompt_logprobs"],
      [{ prompt_logprobs: 21 }, "prompt_logprobs"],
      [{ echo: true, logprobs: 21 }, "logprobs"],
    ] as const) {
      const { response } = await post({ prompt: "a", ...body });
      assert.deepEqual([response.statusCode, response.json().error.param], [400, param]);
    }
  });

  test("an echo of the end of a prompt has the text of the tokens that were read", async () => {
    const { answer } = await post({ prompt: "abcd", echo: true, truncate_prompt_tokens: 2 });
    assert.equal(answer.choices[0].text, "cdHi there.");
    const ids = await post({ prompt: [97, 98, 99], echo: true, truncate_prompt_tokens: 1, max_tokens: 0 });
    assert.equal(ids.answer.choices[0].text, "c");
  });
});

interface FakeToken {
  token: string;
  bytes?: number[];
  logprob: number;
  rank?: number;
  top: { token: string; logprob: number }[];
}

/** A prompt whose tokens have log-probabilities but for the first one, of ids 0, 1, ..., then what scriptOf() says. */
function readingOf(prompt: readonly FakeToken[], tokens: readonly FakeToken[]): NonNullable<FakeOptions["script"]> {
  const entries = prompt.map(({ token, bytes = [...Buffer.from(token)], logprob, rank = 1, top }, id) => {
    const likely = top.map((one, i) => ({ ...one, id: 100 + i, bytes: [...Buffer.from(one.token)] }));
    return { id, token, bytes, logprob, rank, top: likely };
  });
  const { logprob: _, rank: __, top: ___, ...firstToken } = entries[0] as (typeof entries)[number];
  return async function* (call, signal) {
    const promptLogprobs = [null, ...entries.slice(1)];
    yield [{ start: { promptTokens: prompt.length, maxNewTokens: tokens.length, firstToken } }];
    let isFirst = true;
    for await (const parts of tokens.length === 0 ? [] : scriptOf(tokens)(call, signal)) {
      for (const part of parts) {
        if ("start" in part) continue;
        yield [{ chunk: { ...part.chunk, ...(isFirst ? { promptLogprobs } : {}) } }];
        isFirst = false;
      }
    }
    if (isFirst) yield [{ chunk: { text: "", ids: [], promptLogprobs, finishReason: "length" } }];
  };
}

/** Tokens with their log-probabilities, of ids 0, 1, ...; likely ones have ids from 100. */
function scriptOf(tokens: readonly FakeToken[]): NonNullable<FakeOptions["script"]> {
  const utf8 = (text: string) => [...Buffer.from(text)];
  return async function* (call) {
    yield [startOf(call)];
    for (const [id, { token, logprob, bytes = utf8(token), top }] of tokens.entries()) {
      const likely = top.map((one, i) => ({ ...one, id: 100 + i, bytes: utf8(one.token) }));
      const end = id === tokens.length - 1 ? { finishReason: "length" as const } : {};
      yield [{ chunk: { text: token, ids: [id], logprobs: [{ id, token, logprob, bytes, top: likely }], ...end } }];
    }
  };
}
