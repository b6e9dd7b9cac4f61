import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import { makeModelStore } from "../../support/model_store.js";

// What TorchServe answers beside what was recorded, as its sources say.

const free = { isTls: false, host: "127.0.0.1", port: 0 };

let store: Awaited<ReturnType<typeof makeModelStore>>;
let server: RunningServer;
/** What /ready said before the model could be. */
let early: number[];
before(async () => {
  store = await makeModelStore();
  server = await startServer(
    completeSettings({
      modelStore: store.folder,
      loadModels: [{ location: "echo.mar" }],
      inferenceAddress: free,
      managementAddress: { ...free },
      metricsAddress: { ...free },
      disableTokenAuthorization: true,
      enableModelApi: true,
      defaultWorkersPerModel: 1,
      maxQueuedRequests: 3,
      logLevel: "silent",
    }),
  );
  early = await Promise.all(Array.from({ length: 8 }, () => readiness()));
  await server.ready;
});
after(async () => {
  await server?.stop();
  store?.remove();
});

const readiness = async () => (await fetch(new URL("/ready", server.urls.metrics))).status;

test("the server is not ready before it knows its models", async () => {
  assert.deepEqual(early, Array(8).fill(503));
  assert.equal(await readiness(), 200);
});

type Api = "inference" | "management" | "metrics";

async function ask(api: Api, call: string, body?: string | FormData, headers: Record<string, string> = {}) {
  const [method = "", url = ""] = call.split(" ");
  const sent = { ...(typeof body === "string" ? { "content-type": "text/plain" } : {}), ...headers };
  const response = await fetch(new URL(url, server.urls[api]), {
    method,
    headers: sent,
    ...(body === undefined ? {} : { body }),
  });
  const text = await response.text();
  return { status: response.status, reason: response.statusText, headers: response.headers, text };
}

/** Status, type and message of a failure. */
async function failure(api: Api, call: string, body?: string) {
  const { status, text } = await ask(api, call, body);
  const { code, type, message } = JSON.parse(text);
  assert.equal(code, status, text);
  return [status, type, message];
}

const untaken =
  "has no worker to serve inference request. Please use scale workers API to add workers. " +
  "If this is a sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize";

describe("TorchServe's inference API", () => {
  test("refuses what a full queue does not hold, in TorchServe's words, and says when to come again", async () => {
    const answers = await Promise.all(
      Array.from({ length: 9 }, () => ask("inference", "POST /predictions/echo/1.0", "!sleep 0.5")),
    );
    const refused = answers.filter(({ status }) => status !== 200);
    assert.equal(refused.length, 5);
    for (const { status, headers, text } of refused) {
      assert.deepEqual([status, headers.get("retry-after")], [503, "1"]);
      const { type, message } = JSON.parse(text);
      assert.deepEqual([type, message], ["ServiceUnavailableException", `Model "echo" Version 1.0" ${untaken}`]);
    }
  });

  test("passes on a handler's own failure, and its reason", async () => {
    for (const [code, status] of [
      [404, 404],
      [513, 513],
      [413, 507],
    ]) {
      const answer = await ask("inference", "POST /predictions/echo", `!prediction-exception ${code}`);
      assert.equal(answer.status, status);
      assert.deepEqual(JSON.parse(answer.text), {
        code: status,
        type: "InternalServerException",
        message: "said by the handler",
      });
      if (status === 513) assert.equal(answer.reason, "Server Error (513)");
    }
  });

  test("tells the handler whether to explain, and what is behind the version", async () => {
    const headers = async (url: string) => {
      const body = "!request-headers explain url_path";
      return JSON.parse((await ask("inference", `POST ${url}`, body, { explain: "maybe" })).text);
    };
    assert.deepEqual(await headers("/predictions/echo"), { explain: "False", url_path: "" });
    assert.deepEqual(await headers("/predictions/echo/1.0/v1/chat"), { explain: "False", url_path: "v1/chat" });
    assert.deepEqual(await headers("/explanations/echo"), { explain: "True", url_path: "" });
    assert.deepEqual(await headers("/v1/models/echo:explain"), { explain: "True", url_path: null });
  });

  test("knows a model of a call that names none: in a field, or the only one of the start", async () => {
    const form = new FormData();
    form.set("model_name", "nope");
    const named = await ask("inference", "POST /invocations?model_name=nope", "a");
    assert.deepEqual([named.status, JSON.parse(named.text).message], [404, "Model not found: nope"]);
    assert.equal((await ask("inference", "POST /invocations", "a")).status, 200);
  });

  test("describes one model's API to OPTIONS", async () => {
    const { status, text } = await ask("inference", "OPTIONS /predictions/echo");
    assert.equal(status, 200);
    assert.ok(JSON.parse(text).paths["/predictions/echo"].post);
    assert.equal((await ask("inference", "OPTIONS /predictions/nope")).status, 404);
    const managed = await ask("management", "OPTIONS /models/echo");
    assert.deepEqual(Object.keys(JSON.parse(managed.text).paths["/models/echo"]), ["get", "put", "delete"]);
  });

  test("answers must not be kept", async () => {
    const { headers } = await ask("inference", "POST /predictions/echo", "a");
    assert.equal(headers.get("pragma"), "no-cache");
    assert.match(headers.get("cache-control") ?? "", /no-store/);
  });

  test("has nothing to GET at the root of the other listeners", async () => {
    const text = "Requested method is not allowed, please refer to API document.";
    for (const api of ["management", "metrics"] as const)
      assert.deepEqual(await failure(api, "GET /"), [405, "MethodNotAllowedException", text]);
  });
});

describe("KServe's protocols of a handler's model", () => {
  test("version 1 tells whether it is ready, on both listeners", async () => {
    for (const api of ["inference", "management"] as const) {
      const { status, text } = await ask(api, "GET /v1/models/echo");
      assert.deepEqual([status, JSON.parse(text)], [200, { name: "echo", ready: true }]);
    }
    assert.deepEqual(await failure("management", "GET /v1/models/nope"), [
      404,
      "ModelNotFoundException",
      "Model not found: nope",
    ]);
  });

  test("version 2 hands the body on as it came, and the answer as the handler makes it", async () => {
    const body = '{"id": "1", "inputs": [], "big": 12345678901234567890}';
    const { status, headers, text } = await ask("inference", "POST /v2/models/echo/infer", body, {
      "content-type": "application/json",
    });
    assert.deepEqual([status, headers.get("content-type")], [200, null]);
    assert.deepEqual(JSON.parse(text).row.body.value.inputs, []);
    const command = JSON.stringify("!request-headers explain");
    const explained = await ask("inference", "POST /v2/models/echo/explain", command, {
      "content-type": "application/json",
    });
    assert.deepEqual(JSON.parse(explained.text), { explain: "True" });
  });
});

describe("TorchServe's management API", () => {
  test("knows which methods there are", async () => {
    for (const call of ["PUT /models", "DELETE /models", "PATCH /models/echo", "POST /models/echo"])
      assert.deepEqual((await failure("management", call)).slice(0, 2), [405, "MethodNotAllowedException"], call);
    assert.equal((await failure("management", "GET /nothing"))[0], 404);
  });

  test("refuses numbers that are none, and caps those that are too large", async () => {
    const [status, type, message] = await failure("management", "GET /models?limit=abc");
    assert.deepEqual([status, type], [400, "BadRequestException"]);
    assert.match(message, /limit to be an integer of at least 1, found "abc"/);
    assert.equal((await ask("management", "GET /models?limit=1000")).status, 200);
  });

  test("takes a URL of an unknown scheme for a file that is not there", async () => {
    assert.deepEqual(await failure("management", "POST /models?url=ftp://example.com/x.mar"), [
      404,
      "ModelNotFoundException",
      "Model not found at: ftp://example.com/x.mar",
    ]);
    const [status, , message] = await failure("management", "POST /models?url=https://example.com/x.mar");
    assert.deepEqual([status, message], [404, "Given URL https://example.com/x.mar does not match any allowed URL(s)"]);
  });

  test("describes what a handler says of itself, where it is an object", async () => {
    const registered = await ask("management", "POST /models?url=opt.tar.gz&model_name=opt2&initial_workers=1");
    assert.equal(JSON.parse(registered.text).status, 'Model "opt2" Version: 1.0 registered with 1 initial workers');
    const describeIt = async (url: string) => JSON.parse((await ask("management", `GET ${url}`)).text)[0];
    assert.equal((await describeIt("/models/opt2?customized=true")).customizedMetadata.device, 0);
    assert.equal("customizedMetadata" in (await describeIt("/models/opt2/all?customized=true")), false);
  });

  test("scales to none and back, also by the parameter model_version", async () => {
    const scaled = await ask("management", "PUT /models/echo?min_worker=0&synchronous=true&model_version=1.0");
    assert.equal(JSON.parse(scaled.text).status, "Workers scaled to 0 for model: echo, version: 1.0");
    assert.deepEqual(await failure("inference", "POST /predictions/echo", "a"), [
      503,
      "ServiceUnavailableException",
      `Model "echo" ${untaken}`,
    ]);
    assert.equal((await failure("management", "PUT /models/echo?min_worker=1&model_version=7"))[0], 404);
    assert.equal((await ask("management", "PUT /models/echo?min_worker=1")).status, 202);
    for (let i = 0; i < 500 && server.registry.find("echo").state !== "ready"; i++) await sleep(20);
    assert.equal((await ask("inference", "POST /predictions/echo", "a")).status, 200);
  });
});
