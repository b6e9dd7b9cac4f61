import assert from "node:assert/strict";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import { fixture, readJson } from "../../support/fixtures.js";
import { makeModelStore } from "../../support/model_store.js";

interface Exchange {
  name: string;
  api: "inference" | "management" | "metrics";
  method: string;
  path: string;
  requestHeaders: Record<string, string>;
  requestBody: string | null | { base64: string };
  response: {
    status: number;
    reason: string;
    headers: Record<string, string>;
    body: { json?: unknown; text?: string };
  };
}

interface Answer {
  status: number;
  reason: string | undefined;
  headers: IncomingHttpHeaders;
  text: string;
}

const free = { isTls: false, host: "127.0.0.1", port: 0 };

/** What this server answers otherwise, each with what docs/migrating.md says of it. */
const differences: Record<string, (answer: Answer, recorded: Exchange["response"]) => void> = {
  "api description": ({ text }) => assert.ok(JSON.parse(text).paths["/predictions/{model_name}"].post),
  "scale bad number": ({ status, text }) => {
    assert.equal(status, 400);
    assert.match(JSON.parse(text).message, /min_worker/);
  },
  "register failing": ({ status, text }) => {
    const { type, message } = JSON.parse(text);
    assert.deepEqual([status, type], [500, "InternalServerException"]);
    assert.match(
      message,
      /^Failed to start workers for model failing version: 1\.0: .*failing_handler has no deepspeed config/,
    );
  },
  // The server's timeout counts where the model's file says nothing of it.
  "describe deepspeed model": ({ text }) => assert.equal(JSON.parse(text)[0].startupTimeout, 60),
  metrics: ({ text, headers }, recorded) => {
    assert.equal(headers["content-type"], recorded.headers["content-type"]);
    for (const name of ["MemoryAvailable", "Requests2XX", "ts_inference_latency_microseconds", "CPUUtilization"])
      assert.match(text, new RegExp(`^${name}\\{`, "m"), name);
  },
  "metrics filtered": ({ text, headers }, recorded) => {
    assert.equal(headers["content-type"], recorded.headers["content-type"]);
    assert.deepEqual(new Set(text.match(/^\w+(?=\{)/gm)), new Set(["ts_inference_requests_total"]));
    assert.match(text, /model_name="echo",model_version="1\.0"/);
    assert.match(text, /model_name="echo",model_version="default"/);
  },
};

/** What differs from run to run, or is of Python. */
function settle(value: unknown): unknown {
  const volatile = new Set(["id", "startTime", "memoryUsage", "pid", "createdOn", "archiverVersion", "server_version"]);
  return JSON.parse(
    JSON.stringify(value, (key, one) =>
      volatile.has(key)
        ? "volatile"
        : key === "handler" && typeof one === "string"
          ? one.replace(/\.(py|mjs)$/, "")
          : one,
    ),
  );
}

let store: Awaited<ReturnType<typeof makeModelStore>>;
let server: RunningServer;
before(async () => {
  store = await makeModelStore();
  server = await startServer(
    completeSettings({
      modelStore: store.folder,
      loadModels: [{ location: "echo.mar" }, { location: "opt.tar.gz" }],
      inferenceAddress: free,
      managementAddress: { ...free },
      metricsAddress: { ...free },
      disableTokenAuthorization: true,
      enableModelApi: true,
      defaultWorkersPerModel: 1,
      bodyLimitBytes: 65536,
      defaultResponseTimeoutS: 20,
      defaultStartupTimeoutS: 60,
      maxQueuedRequests: 3,
      unregisterModelTimeoutS: 20,
      logLevel: "silent",
    }),
  );
  await server.ready;
});
after(async () => {
  await server?.stop();
  store?.remove();
});

function send({ api, method, path: url, requestHeaders, requestBody }: Exchange): Promise<Answer> {
  const body =
    requestBody === null
      ? undefined
      : typeof requestBody === "object"
        ? Buffer.from(requestBody.base64, "base64")
        : requestBody === "x repeated 70000 times"
          ? "x".repeat(70000)
          : requestBody;
  return new Promise((resolve, reject) => {
    const options = {
      method,
      headers: { ...requestHeaders, ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }) },
    };
    const sent = httpRequest(new URL(url, server.urls[api]), options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          reason: response.statusMessage,
          headers: response.headers,
          text: Buffer.concat(chunks).toString("utf8"),
        }),
      );
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Until a worker of the model is ready again. */
async function waitForWorker(model: string): Promise<void> {
  for (let i = 0; i < 500 && server.registry.find(model).state !== "ready"; i++) await sleep(20);
}

function check({ name, response }: Exchange, answer: Answer): void {
  const different = differences[name];
  if (different !== undefined) {
    different(answer, response);
    return;
  }
  assert.equal(answer.status, response.status, answer.text);
  if (response.reason !== "" && response.status < 400) assert.equal(answer.reason, response.reason);
  const { text = "", json } = response.body;
  if (json === undefined) assert.equal(answer.text, text);
  else {
    assert.deepEqual(settle(JSON.parse(answer.text)), settle(json));
    // Spaces and line breaks too.
    if (!text.includes("workers") && !text.includes("systemProperties")) assert.equal(answer.text, text);
  }
  assert.equal(answer.headers["content-type"], response.headers["content-type"]);
  assert.equal(answer.headers["x-custom"], response.headers["x-custom"]);
  if (response.status >= 400 && response.status !== 413) assert.equal(answer.headers.connection, "close");
  assert.match(String(answer.headers["x-request-id"]), /^[\da-f-]{36}$/);
}

describe("answers are TorchServe's", () => {
  const exchanges = readJson<Exchange[]>(fixture("torchserve", "transcripts.json"));
  const inBatch = exchanges.filter(({ name }) => name.startsWith("batch of four"));
  for (const exchange of exchanges) {
    if (inBatch.includes(exchange) && exchange !== inBatch[0]) continue;
    test(exchange.name, async () => {
      if (exchange === inBatch[0]) {
        const answers = await Promise.all(inBatch.map(send));
        for (const [i, answer] of answers.entries()) check(inBatch[i] as Exchange, answer);
        return;
      }
      if (exchange.path === "/predictions/batched") await waitForWorker("batched");
      check(exchange, await send(exchange));
    });
  }
});
