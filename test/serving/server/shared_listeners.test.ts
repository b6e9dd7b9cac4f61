import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { makeModelStore } from "../../support/model_store.js";
import { resolveWith } from "../settings/support.js";

// APIs that config.properties puts on one address.

let store: Awaited<ReturnType<typeof makeModelStore>>;
before(async () => {
  store = await makeModelStore();
});
after(() => store?.remove());

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((one) => new Promise<void>((resolve) => one.listen(0, "127.0.0.1", resolve))));
  const ports = servers.map((one) => (one.address() as { port: number }).port);
  await Promise.all(servers.map((one) => new Promise((resolve) => one.close(resolve))));
  return ports;
}

/** @param places Which of the listeners each API is on. */
async function serve(places: { inference: number; management: number; metrics: number }): Promise<RunningServer> {
  const ports = await freePorts(1 + Math.max(...Object.values(places)));
  const lines = Object.entries(places).map(([api, place]) => `${api}_address=http://127.0.0.1:${ports[place]}`);
  const flags = { modelStore: store.folder, enableModelApi: "true", logLevel: "silent" };
  return startServer(await resolveWith(lines.join("\n"), { flags }));
}

describe("listeners of one address", () => {
  for (const places of [
    { inference: 0, management: 0, metrics: 0 },
    { inference: 0, management: 0, metrics: 1 },
    { inference: 0, management: 1, metrics: 1 },
    { inference: 0, management: 1, metrics: 0 },
  ])
    test(`have all of their APIs: ${JSON.stringify(places)}`, async () => {
      const server = await serve(places);
      try {
        const { inference, management, metrics } = server.urls as Record<keyof typeof places, string>;
        assert.equal(new Set([inference, management, metrics]).size, 1 + Math.max(...Object.values(places)));
        const registered = await fetch(`${management}/models?url=echo.mar`, { method: "POST" });
        assert.equal(registered.status, 200);
        for (const url of ["/predictions/echo", "/models/echo/invoke"])
          assert.equal(await (await fetch(inference + url, { method: "POST", body: "!text" })).text(), "plain text");
        const described = (await (await fetch(`${management}/models/echo`)).json()) as { modelName: string }[];
        assert.deepEqual(
          described.map(({ modelName }) => modelName),
          ["echo"],
        );
        assert.match(await (await fetch(`${metrics}/metrics`)).text(), /^ts_inference_requests_total\{/m);
        for (const url of [inference, management, metrics]) assert.equal((await fetch(`${url}/ready`)).status, 200);
        // On both listeners, as migrating.md says. Where they are one, with OpenAI's fields.
        assert.equal(((await (await fetch(`${management}/v1/models/echo`)).json()) as { ready: boolean }).ready, true);
        assert.equal((await fetch(`${inference}/v1/models`)).status, 200);
      } finally {
        await server.stop();
      }
    });

  test("describe the APIs that they have", async () => {
    const apart = await serve({ inference: 0, management: 1, metrics: 1 });
    const together = await serve({ inference: 0, management: 0, metrics: 0 });
    const pathsOf = async (url: string | undefined, method: string, path: string) => {
      const answer = (await (await fetch(`${url}${path}`, { method })).json()) as { paths: object };
      return Object.keys(answer.paths).sort();
    };
    try {
      for (const [method, path] of [
        ["OPTIONS", "/"],
        ["GET", "/api-description"],
      ] as const) {
        const inference = await pathsOf(apart.urls.inference, method, path);
        const management = await pathsOf(apart.urls.management, method, path);
        assert.ok(inference.includes("/predictions/{model_name}") && !inference.includes("/models"));
        assert.ok(management.includes("/models") && !management.includes("/predictions/{model_name}"));
        assert.deepEqual(
          await pathsOf(together.urls.inference, method, path),
          [...new Set([...inference, ...management])].sort(),
        );
      }
    } finally {
      await Promise.all([apart.stop(), together.stop()]);
    }
  });
});

describe("a URL that nothing can have", () => {
  let server: RunningServer;
  before(async () => {
    server = await serve({ inference: 0, management: 0, metrics: 0 });
  });
  after(() => server?.stop());

  const ask = async (path: string) => {
    const answer = await fetch(`${server.urls.inference}${path}`, { headers: { "x-request-id": "mine" } });
    assert.equal(answer.headers.get("x-request-id"), "mine");
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };

  test("is refused in the form of its API where an escape is wrong", async () => {
    for (const url of ["/v1/models/%zz", "/v1/models/%", "/%ff", "/v1/models/%c3%28"]) {
      const { status, body } = await ask(url);
      assert.equal(status, 400, url);
      const { message, ...error } = body.error as Record<string, unknown>;
      assert.deepEqual(error, { type: "invalid_request_error", param: null, code: "invalid_url" });
      assert.match(String(message), /percent sign/);
    }
    for (const url of ["/predictions/%zz", "/models/%zz", "/v1/models/a%zz:predict", "/models/a/%e2%82"]) {
      const { status, body } = await ask(url);
      assert.deepEqual([status, body.code, body.type], [400, 400, "BadRequestException"], url);
    }
    assert.match(String((await ask("/v2/models/%zz")).body.error), /percent sign/);
    const { type, error } = (await ask("/v1/messages/%zz")).body as { type: string; error: { type: string } };
    assert.deepEqual([type, error.type], ["error", "invalid_request_error"]);
    const metrics = await (await fetch(`${server.urls.metrics}/metrics?name[]=Requests4XX`)).text();
    assert.match(metrics, /^Requests4XX\{[^}]*\} 10$/m);
  });

  test("is not there where a part is longer than names are", async () => {
    const long = "a".repeat(2000);
    assert.deepEqual((await ask(`/predictions/${long}`)).body.type, "ResourceNotFoundException");
    assert.deepEqual((await ask(`/v2/models/${long}`)).status, 404);
    assert.deepEqual((await ask(`/v1/models/${long}`)).status, 404);
  });
});
