import assert from "node:assert/strict";
import { completionAnswer, completionChunk } from "../../../dist/serving/routes/openai/answers.js";
import { FakeModel, type FakeOptions, makeApp, readEvents } from "./fake_model.js";

/** Posts a body to a fake model; answers are checked with their schema. */
export async function post(body: object, options: FakeOptions = {}, settings = {}) {
  const model = new FakeModel(options);
  const app = await makeApp([model], { settings });
  const response = await app.inject({ method: "POST", url: "/v1/completions", payload: body });
  const answer = String(response.headers["content-type"]).startsWith("text/event-stream") ? undefined : response.json();
  if (response.statusCode === 200 && answer !== undefined) completionAnswer.parse(answer);
  assert.equal(model.taken, 0, "places are given back");
  return { model, response, answer };
}

/** Posts a body as a stream; its chunks are checked with their schema, and it must come to its end. */
export async function stream(body: object, options: FakeOptions = {}, settings = {}) {
  const { response, model } = await post({ ...body, stream: true }, options, settings);
  assert.equal(response.statusCode, 200, response.body);
  const events = readEvents(response.body);
  assert.equal(events.pop(), "[DONE]");
  return { model, response, chunks: events.map((event) => completionChunk.parse(event)) };
}
