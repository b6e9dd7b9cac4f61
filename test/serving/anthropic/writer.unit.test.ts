import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type MessageEnd, type MessageEvent, MessageWriter } from "../../../dist/serving/routes/anthropic/writer.js";
import type { ToolDelta } from "../../../dist/serving/routes/openai/tools/tool_stream.js";

const call = (index: number, name = "f"): ToolDelta => ({ kind: "call", index, id: `toolu_${index}`, name });
const more = (index: number, text: string): ToolDelta => ({ kind: "arguments", index, text });
const say = (text: string): ToolDelta => ({ kind: "text", text });

interface Block {
  type: string;
  text?: string;
  input?: object;
}

function write(deltas: readonly ToolDelta[], end: Partial<MessageEnd> = {}) {
  const writer = new MessageWriter("opt");
  // As they are sent: later changes must not reach events that are.
  const events: MessageEvent[] = [];
  const send = (some: readonly MessageEvent[]) => events.push(...structuredClone(some));
  send(writer.begin({ promptTokens: 3, newTokens: 0, cachedTokens: 1 }));
  for (const delta of deltas) send(writer.push([delta]));
  const last = writer.end({
    reason: "stop",
    stopSequence: null,
    usage: { promptTokens: 3, newTokens: 5, cachedTokens: 1 },
    ...end,
  });
  send(last.events);
  return { events, message: last.message as { content: Block[]; [field: string]: unknown } };
}

/** What Anthropic's client makes of the events. */
function fold(events: readonly MessageEvent[]): Block[] {
  const blocks: Block[] = [];
  const json: string[] = [];
  for (const event of events) {
    const index = event.index as number;
    const delta = event.delta as { text?: string; partial_json?: string };
    if (event.type === "content_block_start") blocks[index] = structuredClone(event.content_block as Block);
    else if (event.type === "content_block_delta" && delta.text !== undefined)
      (blocks[index] as Block).text += delta.text;
    else if (event.type === "content_block_delta") json[index] = (json[index] ?? "") + delta.partial_json;
    else if (event.type === "content_block_stop" && json[index] !== undefined)
      (blocks[index] as Block).input = JSON.parse(json[index]);
  }
  return blocks;
}

describe("events of a message", () => {
  test("of text", () => {
    const { events, message } = write([say("Hel"), say("lo")]);
    const usage = { input_tokens: 2, cache_creation_input_tokens: 0, cache_read_input_tokens: 1 };
    const head = { id: message.id, type: "message", role: "assistant", model: "opt" };
    const ended = { stop_reason: "end_turn", stop_sequence: null };
    assert.deepEqual(events, [
      {
        type: "message_start",
        message: {
          ...head,
          content: [],
          stop_reason: null,
          stop_sequence: null,
          usage: { ...usage, output_tokens: 0 },
        },
      },
      { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hel" } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "lo" } },
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: ended, usage: { ...usage, output_tokens: 5 } },
      { type: "message_stop" },
    ]);
    const content = [{ type: "text", text: "Hello" }];
    assert.deepEqual(message, { ...head, content, ...ended, usage: { ...usage, output_tokens: 5 } });
    assert.match(message.id as string, /^msg_/);
  });

  test("of calls and text", () => {
    const { events, message } = write([
      say("See"),
      call(0),
      more(0, '{"a"'),
      more(0, ":1}"),
      call(1, "g"),
      more(1, "{}"),
      say("!"),
    ]);
    assert.deepEqual(message.content, [
      { type: "text", text: "See" },
      { type: "tool_use", id: "toolu_0", name: "f", input: { a: 1 } },
      { type: "tool_use", id: "toolu_1", name: "g", input: {} },
      { type: "text", text: "!" },
    ]);
    assert.deepEqual(fold(events), message.content);
    assert.equal(message.stop_reason, "tool_use");
  });

  test("says what ended it", () => {
    assert.equal(write([say("x")], { reason: "length" }).message.stop_reason, "max_tokens");
    const { message } = write([say("x")], { stopSequence: "END" });
    assert.deepEqual([message.stop_reason, message.stop_sequence], ["stop_sequence", "END"]);
    assert.deepEqual(write([]).message.content, []);
  });

  test("leaves out a call that is cut off, or none", () => {
    const cut = write([say("x"), call(0), more(0, '{"a')], { reason: "length" });
    assert.deepEqual(cut.message.content, [{ type: "text", text: "x" }]);
    const { events, message } = write([call(0), more(0, "{?"), { kind: "text", text: "<f{?", abandons: 0 }, say("}")]);
    assert.deepEqual(message.content, [{ type: "text", text: "<f{?}" }]);
    assert.equal(message.stop_reason, "end_turn");
    const marks = events.filter(({ type }) => type !== "content_block_delta").map(({ type, index }) => [type, index]);
    assert.deepEqual(marks.slice(1, 5), [
      ["content_block_start", 0],
      ["content_block_stop", 0],
      ["content_block_start", 1],
      ["content_block_stop", 1],
    ]);
  });
});
