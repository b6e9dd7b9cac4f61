import assert from "node:assert/strict";
import { chatAnswer, chatChunk } from "../../../dist/serving/routes/openai/answers.js";
import { FakeModel, type FakeOptions, makeApp, readEvents } from "./fake_model.js";

// Conversations with a fake model, and the parts of its answers that tests look at.

export const hello = [{ role: "user", content: "Hello" }];

export async function post(body: object, options: FakeOptions = {}, settings = {}) {
  const model = new FakeModel(options);
  const app = await makeApp([model], { settings });
  const payload = { messages: hello, ...body };
  const response = await app.inject({ method: "POST", url: "/v1/chat/completions", payload });
  const isStream = String(response.headers["content-type"]).startsWith("text/event-stream");
  const answer = isStream ? undefined : response.json();
  if (response.statusCode === 200 && answer !== undefined) chatAnswer.parse(answer);
  assert.equal(model.taken, 0, "places are given back");
  return { model, response, answer, call: model.generated[0] };
}

export async function stream(body: object, options: FakeOptions = {}, settings = {}) {
  const { response } = await post({ ...body, stream: true }, options, settings);
  assert.equal(response.statusCode, 200, response.body);
  const events = readEvents(response.body);
  assert.equal(events.pop(), "[DONE]");
  return events.map((event) => chatChunk.parse(event));
}

/** The conversation that a worker got. */
export async function sent(body: object, options: FakeOptions = {}, settings = {}) {
  const { call, response } = await post(body, options, settings);
  assert.equal(response.statusCode, 200, response.body);
  assert.ok(call !== undefined && "chat" in call.prompt);
  return call.prompt.chat;
}

/** The code and the field of a refusal. */
export async function refusal(body: object, options: FakeOptions = {}, settings = {}): Promise<[string, string]> {
  const { response, model } = await post(body, options, settings);
  assert.equal(response.statusCode, 400, response.body);
  assert.equal(model.generated.length, 0);
  const { code, param } = response.json().error;
  return [code, param];
}
