import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import Fastify from "fastify";
import { readLogger } from "../../dist/base/logger.js";
import { KeyRing, parseKeys } from "../../dist/serving/http/api_keys.js";
import { authHook } from "../../dist/serving/http/auth.js";
import type { OnRefuse } from "../../dist/serving/http/refusal.js";
import { requestEndHook } from "../../dist/serving/http/request_end.js";
import { readRequestId } from "../../dist/serving/http/request_id.js";
import { accessLog, createLog, type LogOptions, noteAccess } from "../../dist/serving/log.js";
import { toPrettyLine } from "../../dist/serving/pretty_log.js";

function makeLog(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const log = createLog({ level: "info", ...options, stream: { write: (line) => void lines.push(line) } });
  return { log, lines };
}

function serve(skipped: string[] = []) {
  const { log, lines } = makeLog();
  const app = Fastify({ genReqId: readRequestId });
  const keys = new KeyRing(parseKeys("alice:sk-secret", "keys"));
  const onRefuse: OnRefuse = (reply, status) => reply.code(status).send();
  app.addHook("onRequest", requestEndHook({ onEnd: accessLog(log, skipped) }));
  app.addHook("onRequest", authHook({ keys, scope: "inference", onRefuse }));
  app.post("/v1/models/:name", (request, reply) => {
    noteAccess(request, { model: "opt", promptTokens: 3 });
    noteAccess(request, { newTokens: 5 });
    return reply.code(201).send({ text: "the answer" });
  });
  app.get("/ping", () => "ok");
  app.post("/hijacked", (_request, reply) => {
    reply.hijack();
    reply.raw.writeHead(207).end("x");
  });
  app.post("/never", () => new Promise(() => {}));
  return { app, entries: () => lines.map((line) => JSON.parse(line)) };
}

describe("a request's line", () => {
  const headers = { authorization: "Bearer sk-secret", "x-request-id": "id-7" };
  const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

  test("has the route's pattern, the status, times, tokens and ids, and neither prompt, answer nor key", async () => {
    const { app, entries } = serve();
    const payload = { prompt: "my private prompt" };
    const url = "/v1/models/opt?secret=query";
    await app.inject({ method: "POST", url, payload, headers: { ...headers, traceparent: trace } });
    const [{ time, ms, ...entry }] = entries();
    assert.deepEqual(entry, {
      level: "info",
      method: "POST",
      route: "/v1/models/:name",
      status: 201,
      requestId: "id-7",
      key: "alice",
      traceparent: trace,
      model: "opt",
      promptTokens: 3,
      newTokens: 5,
      msg: "request",
    });
    assert.ok(ms >= 0 && !Number.isNaN(Date.parse(time)));
  });

  test("is there for refused, unmatched and hijacked requests", async () => {
    const { app, entries } = serve();
    await app.inject({ method: "POST", url: "/v1/models/opt", payload: {} });
    await app.inject({ url: "/nowhere/private", headers });
    await app.inject({ method: "POST", url: "/hijacked", headers });
    const shown = entries().map(({ route, status, key }) => [route, status, key]);
    assert.deepEqual(shown, [
      ["/v1/models/:name", 401, undefined],
      ["unmatched", 404, "alice"],
      ["/hijacked", 207, "alice"],
    ]);
  });

  test("says that a client went away", async () => {
    const { app, entries } = serve();
    await app.listen({ port: 0, host: "127.0.0.1" });
    const { port } = app.server.address() as AddressInfo;
    const sent = httpRequest({ port, host: "127.0.0.1", path: "/never", method: "POST", headers });
    sent.on("error", () => {});
    const ended = new Promise<void>((resolve) => {
      app.server.once("request", (_request, response) => {
        response.once("close", () => setImmediate(resolve));
        setImmediate(() => sent.destroy());
      });
    });
    sent.end();
    await ended;
    await app.close();
    const shown = entries().map(({ route, status, aborted }) => [route, status, aborted]);
    assert.deepEqual(shown, [["/never", 499, true]]);
  });

  test("is left out for routes that are named, alone or as a group", async () => {
    const { app, entries } = serve(["health", "/hijacked"]);
    await app.inject({ url: "/ping", headers });
    await app.inject({ method: "POST", url: "/hijacked", headers });
    await app.inject({ url: "/nowhere", headers });
    assert.deepEqual(
      entries().map(({ route }) => route),
      ["unmatched"],
    );
  });
});

test("the level leaves out what is less important, and the log is a Logger", () => {
  const { log, lines } = makeLog({ level: "warn" });
  const logger = readLogger(log);
  for (const level of ["debug", "info", "warn", "error"] as const) logger[level](`a ${level}`);
  assert.deepEqual(
    lines.map((line) => [JSON.parse(line).level, JSON.parse(line).msg]),
    [
      ["warn", "a warn"],
      ["error", "a error"],
    ],
  );
  const silent = makeLog({ level: "silent" });
  silent.log.error("nothing");
  assert.deepEqual(silent.lines, []);
});

describe("lines for people", () => {
  test("have the time, the level, the message and its fields", () => {
    const { log, lines } = makeLog({ format: "pretty" });
    log.warn({ file: "a b", count: 2, name: "x" }, "something");
    assert.match(lines[0] ?? "", /^\d\d:\d\d:\d\d\.\d{3} WARN {2}something file="a b" count=2 name=x\n$/);
  });

  test("of requests begin with method, route, status and time", () => {
    const entry = {
      level: "info",
      time: "2026-01-02T03:04:05.678Z",
      method: "GET",
      route: "/ping",
      status: 200,
      ms: 1.5,
      requestId: "i",
      msg: "request",
    };
    assert.equal(toPrettyLine(`${JSON.stringify(entry)}\n`), "03:04:05.678 INFO  GET /ping 200 1.5 ms requestId=i\n");
  });

  test("of errors have the stack, and no control character moves a terminal's cursor", () => {
    const { log, lines } = makeLog({ format: "pretty" });
    log.error(new Error("went \u001b[2Jwrong"));
    assert.match(lines[0] ?? "", /ERROR went \\x1b\[2Jwrong/);
    assert.match(lines[0] ?? "", /\n {4}at /);
    assert.equal(toPrettyLine("no JSON\u0007\n"), "       no JSON\\x07\n");
  });
});
