import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { InjectOptions } from "fastify";
import { errorCodes, ShardspeedError } from "../../../dist/base/errors.js";
import { errorAnswer } from "../../../dist/serving/routes/openai/answers.js";
import { errorStatuses, toApiError } from "../../../dist/serving/routes/openai/errors.js";
import { ServingError, type ServingErrorCode, servingStatuses } from "../../../dist/serving/serving_error.js";
import { FakeModel, type FakeOptions, makeApp } from "./fake_model.js";

type Request = InjectOptions | string;

/** The status and the error of a request to a server with one model. */
async function ask(request: Request, options: FakeOptions = {}, settings = {}) {
  const app = await makeApp([new FakeModel(options)], { settings });
  const response = await app.inject(request);
  const { error } = errorAnswer.parse(response.json());
  assert.deepEqual(Object.keys(error).slice(0, 4), ["message", "type", "param", "code"]);
  return { status: response.statusCode, error, headers: response.headers, body: response.body };
}

const post = (payload: unknown, url = "/v1/completions"): Request => ({
  method: "POST",
  url,
  headers: { "content-type": "application/json" },
  payload: typeof payload === "string" ? payload : JSON.stringify(payload),
});

/** Status, type, code and param: what clients tell errors by. */
const kind = ({ status, error }: Awaited<ReturnType<typeof ask>>) => [status, error.type, error.code, error.param];

describe("a request at fault", () => {
  const invalid = "invalid_request_error";

  test("whose body is no JSON object is invalid_json", async () => {
    for (const body of ["{", "", "[1]", '"a"', "null", '{"__proto__": {"a": 1}, "prompt": "a"}']) {
      assert.deepEqual(kind(await ask(post(body))), [400, invalid, "invalid_json", null], body);
    }
    const empty = await ask({ method: "POST", url: "/v1/completions" });
    assert.deepEqual(kind(empty), [400, invalid, "invalid_json", null]);
  });

  test("of another content type is 415", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml"]) {
      const request = {
        method: "POST",
        url: "/v1/completions",
        payload: "a=1",
        headers: { "content-type": type },
      } as const;
      const answer = await ask(request);
      assert.deepEqual(kind(answer), [415, invalid, "unsupported_media_type", null]);
      assert.match(answer.error.message, /application\/json/);
    }
  });

  test("with a body that is too large is 413", async () => {
    const answer = await ask(post({ prompt: "x".repeat(1000) }), {}, { bodyLimitBytes: 500 });
    assert.deepEqual(kind(answer), [413, invalid, "request_too_large", null]);
  });

  test("to an unknown URL is 404, and by another method 405 with what is allowed", async () => {
    assert.deepEqual(kind(await ask(post({}, "/v1/none?key=secret"))), [404, invalid, "unknown_url", null]);
    assert.ok(!(await ask(post({}, "/v1/none?key=secret"))).body.includes("secret"));
    const wrong = await ask({ method: "GET", url: "/v1/completions" });
    assert.deepEqual(kind(wrong), [405, invalid, "method_not_allowed", null]);
    assert.equal(wrong.headers.allow, "POST, OPTIONS");
    const deleted = await ask({
      method: "DELETE",
      url: "/v1/models/fake",
      headers: { "content-type": "text/plain" },
      payload: "a",
    });
    assert.equal(deleted.status, 405);
    assert.equal(deleted.headers.allow, "GET, HEAD, OPTIONS");
  });

  test("names the field at fault by its path", async () => {
    const chat = "/v1/completions";
    for (const [body, code, param] of [
      [{}, "missing_required_parameter", "prompt"],
      [{ prompt: null }, "missing_required_parameter", "prompt"],
      [{ prompt: [] }, "invalid_value", "prompt"],
      [{ prompt: 3 }, "invalid_type", "prompt"],
      [{ prompt: ["a", 1] }, "invalid_type", "prompt[1]"],
      [{ prompt: [1, "a"] }, "invalid_type", "prompt[1]"],
      [{ prompt: [[1], "a"] }, "invalid_type", "prompt[1]"],
      [{ prompt: [[]] }, "invalid_value", "prompt"],
      [{ prompt: [[1], []] }, "invalid_value", "prompt[1]"],
      [{ prompt: [[1], [2, 1000]] }, "invalid_value", "prompt[1][1]"],
      [{ prompt: [1, -1] }, "invalid_value", "prompt[1]"],
      [{ prompt: [1.5] }, "invalid_value", "prompt[0]"],
      [{ prompt: "a", temperature: 2.5 }, "invalid_value", "temperature"],
      [{ prompt: "a", temperature: "1" }, "invalid_type", "temperature"],
      [{ prompt: "a", temperature: true }, "invalid_type", "temperature"],
      [{ prompt: "a", top_p: -0.1 }, "invalid_value", "top_p"],
      [{ prompt: "a", top_k: -2 }, "invalid_value", "top_k"],
      [{ prompt: "a", repetition_penalty: 0 }, "invalid_value", "repetition_penalty"],
      [{ prompt: "a", repetition_penalty: 1e300 }, "invalid_value", "repetition_penalty"],
      [{ prompt: "a", max_tokens: -1 }, "invalid_value", "max_tokens"],
      [{ prompt: "a", max_tokens: 1.5 }, "invalid_type", "max_tokens"],
      [{ prompt: "a", seed: 1.5 }, "invalid_value", "seed"],
      [{ prompt: "a", seed: 1e30 }, "invalid_value", "seed"],
      [{ prompt: "a", stream: "yes" }, "invalid_type", "stream"],
      [{ prompt: "a", stream_options: {} }, "invalid_value", "stream_options"],
      [{ prompt: "a", stop: "" }, "invalid_value", "stop"],
      [{ prompt: "a", stop: ["a", ""] }, "invalid_value", "stop"],
      [{ prompt: "a", stop: ["a", "b", "c", "d", "e"] }, "invalid_value", "stop"],
      [{ prompt: "a", stop: 7 }, "invalid_type", "stop"],
      [{ prompt: "a", stop: "\ud800" }, "invalid_value", "stop"],
      [{ prompt: "a", logprobs: 21 }, "invalid_value", "logprobs"],
      [{ prompt: "a", logprobs: true }, "invalid_type", "logprobs"],
      [{ prompt: "a", min_tokens: 5, max_tokens: 4 }, "invalid_value", "min_tokens"],
      [{ prompt: "a", min_tokens: 17 }, "invalid_value", "min_tokens"],
      [{ prompt: "a", truncate_prompt_tokens: 0 }, "invalid_value", "truncate_prompt_tokens"],
      [{ prompt: "a", model: 1 }, "invalid_type", "model"],
      [{ prompt: "a", n: 0 }, "invalid_value", "n"],
    ] as const) {
      const answer = await ask(post(body, chat));
      assert.deepEqual(kind(answer), [400, invalid, code, param], JSON.stringify(body));
    }
  });

  test("with thousands of wrong values has a short answer", async () => {
    const ids = Array.from({ length: 4000 }, () => ({ long: "x".repeat(500) }));
    for (const body of [{ prompt: "a", stop_token_ids: ids }, { prompt: ids }, { prompt: "a", stop: ids }]) {
      const { body: text, status } = await ask(post(body));
      assert.equal(status, 400);
      assert.ok(text.length < 3000, `${text.length} characters`);
    }
  });

  test("with names of Object's own members is answered as any other", async () => {
    const app = await makeApp([new FakeModel()]);
    const payload = '{"prompt": "a", "toString": 1, "hasOwnProperty": [1], "valueOf": {"a": 1}}';
    const response = await app.inject(post(payload));
    assert.equal(response.statusCode, 200, response.body);
  });

  test("with millions of values is refused before they are looked at", async () => {
    const many = `[${"[[]],".repeat(300_000)}[]]`;
    for (const field of ["stop_token_ids", "metadata", "stop"]) {
      const answer = await ask(post(`{"prompt": "a", "${field}": ${many}}`));
      assert.deepEqual(kind(answer), [400, invalid, "invalid_value", null]);
      assert.match(answer.error.message, /more than 200000 values/);
    }
    const ids = await ask(post({ prompt: Array.from({ length: 300_000 }, () => 1) }));
    assert.equal(ids.error.code, "context_length_exceeded", "prompts may have as many as fit into a body");
  });

  test("that is nested too deep is refused", async () => {
    const answer = await ask(post(`{"prompt": "a", "metadata": ${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}}`));
    assert.deepEqual(kind(answer), [400, invalid, "invalid_value", null]);
  });

  test("for a model that is not there lists those that are", async () => {
    const answer = await ask(post({ prompt: "a", model: "gpt-4" }));
    assert.deepEqual(kind(answer), [404, invalid, "model_not_found", "model"]);
    assert.match(answer.error.message, /"gpt-4" does not exist\. Models are: fake\./);
  });

  test("that asks a model for what it does not do is unsupported_task", async () => {
    const answer = await ask(post({ prompt: "a" }), { engine: { tasks: ["embed"] } });
    assert.deepEqual(kind(answer), [400, invalid, "unsupported_task", "model"]);
  });
});

describe("a server that cannot answer", () => {
  test("because its queue is full says when to come again, and never 0", async () => {
    const model = new FakeModel({ places: 1 });
    model.reserve(1);
    for (const [queueFullStatus, type] of [
      [503, "overloaded_error"],
      [429, "rate_limit_error"],
    ] as const) {
      const app = await makeApp([model], { settings: { queueFullStatus } });
      const response = await app.inject(post({ prompt: "a" }));
      assert.equal(response.statusCode, queueFullStatus);
      assert.equal(response.headers["retry-after"], "1");
      assert.deepEqual([response.json().error.type, response.json().error.code], [type, "queue_full"]);
    }
  });

  test("because the request never fits says 400", async () => {
    const answer = await ask(post({ prompt: ["a", "b", "c"] }), { places: 2 });
    assert.deepEqual(kind(answer), [400, "invalid_request_error", "invalid_value", null]);
  });

  test("because a model is loading rounds the wait up", async () => {
    const answer = await ask(post({ prompt: "a" }), { state: "loading", engine: null });
    assert.deepEqual(kind(answer), [503, "unavailable_error", "model_loading", null]);
    assert.equal(answer.headers["retry-after"], "3");
  });

  test("has a status for every code, and says where another try is in vain", () => {
    const context = { queueFullStatus: 503 } as const;
    for (const code of Object.keys(servingStatuses) as ServingErrorCode[]) {
      const failure = toApiError(new ServingError(code, "Why."), context);
      assert.equal(failure.status, servingStatuses[code]);
      assert.equal("retry-after" in (failure.details.headers ?? {}), failure.status === 503, code);
      assert.ok(errorStatuses.includes(failure.status));
    }
    const ended = toApiError(new ServingError("shutting_down", "Bye.", { final: true }), context);
    assert.equal(ended.details.headers?.["x-should-retry"], "false");
    for (const code of Object.keys(errorCodes) as (keyof typeof errorCodes)[]) {
      const { status, details } = toApiError(new ShardspeedError(code, "Why."), context);
      assert.ok(code === "ERR_ABORTED" || errorStatuses.includes(status), code);
      const mayRetry = ["ERR_COMM", "ERR_DISPOSED", "ERR_ABORTED"].includes(code) || status < 500;
      assert.equal(details.headers?.["x-should-retry"], mayRetry ? undefined : "false", code);
    }
  });

  test("keeps what it does not know to itself", async () => {
    const script: FakeOptions["script"] = async function* () {
      yield [];
      throw new Error("secret in /home/me/file.ts");
    };
    const answer = await ask(post({ prompt: "a" }), { script });
    assert.deepEqual(kind(answer), [500, "server_error", "internal_error", null]);
    assert.ok(!answer.body.includes("secret"));
  });

  test("gives hooks that know no family OpenAI's form", async () => {
    const app = await makeApp([new FakeModel()]);
    assert.ok(app);
    const denied = Object.assign(new Error("No key."), { statusCode: 401 });
    const failure = toApiError(denied, { queueFullStatus: 503 });
    assert.deepEqual(
      [failure.status, failure.code, failure.details.headers],
      [401, "invalid_api_key", { "www-authenticate": "Bearer" }],
    );
  });
});

test("a request's id comes back, and one that does not fit is replaced", async () => {
  const app = await makeApp([new FakeModel()]);
  const idFor = async (id: string) =>
    (await app.inject({ url: "/v1/models", headers: { "x-request-id": id } })).headers["x-request-id"];
  assert.equal(await idFor("abc-1.2:3_4"), "abc-1.2:3_4");
  assert.match(String(await idFor("a b")), /^[0-9a-f-]{36}$/);
  assert.match(String(await idFor("x".repeat(129))), /^[0-9a-f-]{36}$/);
  const missing = await app.inject("/v1/none");
  assert.match(String(missing.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
});
