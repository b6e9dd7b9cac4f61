import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BenchFlags } from "../../dist/bench/options.js";
import { createReport } from "../../dist/bench/report.js";
import { type BenchHooks, benchServe } from "../../dist/bench/serve.js";
import {
  type Answer,
  completionChunk,
  event,
  type FakeServer,
  lengthOf,
  pause,
  sendJson,
  startFakeServer,
  streamWords,
} from "./fake_server.js";
import { optionsOf } from "./support.js";

async function measure(server: FakeServer, flags: Partial<BenchFlags>, hooks: Partial<BenchHooks> = {}) {
  const given = { baseUrl: server.url, readyCheckTimeoutS: 0, randomInputLen: 4, numPrompts: 6, ...flags };
  const options = optionsOf(given);
  const result = await benchServe(options, { signal: new AbortController().signal, ...hooks });
  return { result, options, report: createReport(result, options) };
}

/** A stream that begins as it should. */
const begin = (response: Parameters<Answer>[0]) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(event(completionChunk("a")));
};

describe("benchServe", () => {
  test("measures completions: requests as asked for, tokens as the server counts them", async () => {
    await using server = await startFakeServer({ tokenizer: true });
    const { result, report } = await measure(server, { randomOutputLen: 3, extraBody: '{"top_k":5,"temperature":1}' });
    assert.equal(result.model, "fake/model");
    assert.deepEqual([report.completed, report.failed, report.inputTokens, report.outputTokens], [6, 0, 24, 18]);
    assert.equal(result.tokenSources.usage, 6);
    assert.equal(server.bodies.length, 6);
    const [body] = server.bodies;
    assert.ok(Array.isArray(body?.prompt) && body.prompt.length === 4);
    const { prompt: _, ...others } = body;
    assert.deepEqual(others, {
      model: "fake/model",
      max_tokens: 3,
      temperature: 1,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
      top_k: 5,
    });
    for (const { ttftMs, e2elMs, itlsMs } of result.figures) {
      assert.ok(ttftMs > 0 && e2elMs >= ttftMs && itlsMs.length === 2);
    }
    assert.ok(report.latenessMs.percentiles.every(([, lateness]) => lateness >= 0));
  });

  test("measures chats, from the first text and not from the role", async () => {
    const chat = (delta: object, finish: string | null = null) => ({
      choices: [{ index: 0, delta, finish_reason: finish }],
    });
    await using server = await startFakeServer({
      async answer(response) {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(event(chat({ role: "assistant", content: "" })));
        await pause(60);
        response.write(event(chat({ content: "a" })));
        response.end(event(chat({ content: "b" }, "stop")) + event("[DONE]"));
      },
    });
    const { result, report } = await measure(server, { backend: "openai-chat", numPrompts: 2 });
    assert.equal(report.completed, 2);
    // Timers are whole milliseconds.
    assert.ok(result.figures.every(({ ttftMs }) => ttftMs >= 55));
    assert.deepEqual(result.tokenSources, { usage: 0, tokenizer: 0, chunks: 2 });
    assert.equal(report.outputTokens, 4);
    const [body] = server.bodies;
    assert.equal(body?.max_completion_tokens, 128);
    assert.equal(lengthOf(body ?? {}), 4);
    assert.ok(server.routes.includes("POST /v1/chat/completions"));
  });

  test("counts text by the server's tokenizer where there is no usage", async () => {
    const answer = streamWords(["a b c", " d"], { usage: false });
    await using server = await startFakeServer({ answer, tokenizer: true });
    const { result, report } = await measure(server, { numPrompts: 1 });
    assert.equal(result.tokenSources.tokenizer, 1);
    assert.deepEqual([report.inputTokens, report.outputTokens], [4, 4]);
  });

  test("tells how requests ended that were not answered", async () => {
    const answers: Record<string, Answer> = {
      "503": (response) => sendJson(response, 503, { error: { message: "queue is full" } }),
      "429": (response) => sendJson(response, 429, {}),
      "500": (response) => void response.writeHead(500).end("broken"),
      cut_stream: (response) => {
        begin(response);
        response.write("", () => response.destroy());
      },
      "cut_stream, politely": (response) => {
        begin(response);
        response.end();
      },
      invalid_json: (response) => {
        begin(response);
        response.end(event('{"choices": [') + event("[DONE]"));
      },
      error_event: (response) => {
        begin(response);
        response.end(event({ error: { message: "engine died" } }) + event("[DONE]"));
      },
      not_a_stream: (response) => sendJson(response, 200, { choices: [] }),
      ECONNRESET: (response) => void response.destroy(),
    };
    const list = Object.values(answers);
    await using server = await startFakeServer({
      answer: (response, body, index) => (list[index] ?? streamWords(["a"]))(response, body, index),
    });
    const { report, result } = await measure(server, { numPrompts: list.length + 2, maxConcurrency: 1 });
    assert.deepEqual([report.completed, report.rejected, report.failed], [2, 2, 7]);
    const counts = Object.fromEntries(report.errors.map(({ reason, count }) => [reason, count]));
    assert.deepEqual(counts, {
      ...{
        "503": 1,
        "429": 1,
        "500": 1,
        cut_stream: 2,
        invalid_json: 1,
        error_event: 1,
        not_a_stream: 1,
        ECONNRESET: 1,
      },
    });
    const messageOf = (wanted: string) => result.sent.find(({ reason }) => reason === wanted)?.message;
    assert.equal(messageOf("503"), "queue is full");
    assert.equal(messageOf("500"), "broken");
    assert.equal(messageOf("error_event"), "engine died");
  });

  test("ends a request that takes too long", async () => {
    await using server = await startFakeServer({ answer: begin });
    const { report } = await measure(server, { numPrompts: 2, requestTimeoutS: 0.05 });
    assert.deepEqual(
      report.errors.map(({ reason, count }) => [reason, count]),
      [["timeout", 2]],
    );
  });

  test("an answer without text is one", async () => {
    await using server = await startFakeServer({
      answer(response) {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const usage = { prompt_tokens: 4, completion_tokens: 1 };
        response.end(event(completionChunk("", "stop")) + event({ choices: [], usage }) + event("[DONE]"));
      },
    });
    const { report, result } = await measure(server, { numPrompts: 1 });
    assert.deepEqual([report.completed, report.outputTokens], [1, 1]);
    assert.equal(result.figures[0]?.ttftMs, result.figures[0]?.e2elMs);
  });

  test("has no more requests at a time than allowed, and is not late for waiting on its own limit", async () => {
    await using server = await startFakeServer({
      async answer(response, body, index) {
        await pause(100);
        await streamWords(["a"])(response, body, index);
      },
    });
    const { report } = await measure(server, { numPrompts: 6, maxConcurrency: 2 });
    assert.deepEqual([report.completed, server.mostAtOnce, report.peakConcurrency], [6, 2, 2]);
    assert.ok(report.reusedConnections >= 4);
    assert.ok(report.latenessMs.median < 100);
  });

  test("sends requests at their times", async () => {
    await using server = await startFakeServer();
    const { result, report } = await measure(server, { numPrompts: 10, requestRate: 50 });
    assert.deepEqual(
      result.sent.filter(({ latenessMs }) => latenessMs < -1),
      [],
    );
    // The last of ten at 50 a second is due after 0.2 s.
    assert.ok(Math.max(...result.sent.map(({ sentMs }) => sentMs)) - result.startMs >= 199);
    assert.ok(report.durationSeconds >= 0.199);
  });

  test("an abort ends what is in flight and keeps what was measured", async () => {
    const controller = new AbortController();
    await using server = await startFakeServer({
      answer: (response, body, index) => (index < 2 ? streamWords(["a"])(response, body, index) : begin(response)),
    });
    const onEnd = (done: number) => {
      if (done === 2) setTimeout(() => controller.abort(), 50);
    };
    const { report } = await measure(
      server,
      { numPrompts: 9, maxConcurrency: 3 },
      { signal: controller.signal, onEnd },
    );
    assert.deepEqual([report.completed, report.aborted, report.notSent, report.failed], [2, 3, 4, 0]);
  });

  test("finds different texts of the same prompt", async () => {
    for (const [changes, different] of [
      [false, 0],
      [true, 4],
    ] as const) {
      await using server = await startFakeServer({
        answer: (response, body, index) => streamWords([`${changes ? index : ""}a`])(response, body, index),
      });
      const { result } = await measure(server, { numPrompts: 8, textMismatch: true });
      assert.deepEqual(result.textPairs, { compared: 4, different });
      assert.equal(new Set(server.bodies.map(({ prompt }) => String(prompt))).size, 4);
    }
  });

  test("reads the server's metrics before and after, behind warm-ups", async () => {
    await using server = await startFakeServer({
      metrics: (reading) =>
        `vllm:prompt_tokens_total ${reading * 30 + 5}\nvllm:generation_tokens_total ${server.bodies.length}\n`,
    });
    const { result, report } = await measure(server, { numWarmups: 2, numPrompts: 4 });
    assert.deepEqual(result.server, { promptTokens: 30, newTokens: 4, finished: {}, meansMs: {} });
    assert.equal(report.completed, 4);
    assert.equal(server.bodies.length, 6);
  });

  test("waits for a server that is not ready, and says why one refuses", async () => {
    await using slow = await startFakeServer({
      answer: (response, body, index) =>
        index === 0
          ? sendJson(response, 503, { error: { message: "loading" } })
          : streamWords(["a"])(response, body, index),
    });
    const { report } = await measure(slow, { readyCheckTimeoutS: 30, numPrompts: 1 });
    assert.equal(report.completed, 1);
    await using refusing = await startFakeServer({
      answer: (response) => sendJson(response, 400, { error: { message: "no" } }),
    });
    await assert.rejects(measure(refusing, { readyCheckTimeoutS: 30 }), { code: "ERR_BENCH", message: /400: no$/ });
    assert.equal(refusing.bodies.length, 1);
    await using empty = await startFakeServer({ models: [] });
    await assert.rejects(measure(empty, {}), { code: "ERR_BENCH", message: /--model/ });
    await assert.rejects(measure({ url: "http://127.0.0.1:9" } as FakeServer, {}), { code: "ERR_BENCH" });
  });

  test("takes addresses as clients of OpenAI have them, and refuses others", async () => {
    await using server = await startFakeServer();
    const { report } = await measure(server, { baseUrl: `${server.url}/v1/`, numPrompts: 1 });
    assert.equal(report.completed, 1);
    await assert.rejects(measure(server, { baseUrl: "localhost:8000" }), {
      code: "ERR_INVALID_ARGUMENT",
      message: /--base-url/,
    });
  });
});
