import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { FastifyInstance, RouteOptions } from "fastify";
import { startServer } from "../../dist/serving/server.js";
import { completeSettings } from "../../dist/serving/settings/resolve.js";

// The OpenAPI document against the routes that the router knows.

interface Operation {
  operationId: string;
  parameters?: { name: string; in: string }[];
  responses: Record<string, { content?: Record<string, { schema: unknown }> }>;
}
interface Document {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

/** Starts a server without models, and keeps the list of its inference listener's routes. */
async function listen(isOneListener: boolean) {
  const store = mkdtempSync(path.join(tmpdir(), "document-"));
  const listeners: RouteOptions[][] = [];
  const onApp = (message: unknown) => {
    const routes: RouteOptions[] = [];
    listeners.push(routes);
    (message as { fastify: FastifyInstance }).fastify.addHook("onRoute", (route) => {
      routes.push(route);
    });
  };
  subscribe("fastify.initialization", onApp);
  const address = () => ({ isTls: false, host: "127.0.0.1", port: 0 });
  const inferenceAddress = address();
  const server = await startServer(
    completeSettings({
      ...{ modelStore: store, logLevel: "silent", inferenceAddress },
      managementAddress: address(),
      metricsAddress: isOneListener ? inferenceAddress : address(),
    }),
  );
  unsubscribe("fastify.initialization", onApp);
  const document = (await (await fetch(`${server.urls.inference}/openapi.json`)).json()) as Document;
  const close = async () => {
    await server.kill();
    rmSync(store, { recursive: true });
  };
  return { document, routes: listeners[0] as RouteOptions[], close };
}

/** A route as the document names it: "get /v1/models/{}". Names of parameters do not matter, and files of the page are one. */
function toKey(method: string, url: string): string {
  const nameless = url
    .replace(/^\/page\/.*/, "/page/{}")
    // Version 1 of KServe's protocol: a parameter that ends in a colon and a verb.
    .replace(/:target\(.*\)$/, "{}")
    .replace(/:(predict|explain)$/, "")
    .replace(/:\w+|\{\w+\}|\*/g, "{}");
  return `${method.toLowerCase()} ${nameless}`;
}

/** All that the router has, but HEAD where GET is, what only says which methods a URL takes, and QUERY, which OpenAPI 3.1 has no word for. */
function listRegistered(routes: readonly RouteOptions[]): string[] {
  const hasGet = (url: string) => routes.some((one) => one.url === url && [one.method].flat().includes("GET"));
  const keys = routes
    .filter(({ config }) => (config as { isUndocumented?: boolean } | undefined)?.isUndocumented !== true)
    .flatMap(({ method, url }) => {
      const methods = [method].flat();
      const isOnlyHead = methods.length === 1 && methods[0] === "HEAD";
      return isOnlyHead && hasGet(url) ? [] : methods.filter((one) => one !== "QUERY").map((one) => toKey(one, url));
    });
  return [...new Set(keys)].sort();
}

function listDocumented({ paths }: Document): string[] {
  const keys = Object.entries(paths).flatMap(([url, operations]) =>
    Object.keys(operations).map((method) => toKey(method, url)),
  );
  return [...new Set(keys)].sort();
}

function assertSame(documented: readonly string[], registered: readonly string[]): void {
  const missing = registered.filter((key) => !documented.includes(key));
  const surplus = documented.filter((key) => !registered.includes(key));
  assert.deepEqual({ missing, surplus }, { missing: [], surplus: [] });
}

describe("the document of a listener", () => {
  let served: Awaited<ReturnType<typeof listen>>;
  before(async () => {
    served = await listen(true);
  });
  after(() => served.close());

  test("has all of its routes, and no others", () => {
    const registered = listRegistered(served.routes);
    assert.ok(registered.length > 100);
    assertSame(listDocumented(served.document), registered);
  });

  test("names each operation once, and every parameter of a URL", () => {
    const names = new Set<string>();
    for (const [url, operations] of Object.entries(served.document.paths)) {
      const expected = [...url.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      for (const { operationId, parameters = [] } of Object.values(operations)) {
        assert.ok(!names.has(operationId), operationId);
        names.add(operationId);
        assert.deepEqual(
          parameters.filter((parameter) => parameter.in === "path").map(({ name }) => name),
          expected,
        );
      }
    }
  });

  test("declares a failure of every kind for each operation, in the form of its API", () => {
    for (const [url, operations] of Object.entries(served.document.paths)) {
      for (const { responses } of Object.values(operations)) {
        for (const status of [400, 401, 403, 404, 413, 415, 429, 500, 503, 504, 507])
          assert.ok(responses[status], `${url} ${status}`);
      }
    }
    const text = JSON.stringify(served.document);
    for (const [, name = ""] of text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
      assert.ok(served.document.components.schemas[name], name);
    for (const name of ["Error", "KServeError", "MessagesError", "TorchServeError"])
      assert.ok(text.includes(`#/components/schemas/${name}"`), name);
  });
});

test("the document has no metrics where another listener has them", async () => {
  const { document, routes, close } = await listen(false);
  try {
    assert.ok(!("/metrics" in document.paths));
    assertSame(listDocumented(document), listRegistered(routes));
  } finally {
    await close();
  }
});
