import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import Fastify from "fastify";
import { anthropicRoutes } from "../../dist/serving/routes/anthropic/plugin.js";
import { openAiRoutes } from "../../dist/serving/routes/openai/plugin.js";
import { directoryOf, FakeModel } from "./openai/fake_model.js";

const tool = { name: "f", description: "d", input_schema: { type: "object", properties: {} } };
const responses = {
  model: "fake",
  instructions: "Be kind.",
  input: [
    { role: "user", content: [{ type: "input_text", text: "a" }] },
    { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
    { type: "function_call_output", call_id: "c", output: "x" },
    { type: "reasoning", summary: [] },
  ],
  max_output_tokens: 5,
  tools: [{ type: "function", name: "f", parameters: {}, strict: true }],
  tool_choice: { type: "allowed_tools", mode: "auto", tools: [{ type: "function", name: "f" }] },
  text: { format: { type: "text" } },
  reasoning: { effort: "low" },
  include: ["message.output_text.logprobs"],
  stop: ["x"],
  seed: 1,
  truncation: "auto",
};
const messages = {
  model: "fake",
  max_tokens: 5,
  system: [{ type: "text", text: "Be kind." }],
  messages: [
    { role: "user", content: [{ type: "text", text: "a" }] },
    { role: "assistant", content: [{ type: "tool_use", id: "c", name: "f", input: {} }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "c", content: [{ type: "text", text: "x" }] }] },
  ],
  tools: [tool],
  tool_choice: { type: "auto" },
  stop_sequences: ["x"],
  top_k: 1,
};
const routes: [string, object][] = [
  ["/v1/responses", responses],
  ["/v1/responses/input_tokens", responses],
  ["/v1/messages", messages],
  ["/v1/messages/count_tokens", messages],
];

/** The places of all values, as paths of keys. */
function placesOf(value: unknown): string[][] {
  if (typeof value !== "object" || value === null) return [[]];
  return [[], ...Object.entries(value).flatMap(([key, one]) => placesOf(one).map((path) => [key, ...path]))];
}

function replace(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
  if (key === undefined) return by;
  const inner = replace((value as Record<string, unknown>)[key], rest, by);
  return Array.isArray(value) ? value.with(Number(key), inner) : { ...(value as object), [key]: inner };
}

describe("a body with a wrong value", () => {
  for (const [url, body] of routes)
    test(`is never the server's fault: ${url}`, async () => {
      const app = Fastify();
      const options = { models: directoryOf([new FakeModel()]) };
      await app.register(openAiRoutes, options);
      await app.register(anthropicRoutes, options);
      assert.equal((await app.inject({ method: "POST", url, payload: body })).statusCode, 200);
      const headers = { "content-type": "application/json" };
      const wrong = fc.oneof(
        fc.constantFrom(null, "", 0, -1, 1.5, 5e-324, [], {}, true, "\ud800", [[]]),
        fc.jsonValue(),
      );
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...placesOf(body)), wrong, async (path, value) => {
          const payload = JSON.stringify(replace(body, path, value));
          const answer = await app.inject({ method: "POST", url, headers, payload });
          assert.ok([200, 400, 404].includes(answer.statusCode), `${payload}: ${answer.body}`);
          if (answer.statusCode !== 200) assert.equal(typeof answer.json().error.message, "string");
        }),
        { numRuns: 500 },
      );
    });
});
