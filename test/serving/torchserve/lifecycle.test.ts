import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import { makeModelStore } from "../../support/model_store.js";

const free = { isTls: false, host: "127.0.0.1", port: 0 };

let store: Awaited<ReturnType<typeof makeModelStore>>;
let server: RunningServer;
before(async () => {
  store = await makeModelStore();
  server = await startServer(
    completeSettings({
      modelStore: store.folder,
      loadModels: [],
      inferenceAddress: free,
      managementAddress: { ...free },
      metricsAddress: { ...free },
      enableModelApi: true,
      logLevel: "silent",
    }),
  );
});
after(async () => {
  await server?.stop();
  store?.remove();
});

async function manage(method: string, path: string): Promise<[number, string]> {
  const answer = await fetch(`${server.urls.management}${path}`, { method });
  return [answer.status, ((await answer.json()) as { status: string; message: string }).status];
}

async function metricsOf(name: string): Promise<string[]> {
  const text = await (await fetch(`${server.urls.metrics}/metrics?name[]=${name}`)).text();
  return text.split("\n").filter((line) => line.startsWith(name));
}

describe("a model comes and goes", () => {
  test("its metrics are there as long as it is; workers are scaled to none and back", async () => {
    assert.equal((await manage("POST", "/models?url=echo.mar"))[0], 200);
    const predict = () => fetch(`${server.urls.inference}/predictions/echo`, { method: "POST", body: "!text" });
    assert.equal(await (await predict()).text(), "plain text");
    assert.equal((await metricsOf("shardspeed_queue_depth")).length, 1);
    assert.deepEqual(await manage("PUT", "/models/echo?min_worker=0&synchronous=true"), [
      200,
      "Workers scaled to 0 for model: echo",
    ]);
    assert.equal((await predict()).status, 503);
    const look = async (path: string) => (await fetch(`${server.urls.inference}${path}`)).status;
    assert.deepEqual([await look("/ping"), await look("/ready")], [200, 200]);
    assert.equal((await manage("PUT", "/models/echo?min_worker=2&synchronous=true"))[0], 200);
    assert.equal((await predict()).status, 200);
    assert.deepEqual(await manage("DELETE", "/models/echo"), [200, 'Model "echo" unregistered']);
    assert.equal((await predict()).status, 404);
    assert.deepEqual(await metricsOf("shardspeed_queue_depth"), []);
    assert.equal((await manage("POST", "/models?url=echo.mar"))[0], 200);
    assert.equal((await metricsOf("shardspeed_queue_depth")).length, 1);
  });
});
