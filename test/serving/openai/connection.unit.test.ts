import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { FakeModel, type Script, startOf, withServer } from "./fake_model.js";

/** Runs until it is told to go on, or its signal aborts. */
function waiting(texts: readonly string[] = []): { script: Script; release: () => void } {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const script: Script = async function* (call, signal) {
    yield [startOf(call)];
    for (const text of texts) yield [{ chunk: { text, ids: [1] } }];
    await Promise.race([released, once(signal, "abort")]);
    yield [{ chunk: { text: "end", ids: [2], finishReason: "stop" as const } }];
  };
  return { script, release };
}

/** Starts a POST; the response is left to the caller. */
function send(url: string, body: object): http.ClientRequest {
  const request = http.request(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
  });
  request.on("error", () => {});
  request.end(JSON.stringify(body));
  return request;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "it never came");
    await sleep(2);
  }
}

/** Not events.once(), which rejects for a response that is cut. */
function closed(response: http.IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    response.once("close", resolve);
  });
}

async function read(request: http.ClientRequest): Promise<{ status: number; text: string; isWhole: boolean }> {
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  let text = "";
  response.setEncoding("utf8");
  response.on("data", (piece: string) => {
    text += piece;
  });
  response.on("error", () => {});
  await closed(response);
  return { status: response.statusCode ?? 0, text, isWhole: response.complete };
}

describe("a client that goes away", () => {
  for (const isStream of [true, false]) {
    const kind = isStream ? "a streaming POST" : "a POST that waits for its answer";

    test(`ends ${kind} and gives its places back`, async () => {
      const { script } = waiting(isStream ? ["a"] : []);
      const model = new FakeModel({ script });
      await withServer([model], {}, async (url) => {
        const request = send(url, { prompt: ["a", "b"], stream: isStream });
        await until(() => model.generated.length === 2);
        if (isStream) await once(request, "response");
        assert.equal(model.aborted, 0);
        request.destroy();
        await until(() => model.aborted === 2);
        await until(() => model.taken === 0);
      });
    });

    test(`does not end ${kind} by staying`, async () => {
      const { script, release } = waiting();
      const model = new FakeModel({ script });
      await withServer([model], {}, async (url) => {
        const request = send(url, { prompt: "a", stream: isStream });
        const answered = read(request);
        await until(() => model.generated.length === 1);
        // Node has read the body by now, which is what aborts Fastify's own signal.
        await sleep(50);
        assert.equal(model.aborted, 0);
        release();
        const { status, text } = await answered;
        assert.equal(status, 200);
        assert.match(text, /end/);
        assert.equal(model.aborted, 0);
      });
    });
  }

  test("while it is queued leaves the queue", async () => {
    // A worker that has not begun: no part has come.
    const script: Script = async function* (_, signal) {
      await once(signal, "abort");
      yield [];
    };
    const model = new FakeModel({ script });
    await withServer([model], {}, async (url) => {
      const request = send(url, { prompt: "a" });
      await until(() => model.generated.length === 1);
      request.destroy();
      await until(() => model.taken === 0);
    });
  });
});

describe("a stream", () => {
  test("sends no byte before the first token, so that failures keep their status", async () => {
    const script: Script = async function* (call) {
      yield [startOf(call)];
      await sleep(30);
      throw new ShardspeedError("ERR_INVALID_ARGUMENT", "Wrong.");
    };
    await withServer([new FakeModel({ script })], { settings: { ssePingIntervalMs: 0 } }, async (url) => {
      const { status, text } = await read(send(url, { prompt: "a", stream: true }));
      assert.equal(status, 400);
      assert.equal(JSON.parse(text).error.code, "invalid_value");
    });
  });

  test("is kept alive by comments while nothing comes, and tells failures in an event from then on", async () => {
    const script: Script = async function* (call) {
      yield [startOf(call)];
      await sleep(100);
      throw new ShardspeedError("ERR_NUMERIC", "NaN.");
    };
    const model = new FakeModel({ script });
    await withServer([model], { settings: { ssePingIntervalMs: 10 } }, async (url) => {
      const { status, text, isWhole } = await read(send(url, { prompt: "a", stream: true }));
      assert.equal(status, 200);
      assert.match(text, /^(:\n\n)+data: \{"error":/);
      assert.ok(text.endsWith("data: [DONE]\n\n"));
      assert.ok(isWhole);
    });
  });

  test("has no comments while tokens come, nor where they are switched off", async () => {
    const steady: Script = async function* (call) {
      yield [startOf(call)];
      for (let i = 0; i < 30; i++) {
        await sleep(5);
        yield [{ chunk: { text: "x", ids: [1] } }];
      }
      yield [{ chunk: { text: "", ids: [2], finishReason: "stop" as const } }];
    };
    for (const [script, ssePingIntervalMs] of [
      [steady, 2000],
      [waitOnce(60), 0],
    ] as const) {
      await withServer([new FakeModel({ script })], { settings: { ssePingIntervalMs } }, async (url) => {
        const { text } = await read(send(url, { prompt: "a", stream: true }));
        assert.doesNotMatch(text, /^:/m);
      });
    }
  });

  test("is written once for all tokens of a step", async () => {
    const script: Script = async function* (call) {
      yield [startOf(call)];
      yield Array.from({ length: 20 }, (_, i) => ({ chunk: { text: `${i} `, ids: [i] } }));
      await sleep(50);
      yield [{ chunk: { text: "", ids: [2], finishReason: "stop" as const } }];
    };
    await withServer([new FakeModel({ script })], {}, async (url) => {
      const [response] = (await once(send(url, { prompt: "a", stream: true }), "response")) as [http.IncomingMessage];
      const [first] = (await once(response, "data")) as [Buffer];
      assert.equal(String(first).split("\n\n").length - 1, 20);
      response.destroy();
    });
  });

  test("drops a client that does not read", async () => {
    let sent = 0;
    const script: Script = async function* (call, signal) {
      yield [startOf(call)];
      while (!signal.aborted && sent < 2000) {
        sent++;
        yield [{ chunk: { text: "x".repeat(64 * 1024), ids: [1] } }];
        await sleep(1);
      }
      yield [];
    };
    const model = new FakeModel({ script });
    await withServer([model], { settings: { maxWaitingBytes: 512 * 1024 } }, async (url) => {
      const [response] = (await once(send(url, { prompt: "a", stream: true }), "response")) as [http.IncomingMessage];
      response.pause();
      response.on("error", () => {});
      await until(() => model.aborted === 1);
      assert.ok(sent < 2000, `${sent} chunks`);
      response.resume();
      await closed(response);
      assert.equal(response.complete, false, "the client sees that it is cut");
    });
  });
});

/** A pause, then the end. */
function waitOnce(milliseconds: number): Script {
  return async function* (call) {
    yield [startOf(call)];
    await sleep(milliseconds);
    yield [{ chunk: { text: "x", ids: [1], finishReason: "stop" as const } }];
  };
}
