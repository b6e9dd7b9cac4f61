import assert from "node:assert/strict";
import { describe, test } from "node:test";
import Fastify, { type FastifyInstance } from "fastify";
import { KeyRing, parseKeys } from "../../../dist/serving/http/api_keys.js";
import { authHook, keyNameOf } from "../../../dist/serving/http/auth.js";
import { corsHook } from "../../../dist/serving/http/cors.js";
import { hostCheckHook } from "../../../dist/serving/http/host_check.js";
import type { OnRefuse } from "../../../dist/serving/http/refusal.js";
import { readRequestId, readTraceParent } from "../../../dist/serving/http/request_id.js";

const onRefuse: OnRefuse = (reply, status, code, message) => reply.code(status).send({ own: { code, message } });

/** A server whose routes count how often they were reached. */
function serve(prepare: (app: FastifyInstance) => void) {
  const app = Fastify();
  const reached: string[] = [];
  prepare(app);
  for (const url of ["/work", "/ping"]) {
    app.all(url, (request) => {
      reached.push(`${request.method} ${url}`);
      return { key: keyNameOf(request) ?? null };
    });
  }
  return { app, reached };
}

describe("keys", () => {
  const keys = new KeyRing(parseKeys("all:k-all\nread:k-read inference", "keys"));
  const make = () =>
    serve((app) =>
      app.addHook(
        "onRequest",
        authHook({
          keys,
          scope: ({ method }) => (method === "DELETE" ? "management" : "inference"),
          isOpen: (request) => request.routeOptions.url === "/ping",
          onRefuse,
        }),
      ),
    );

  test("are taken from each header that may carry one, whatever the case of Bearer", async () => {
    const { app, reached } = make();
    for (const headers of [
      { authorization: "Bearer k-read" },
      { authorization: "bEARER  k-read " },
      { "api-key": "k-read" },
      { "x-api-key": "k-read" },
      { authorization: "Basic eDp5", "x-api-key": "k-read" },
      { authorization: "Bearer wrong", "api-key": "k-read" },
    ]) {
      const response = await app.inject({ method: "POST", url: "/work", headers });
      assert.deepEqual([response.statusCode, response.json()], [200, { key: "read" }], JSON.stringify(headers));
    }
    assert.equal(reached.length, 6);
  });

  test("that are missing or wrong are 401 with WWW-Authenticate and the family's body, and nothing is reached", async () => {
    const { app, reached } = make();
    for (const [headers, challenge] of [
      [{}, "Bearer"],
      [{ authorization: "Basic k-all" }, "Bearer"],
      [{ authorization: "Bearer" }, "Bearer"],
      [{ authorization: "Bearer k-al" }, 'Bearer error="invalid_token"'],
      [{ authorization: "Bearer k-all k-all" }, "Bearer"],
      [{ "api-key": "all:k-all" }, 'Bearer error="invalid_token"'],
    ] as const) {
      const response = await app.inject({ method: "POST", url: "/work", headers });
      assert.equal(response.statusCode, 401, JSON.stringify(headers));
      assert.equal(response.headers["www-authenticate"], challenge);
      assert.equal(response.json().own.code, "invalid_api_key");
      assert.doesNotMatch(response.body, /k-al/);
    }
    assert.deepEqual(reached, []);
  });

  test("without the scope are 403, and health needs none", async () => {
    const { app, reached } = make();
    const headers = { authorization: "Bearer k-read" };
    const refused = await app.inject({ method: "DELETE", url: "/work", headers });
    assert.equal(refused.statusCode, 403);
    assert.equal(refused.json().own.code, "insufficient_permissions");
    assert.equal(refused.headers["www-authenticate"], 'Bearer error="insufficient_scope"');
    const done = await app.inject({ method: "DELETE", url: "/work", headers: { authorization: "Bearer k-all" } });
    assert.equal(done.statusCode, 200);
    assert.equal((await app.inject({ url: "/ping" })).statusCode, 200);
    assert.equal((await app.inject({ url: "/nowhere" })).statusCode, 401);
    assert.deepEqual(reached, ["DELETE /work", "GET /ping"]);
  });
});

describe("pages of other origins", () => {
  const make = (origins: string[], lists = {}) =>
    serve((app) => app.addHook("onRequest", corsHook({ origins, ...lists, onRefuse })));
  const origin = "https://chat.example.org";
  const preflight = {
    origin,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, x-stainless-os",
  };

  test("that are allowed may ask before, read answers and send anything", async () => {
    const { app, reached } = make([`${origin}/`, "https://other.example.org"]);
    const asked = await app.inject({ method: "OPTIONS", url: "/work", headers: preflight });
    assert.equal(asked.statusCode, 204);
    assert.equal(asked.headers["access-control-allow-origin"], origin);
    assert.equal(asked.headers["access-control-allow-headers"], "authorization, x-stainless-os");
    assert.equal(asked.headers["access-control-allow-methods"], "GET, HEAD, POST, PUT, DELETE, OPTIONS");
    assert.equal(asked.headers["access-control-max-age"], "600");
    assert.deepEqual(reached, []);
    const done = await app.inject({ method: "POST", url: "/work", headers: { origin } });
    assert.equal(done.headers["access-control-allow-origin"], origin);
    assert.match(String(done.headers["access-control-expose-headers"]), /x-request-id, retry-after/);
    assert.equal(done.headers.vary, "Origin");
    assert.equal(done.headers["access-control-allow-credentials"], undefined);
  });

  test("* is all origins, and lists of methods and headers are what is said", async () => {
    const { app } = make(["*"], { methods: ["GET", "POST"], headers: ["X-Custom"] });
    const asked = await app.inject({ method: "OPTIONS", url: "/work", headers: preflight });
    assert.equal(asked.headers["access-control-allow-origin"], "*");
    assert.equal(asked.headers["access-control-allow-headers"], "X-Custom");
    assert.equal(asked.headers["access-control-allow-methods"], "GET, POST");
  });

  test("that are not allowed read nothing and change nothing", async () => {
    const { app, reached } = make(["https://other.example.org"]);
    const asked = await app.inject({ method: "OPTIONS", url: "/work", headers: preflight });
    assert.deepEqual([asked.statusCode, asked.json().own.code], [403, "origin_not_allowed"]);
    assert.equal(asked.headers["access-control-allow-origin"], undefined);
    const sent = await app.inject({ method: "POST", url: "/work", headers: { origin } });
    assert.equal(sent.statusCode, 403);
    const sandboxed = await app.inject({ method: "POST", url: "/work", headers: { origin: "null" } });
    assert.equal(sandboxed.statusCode, 403);
    const read = await app.inject({ url: "/work", headers: { origin } });
    assert.equal(read.statusCode, 200);
    assert.equal(read.headers["access-control-allow-origin"], undefined);
    assert.deepEqual(reached, ["GET /work"]);
  });

  test("the server's own page, and programs, are no other origin", async () => {
    const { app, reached } = make([]);
    for (const headers of [
      {},
      { origin: "http://localhost:8080", host: "localhost:8080" },
      { origin: "https://llm.example.org", host: "10.0.0.3:8080", "x-forwarded-host": "llm.example.org" },
      { origin: "https://llm.example.org", host: "10.0.0.3:8080", "sec-fetch-site": "same-origin" },
    ])
      assert.equal((await app.inject({ method: "POST", url: "/work", headers })).statusCode, 200);
    // TorchServe's description of its API is no question of a browser.
    assert.equal((await app.inject({ method: "OPTIONS", url: "/work", headers: {} })).statusCode, 200);
    assert.equal(reached.length, 5);
  });

  test("headers that are no list are not sent back", async () => {
    const { app } = make([origin]);
    const headers = { ...preflight, "access-control-request-headers": "a, b; c" };
    const asked = await app.inject({ method: "OPTIONS", url: "/work", headers });
    assert.equal(asked.headers["access-control-allow-headers"], undefined);
  });
});

test("names that are not this machine's are refused on a listener of its own", async () => {
  const { app, reached } = serve((one) =>
    one.addHook("onRequest", hostCheckHook({ allowedHosts: ["Chat.example.org"], onRefuse })),
  );
  const good = [
    "localhost",
    "LocalHost:8080",
    "a.localhost:1",
    "127.0.0.1:80",
    "127.9.9.9",
    "[::1]:8080",
    "10.0.0.1",
    "chat.example.ORG:443",
    "localhost.",
  ];
  for (const host of good) assert.equal((await app.inject({ url: "/work", headers: { host } })).statusCode, 200, host);
  const bad = [
    "attacker.example",
    "127.0.0.1.attacker.example:8080",
    "localhost.attacker.example",
    "xlocalhost",
    "chat.example.org.evil",
  ];
  for (const host of bad) {
    const response = await app.inject({ method: "POST", url: "/work", headers: { host } });
    assert.deepEqual([response.statusCode, response.json().own.code], [403, "host_not_allowed"], host);
  }
  assert.equal(reached.length, good.length);
});

test("a client's request id is kept where it is well formed", () => {
  const idOf = (id?: string | string[]) => readRequestId({ headers: { "x-request-id": id } });
  assert.equal(idOf("a-1:B_2.c"), "a-1:B_2.c");
  assert.equal(idOf("x".repeat(128)).length, 128);
  for (const bad of [undefined, "", "x".repeat(129), "a b", "a\nb", "é", ["a", "b"]])
    assert.match(idOf(bad), /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
  const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  assert.equal(readTraceParent({ traceparent: trace }), trace);
  assert.equal(readTraceParent({ traceparent: "injected\n" }), undefined);
});
