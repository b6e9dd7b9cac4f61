import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BadChunk, describeError, readChunk } from "../../dist/bench/chunk.js";
import { EventReader } from "../../dist/bench/event_stream.js";

describe("EventReader", () => {
  const stream = Buffer.from(
    ': ping\n\ndata: {"a":"€"}\r\n\r\nevent: x\nid: 1\ndata:one\ndata: two\n\n\n\ndata: [DONE]\n\n',
  );
  const events = ['{"a":"€"}', "one\ntwo", "[DONE]"];

  test("finds events however the stream is cut", () => {
    for (let at = 0; at <= stream.length; at++) {
      const reader = new EventReader();
      const found = [...reader.push(stream.subarray(0, at)), ...reader.push(stream.subarray(at))];
      assert.deepEqual(found, events, `cut at ${at}`);
    }
    const reader = new EventReader();
    const single = [...stream].flatMap((byte) => reader.push(Buffer.from([byte])));
    assert.deepEqual(single, events);
  });

  test("does not collect an event that never ends", () => {
    const reader = new EventReader();
    const piece = Buffer.alloc(2 ** 20, "a");
    assert.throws(() => {
      for (let i = 0; i < 32; i++) reader.push(piece);
    }, RangeError);
  });
});

describe("readChunk", () => {
  const read = (value: unknown) => readChunk(JSON.stringify(value));
  const chat = (delta: object, more: object = {}) => ({ choices: [{ index: 0, delta, finish_reason: null, ...more }] });

  test("takes text, and no role, for a token", () => {
    assert.deepEqual(read({ choices: [{ text: "a", finish_reason: null }], usage: null }), {
      text: "a",
      hasTokens: true,
      isFinal: false,
    });
    assert.equal(read(chat({ role: "assistant", content: "" })).hasTokens, false);
    assert.equal(read(chat({ content: "a" })).text, "a");
    assert.equal(read(chat({ reasoning_content: "why" })).text, "why");
    assert.equal(read(chat({}, { finish_reason: "stop" })).isFinal, true);
  });

  test("takes ids, log-probabilities and calls of tools for tokens too", () => {
    assert.ok(read(chat({}, { token_ids: [5] })).hasTokens);
    assert.ok(read(chat({}, { logprobs: { content: [{ token: "a" }] } })).hasTokens);
    assert.ok(read({ choices: [{ text: "", logprobs: { tokens: ["a"] } }] }).hasTokens);
    assert.ok(read(chat({ tool_calls: [{ index: 0 }] })).hasTokens);
    assert.ok(!read(chat({}, { token_ids: [], logprobs: null })).hasTokens);
  });

  test("reads usage, and null as none", () => {
    const usage = { prompt_tokens: 3, completion_tokens: 2 };
    assert.deepEqual(read({ choices: [], usage }).usage, { promptTokens: 3, newTokens: 2 });
    assert.equal(read({ choices: [], usage: null }).usage, undefined);
    assert.equal(read({ choices: [], usage: { prompt_tokens: "3" } }).usage, undefined);
  });

  test("throws errors of the stream, and what is no chunk", () => {
    const kindOf = (data: string) => {
      try {
        readChunk(data);
      } catch (error) {
        return error instanceof BadChunk ? `${error.kind}: ${error.message}` : error;
      }
      return undefined;
    };
    assert.equal(kindOf('{"error":{"message":"engine died"}}'), "error_event: engine died");
    assert.match(String(kindOf('{"choices":')), /^invalid_json/);
    assert.match(String(kindOf("[1]")), /^invalid_json/);
    assert.match(String(kindOf(`{"${"a".repeat(5000)}`)), /^.{200,300}$/);
  });

  test("reads the messages of errors in the forms that servers have", () => {
    assert.equal(describeError({ error: { message: "m" } }), "m");
    assert.equal(describeError({ error: "text" }), "text");
    assert.equal(describeError({ detail: "d" }), "d");
    assert.equal(describeError("no object"), undefined);
  });
});
