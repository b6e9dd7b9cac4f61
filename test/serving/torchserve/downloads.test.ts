import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import type { ServerSettings } from "../../../dist/serving/settings/table.js";
import { makeModelStore } from "../../support/model_store.js";

// Models by URLs of another server, from their registration to their end.

const free = { isTls: false, host: "127.0.0.1", port: 0 };

let archives: Awaited<ReturnType<typeof makeModelStore>>;
let files: http.Server;
let host: string;
let store: string;
/** Archives that were asked for. */
let asked: string[];
before(async () => {
  archives = await makeModelStore();
  files = http.createServer(({ url = "" }, response) => {
    const [name = ""] = url.split("?");
    asked.push(name);
    if (name === "/text") response.end("no archive");
    else if (name === "/missing") response.writeHead(404).end();
    else response.end(readFileSync(path.join(archives.folder, name)));
  });
  files.listen(0, "127.0.0.1");
  await once(files, "listening");
  host = `http://127.0.0.1:${(files.address() as AddressInfo).port}`;
});
after(() => {
  files?.close();
  archives?.remove();
});
beforeEach(() => {
  asked = [];
  store = mkdtempSync(path.join(tmpdir(), "shardspeed-downloads-"));
});
afterEach(() => rmSync(store, { recursive: true }));

async function withServer(
  given: Partial<ServerSettings>,
  use: (server: RunningServer) => Promise<void>,
): Promise<void> {
  const settings = {
    modelStore: store,
    allowedUrls: [`${host}/.*`],
    inferenceAddress: free,
    managementAddress: { ...free },
    metricsAddress: { ...free },
    enableModelApi: true,
    logLevel: "silent" as const,
  };
  const server = await startServer(completeSettings({ ...settings, ...given }));
  try {
    await use(server);
  } finally {
    await server.stop();
  }
}

async function manage({ urls }: RunningServer, method: string, where: string) {
  const answer = await fetch(`${urls.management}${where}`, { method });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

async function predict({ urls }: RunningServer, model: string): Promise<string> {
  return (await fetch(`${urls.inference}/predictions/${model}`, { method: "POST", body: "!text" })).text();
}

describe("a model by its URL", () => {
  test("is registered, and its copy goes with it", async () => {
    await withServer({}, async (server) => {
      const url = encodeURIComponent(`${host}/echo.mar?signature=secret`);
      assert.equal((await manage(server, "POST", `/models?url=${url}`)).status, 200);
      assert.equal(await predict(server, "echo"), "plain text");
      assert.deepEqual(readdirSync(store), ["echo.mar"]);
      const { models } = (await manage(server, "GET", "/models")).body as { models: object[] };
      assert.deepEqual(models, [{ modelName: "echo", modelUrl: `${host}/echo.mar` }]);
      assert.equal((await manage(server, "POST", `/models?url=${url}&model_name=again`)).status, 409);
      assert.equal((await manage(server, "DELETE", "/models/echo")).status, 200);
      assert.deepEqual(readdirSync(store), []);
      assert.equal((await manage(server, "POST", `/models?url=${url}`)).status, 200);
      assert.equal(asked.length, 2);
    });
  });

  test("leaves no copy where it is no model, or cannot be started", async () => {
    await withServer({}, async (server) => {
      const register = (name: string, more = "") =>
        manage(server, "POST", `/models?url=${encodeURIComponent(host + name)}${more}`);
      const failing = await register("/failing.mar");
      assert.equal(failing.status, 500);
      assert.match(String(failing.body.message), /failing_handler has no deepspeed config/);
      assert.equal((await register("/missing")).status, 400);
      assert.match(String((await register("/text")).body.message), /is no model archive/);
      assert.equal((await register("/echo.mar", "&s3_sse_kms=true")).status, 400);
      assert.deepEqual(readdirSync(store), []);
    });
  });

  test("is loaded at the start, also from the copy of an earlier one", async () => {
    const loadModels = [{ name: "mine", location: `${host}/echo.mar` }];
    for (let i = 0; i < 2; i++)
      await withServer({ loadModels }, async (server) => {
        await server.ready;
        assert.equal(await predict(server, "mine"), "plain text");
        assert.equal((await fetch(`${server.urls.inference}/ready`)).status, 200);
      });
    assert.deepEqual([asked, readdirSync(store)], [["/echo.mar"], ["echo.mar"]]);
    await assert.rejects(
      withServer({ loadModels, allowedUrls: [] }, async () => {}),
      /Given URL .* does not match any allowed URL/,
    );
  });
});
