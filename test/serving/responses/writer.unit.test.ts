import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ToolDelta } from "../../../dist/serving/routes/openai/tools/tool_stream.js";
import { type ResponseEvent, ResponseWriter } from "../../../dist/serving/routes/responses/writer.js";

const usage = { promptTokens: 3, newTokens: 5, cachedTokens: 2 };
const call = (index: number, name = "f"): ToolDelta => ({ kind: "call", index, id: `call_${index}`, name });
const more = (index: number, text: string): ToolDelta => ({ kind: "arguments", index, text });
const say = (text: string): ToolDelta => ({ kind: "text", text });

function write(deltas: readonly ToolDelta[], reason: "stop" | "length" = "stop") {
  const writer = new ResponseWriter({ id: "resp_1", object: "response" });
  // As they are sent: later changes must not reach events that are.
  const events: ResponseEvent[] = [];
  const send = (some: readonly ResponseEvent[]) => events.push(...structuredClone(some));
  send(writer.begin());
  for (const delta of deltas) send(writer.push([delta]));
  const end = writer.end(reason, usage);
  send(end.events);
  return { events, response: end.response as { output: Item[]; [field: string]: unknown } };
}

interface Item {
  id: string;
  type: string;
  status: string;
  arguments?: string;
  content?: { text: string }[];
}

/** What a client makes of the deltas: items by their place. */
function fold(events: readonly ResponseEvent[]): Item[] {
  const items: Item[] = [];
  for (const event of events) {
    const place = event.output_index as number;
    const item = items[place];
    if (event.type === "response.output_item.added") items[place] = structuredClone(event.item as Item);
    else if (event.type === "response.content_part.added")
      item?.content?.push(structuredClone(event.part as { text: string }));
    else if (event.type === "response.output_text.delta")
      (item?.content?.[0] as { text: string }).text += event.delta as string;
    else if (event.type === "response.function_call_arguments.delta") (item as Item).arguments += event.delta as string;
    else if (event.type === "response.output_item.done") (item as Item).status = (event.item as Item).status;
    if (place !== undefined && event.item_id !== undefined) assert.equal(event.item_id, items[place]?.id);
  }
  return items;
}

const types = (events: readonly ResponseEvent[]) => events.map(({ type }) => type.replace("response.", ""));

describe("events of a response", () => {
  test("of text", () => {
    const { events, response } = write([say("Hel"), say("lo")]);
    assert.deepEqual(types(events), [
      ...[
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
      ],
      ...["output_text.done", "content_part.done", "output_item.done", "completed"],
    ]);
    assert.deepEqual(
      events.map((event) => event.sequence_number),
      [...events.keys()],
    );
    assert.deepEqual(events[0]?.response, {
      ...{ id: "resp_1", object: "response", status: "in_progress", completed_at: null, error: null },
      ...{ incomplete_details: null, output: [], usage: null },
    });
    assert.deepEqual(events.at(-1)?.response, response);
    const [item] = response.output;
    assert.deepEqual(item, {
      ...{ type: "message", id: item?.id, role: "assistant", status: "completed" },
      content: [{ type: "output_text", text: "Hello", annotations: [], logprobs: [] }],
    });
    assert.equal(response.status, "completed");
    assert.equal(typeof response.completed_at, "number");
    assert.deepEqual(response.usage, {
      ...{ input_tokens: 3, output_tokens: 5, total_tokens: 8 },
      input_tokens_details: { cached_tokens: 2, cache_write_tokens: 0 },
      output_tokens_details: { reasoning_tokens: 0 },
    });
  });

  test("of calls between texts", () => {
    const { events, response } = write([
      say("See"),
      call(0),
      more(0, '{"a"'),
      more(0, ":1}"),
      call(1, "g"),
      more(1, "{}"),
      say("!"),
    ]);
    assert.deepEqual(fold(events), response.output);
    assert.deepEqual(
      response.output.map((item) => item.arguments ?? item.content?.[0]?.text),
      ["See", '{"a":1}', "{}", "!"],
    );
    assert.deepEqual(types(events).slice(7, 12), [
      ...["output_item.done", "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"],
      "function_call_arguments.done",
    ]);
    const [, item] = response.output;
    assert.deepEqual(item, {
      ...{
        type: "function_call",
        id: item?.id,
        call_id: "call_0",
        name: "f",
        arguments: '{"a":1}',
        status: "completed",
      },
    });
    assert.equal(new Set(response.output.map(({ id }) => id)).size, 4);
  });

  test("of nothing: an empty text", () => {
    const { events, response } = write([]);
    assert.deepEqual(fold(events), response.output);
    assert.deepEqual(
      response.output.map(({ content }) => content?.[0]?.text),
      [""],
    );
  });

  test("that the limit of tokens cut off", () => {
    const { events, response } = write([say("x"), call(0), more(0, '{"a')], "length");
    assert.equal(events.at(-1)?.type, "response.incomplete");
    assert.deepEqual(
      response.output.map(({ status }) => status),
      ["completed", "incomplete"],
    );
    assert.deepEqual(response.incomplete_details, { reason: "max_output_tokens" });
    assert.equal(response.status, "incomplete");
    assert.equal(response.completed_at, null);
  });

  test("with a call that is none: the stream closes it, the response leaves it out", () => {
    const { events, response } = write([call(0), more(0, "{?"), { kind: "text", text: "<f{?", abandons: 0 }, say("}")]);
    assert.deepEqual(
      fold(events).map(({ status }) => status),
      ["incomplete", "completed"],
    );
    assert.deepEqual(
      response.output.map(({ content }) => content?.[0]?.text),
      ["<f{?}"],
    );
    assert.deepEqual(fold(events).slice(1), response.output);
  });

  test("that fails in the middle", () => {
    const writer = new ResponseWriter({ id: "resp_1" });
    writer.begin();
    writer.push([say("x")]);
    const [error, failed] = writer.fail({ code: "engine_error", message: "No.", param: null });
    assert.deepEqual(error, { type: "error", sequence_number: 5, code: "engine_error", message: "No.", param: null });
    const { response, ...rest } = failed as unknown as { response: { output: Item[] } };
    assert.deepEqual(rest, { type: "response.failed", sequence_number: 6 });
    const { status, error: said, output } = response as unknown as Record<string, unknown>;
    assert.deepEqual([status, said], ["failed", { code: "server_error", message: "No." }]);
    assert.equal((output as Item[])[0]?.status, "incomplete");
  });

  test("with log-probabilities where the text of their tokens leaves", () => {
    const writer = new ResponseWriter({});
    const logprob = (token: string) => ({ token, logprob: -1, bytes: null, top_logprobs: [] });
    writer.begin();
    assert.deepEqual(writer.push([], [logprob("a")]), []);
    const [, , delta] = writer.push([say("ab")], [logprob("b")]);
    assert.deepEqual(delta?.logprobs, [logprob("a"), logprob("b")]);
    writer.push([], [logprob("</s>")]);
    const { response } = writer.end("stop", usage);
    const [item] = (response as { output: { content: { logprobs: object[] }[] }[] }).output;
    assert.deepEqual(item?.content[0]?.logprobs, ["a", "b", "</s>"].map(logprob));
  });
});
