import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type AnswerToken, readChunk } from "../../../dist/serving/page/browser/chunks.js";
import { EventReader } from "../../../dist/serving/page/browser/event_stream.js";
import { describeRefusal } from "../../../dist/serving/page/browser/failures.js";
import { readSampling } from "../../../dist/serving/page/browser/sampling.js";
import { makeTimeline, showMs } from "../../../dist/serving/page/browser/timeline.js";
import { TokenSpans } from "../../../dist/serving/page/browser/token_spans.js";

const token = (text: string | number[], name = String(text)): AnswerToken => ({
  name,
  bytes: typeof text === "string" ? new TextEncoder().encode(text) : Uint8Array.from(text),
  logprob: -1,
  top: [],
});

/** Texts and names of tokens of all spans. */
function divide(pieces: readonly [string, AnswerToken[]][]): [string, string[]][] {
  const spans = new TokenSpans();
  const found = [...pieces.flatMap(([text, tokens]) => spans.push(text, tokens)), ...spans.end()];
  return found.map(({ text, tokens }) => [text, tokens.map(({ name }) => name)]);
}

describe("the text of an answer", () => {
  test("is divided by its tokens, however they come", () => {
    const tokens = [token("Call"), token(" me"), token("!")];
    const expected = [
      ["Call", ["Call"]],
      [" me", [" me"]],
      ["!", ["!"]],
    ];
    assert.deepEqual(divide([["Call me!", tokens]]), expected);
    assert.deepEqual(divide(tokens.map((one) => [one.name, [one]])), expected);
    // What may become a stop string is held back, but not its tokens.
    assert.deepEqual(
      divide([
        ["", tokens.slice(0, 2)],
        ["Call m", tokens.slice(2)],
        ["e!", []],
      ]),
      expected,
    );
  });

  test("has parts of a character as one piece", () => {
    const parts = [token([0xf0, 0x9f], "bytes:a"), token([0x90], "bytes:b"), token([0xb3, 0x21], "bytes:c")];
    assert.deepEqual(
      divide([
        ["A", [token("A")]],
        ["", parts.slice(0, 2)],
        ["🐳!?", [...parts.slice(2), token("?")]],
      ]),
      [
        ["A", ["A"]],
        ["🐳!", ["bytes:a", "bytes:b", "bytes:c"]],
        ["?", ["?"]],
      ],
    );
  });

  test("may begin without the space of its first token, and special tokens are no text", () => {
    const tokens = [token("<s>"), token(" Call"), token(" me"), token("</s>")];
    assert.deepEqual(divide([["Call me", tokens]]), [
      ["Call", [" Call"]],
      [" me", [" me"]],
    ]);
  });

  test("that its tokens do not explain is shown all the same", () => {
    assert.deepEqual(divide([["Call me", [token("Other")]]]), [["Call me", ["Other"]]]);
    assert.deepEqual(divide([["Call", []]]), [["Call", []]]);
  });

  test("is never changed, whatever the tokens and pieces", () => {
    const bytes = fc.uint8Array({ maxLength: 3 }).map((one) => [...one]);
    const anyToken = fc.oneof(bytes, fc.string({ unit: "grapheme", maxLength: 3 })).map((text) => token(text));
    const piece = fc.tuple(fc.string({ unit: "grapheme", maxLength: 4 }), fc.array(anyToken, { maxLength: 3 }));
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const shown = divide(pieces).map(([text]) => text);
        assert.equal(shown.join(""), pieces.map(([text]) => text).join(""));
        assert.ok(!shown.includes(""));
      }),
    );
  });

  test("is divided by tokens that cut its bytes anywhere", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), fc.array(fc.nat(30)), (text, cuts) => {
        const bytes = [...new TextEncoder().encode(text)];
        const ends = [...new Set([...cuts.filter((cut) => cut > 0 && cut < bytes.length), bytes.length])];
        const places = [0, ...ends.sort((a, b) => a - b)];
        const tokens = ends.map((_, i) => token(bytes.slice(places[i], places[i + 1]), String(i)));
        const found = divide([[text, tokens]]);
        assert.equal(found.map(([one]) => one).join(""), text);
        const names = found.flatMap(([, of]) => of);
        assert.deepEqual(
          names,
          tokens.map(({ name }) => name),
        );
      }),
    );
  });
});

describe("a chunk", () => {
  test("of chat has its tokens with their alternatives", () => {
    const top_logprobs = [{ token: "a", logprob: -0.1, bytes: [97] }];
    const content = [{ token: "\ufffd", logprob: -2, bytes: [0xf0], top_logprobs }];
    const choices = [{ index: 0, delta: { content: "x" }, logprobs: { content }, finish_reason: null }];
    const { text, tokens, finishReason } = readChunk({ choices });
    assert.deepEqual([text, finishReason, tokens.length], ["x", undefined, 1]);
    assert.deepEqual([[...(tokens[0]?.bytes ?? [])], tokens[0]?.logprob, tokens[0]?.top[0]?.name], [[0xf0], -2, "a"]);
  });

  test("of completions has its columns as tokens, the likeliest alternatives first", () => {
    const logprobs = {
      tokens: ["bytes:\\xe2\\x80", " a"],
      token_logprobs: [-3, null],
      top_logprobs: [{ " b": -2, " c": -0.5 }, null],
      text_offset: [0, 0],
    };
    const { text, tokens, finishReason } = readChunk({ choices: [{ text: " a", logprobs, finish_reason: "length" }] });
    assert.deepEqual([text, finishReason], [" a", "length"]);
    assert.deepEqual([...(tokens[0]?.bytes ?? [])], [0xe2, 0x80]);
    assert.deepEqual(
      tokens[0]?.top.map(({ name }) => name),
      [" c", " b"],
    );
    assert.deepEqual([tokens[1]?.logprob, tokens[1]?.top], [0, []]);
  });

  test("at the end has times and counts; a failure has its message", () => {
    const usage = { prompt_tokens: 3, completion_tokens: 5 };
    const { newTokens, promptTokens, timings } = readChunk({ choices: [], usage, timings: { queue_ms: 1 } });
    assert.deepEqual([newTokens, promptTokens, timings?.queue_ms], [5, 3, 1]);
    assert.equal(readChunk({ error: { message: "Broken." } }).failure, "Broken.");
    assert.equal(readChunk({ error: {} }).failure, "The server failed.");
  });

  test("may be anything", () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => void readChunk(value)));
    fc.assert(fc.property(fc.jsonValue(), (value) => void readChunk({ choices: [value] })));
    fc.assert(fc.property(fc.jsonValue(), (value) => void readChunk({ choices: [{ logprobs: value }] })));
  });
});

test("events are found in pieces that are cut anywhere", () => {
  const stream = ': ping\n\ndata: {"a":"ü"}\r\n\r\nevent: x\ndata:one\ndata: two\n\ndata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(stream);
  for (let cut = 0; cut <= bytes.length; cut++) {
    const reader = new EventReader();
    const events = [...reader.push(bytes.slice(0, cut)), ...reader.push(bytes.slice(cut))];
    assert.deepEqual(events, ['{"a":"ü"}', "one\ntwo", "[DONE]"], `cut at ${cut}`);
  }
});

describe("the timeline of a request", () => {
  test("has the server's times, and the rest of what the browser saw", () => {
    const timings = { queue_ms: 10, prompt_ms: 30, predicted_ms: 100 };
    const { segments, totalMs, source, tokensPerSecond } = makeTimeline({ sentAt: 1000, endAt: 1200 }, timings, 11);
    assert.deepEqual(segments, [
      { name: "queue", ms: 10, start: 0, share: 0.05 },
      { name: "prefill", ms: 30, start: 0.05, share: 0.15 },
      { name: "decode", ms: 100, start: 0.2, share: 0.5 },
      { name: "other", ms: 60, start: 0.7, share: 0.3 },
    ]);
    assert.deepEqual([totalMs, source, tokensPerSecond], [200, "server", 100]);
    const found = makeTimeline({ sentAt: 0, endAt: 9 }, { ...timings, cache_n: 48, prompt_n: 2 }, 1).cached;
    assert.deepEqual(found, { tokens: 48, of: 50 });
    const none = makeTimeline({ sentAt: 0, endAt: 9 }, { ...timings, cache_n: 0, prompt_n: 2 }, 1).cached;
    assert.equal(none, undefined);
  });

  test("is what the browser saw where the server said nothing", () => {
    const stopped = makeTimeline({ sentAt: 0, firstAt: 40, endAt: 240 }, undefined, 5);
    assert.deepEqual(
      stopped.segments.map(({ name, ms }) => [name, ms]),
      [
        ["prefill", 40],
        ["decode", 200],
      ],
    );
    assert.deepEqual([stopped.source, stopped.tokensPerSecond], ["browser", 20]);
    const without = makeTimeline({ sentAt: 0, endAt: 50 }, undefined, 0);
    assert.deepEqual([without.segments[0]?.ms, without.segments[1]?.ms], [50, 0]);
    assert.equal(without.tokensPerSecond, undefined);
  });

  test("has no gaps and nothing below 0, also where clocks differ", () => {
    const ms = fc.double({ min: -10, max: 1e6, noNaN: true });
    const timings = fc.record({ queue_ms: ms, prompt_ms: ms, predicted_ms: ms });
    fc.assert(
      fc.property(ms, ms, ms, fc.option(timings, { nil: undefined }), (sentAt, firstAt, endAt, given) => {
        const { segments, totalMs } = makeTimeline({ sentAt, firstAt, endAt }, given, 3);
        let before = 0;
        for (const { ms: length, start, share } of segments) {
          assert.ok(length >= 0 && share >= 0 && Math.abs(start - before) < 1e-9);
          before += share;
        }
        assert.ok(totalMs === 0 || Math.abs(before - 1) < 1e-9);
      }),
    );
  });

  test("shows times with three digits", () => {
    const shown = [0.123, 12.34, 123.4, 1234, 12345].map(showMs);
    assert.deepEqual(shown, ["0.12\u00a0ms", "12.3\u00a0ms", "123\u00a0ms", "1.23\u00a0s", "12.3\u00a0s"]);
  });
});

describe("sampling", () => {
  const read = (typed: Record<string, string>) => readSampling((name) => typed[name] ?? "");

  test("leaves out what is empty, and reads numbers as people write them", () => {
    assert.deepEqual(read({}).body, {});
    const { body, faults } = read({ temperature: " 0,7 ", top_k: "-1", seed: "-3", stop_strings: "\na b\n\nc" });
    assert.deepEqual(body, { temperature: 0.7, top_k: -1, seed: -3, stop: ["a b", "c"] });
    assert.equal(faults.size, 0);
  });

  test("says what is wrong with a field", () => {
    const typed = { max_tokens: "1.5", temperature: "3", repetition_penalty: "0", top_k: "x", seed: "0.5" };
    assert.deepEqual(Object.fromEntries(read(typed).faults), {
      max_tokens: "Most tokens: a whole number of at least 1.",
      temperature: "Temperature: a number from 0 to 2.",
      repetition_penalty: "Repetition penalty: a number above 0.",
      top_k: "Top k: a whole number of at least -1.",
      seed: "Seed: a whole number.",
    });
  });
});

test("a refusal says what to do, and what the server said in whichever form", () => {
  const openAi = JSON.stringify({ error: { message: "Queue is full." } });
  const full = describeRefusal(503, openAi, false, "2");
  assert.equal(full, "The server cannot take the request now. Try again in 2 s. It says: Queue is full.");
  assert.match(describeRefusal(429, "", true, null), /Try again later\.$/);
  assert.match(describeRefusal(401, "", false, null), /asks for an API key/);
  assert.match(describeRefusal(401, "", true, null), /does not know this API key/);
  assert.match(describeRefusal(403, JSON.stringify({ message: "No scope." }), true, null), /It says: No scope\.$/);
  assert.match(describeRefusal(502, "<html>Bad gateway</html>", true, null), /^The server failed\.$/);
  assert.match(describeRefusal(418, "null", true, null), /Its status is 418\.$/);
});
