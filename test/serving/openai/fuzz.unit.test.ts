import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { errorAnswer } from "../../../dist/serving/routes/openai/answers.js";
import { errorStatuses } from "../../../dist/serving/routes/openai/errors.js";
import { apiRoutes } from "../../../dist/serving/routes/openai/routes.js";
import { unsupportedFields } from "../../../dist/serving/routes/openai/unsupported.js";
import { description, FakeModel, makeApp } from "./fake_model.js";

// Any JSON in any field: an answer of a declared status, and none of the server's own failures.

const model = new FakeModel({
  engine: { tasks: ["generate", "chat", "embed", "classify", "score"], info: { ...description.info, labels: ["one"] } },
  answers: {
    embed: ({ texts }) => ({ values: new Float32Array(texts.length * 2), width: 2, promptTokens: 1 }),
    classify: ({ texts }) => ({
      results: texts.map(() => ({ label: "one", scores: [0.5], logits: [0] })),
      promptTokens: 1,
    }),
    render: () => ({ text: "a" }),
  },
});
const app = await makeApp([model], { settings: { trustRequestChatTemplate: true } });

/** Values that some field takes, and others. */
const usual = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    0,
    1,
    2,
    -1,
    0.5,
    16,
    1e300,
    -0,
    "",
    "a",
    "auto",
    "none",
    "float",
    [],
    {},
  ),
  fc.constantFrom<unknown>(["a"], [1, 2], [[1], [2]], [[]], [null], { type: "function" }, { include_usage: true }),
  fc.constantFrom<unknown>(
    [{ role: "user", content: "a" }],
    [{ role: "assistant", content: null, tool_calls: [{ id: "a", function: { name: "f", arguments: "{" } }] }],
    [
      {
        role: "tool",
        tool_call_id: "a",
        content: [
          { type: "text", text: "\ud800" },
          { type: "text", text: "b" },
        ],
      },
    ],
    [{ type: "function", function: { name: "f" } }],
    { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [{ function: { name: "f" } }] } },
  ),
  fc.integer(),
  fc.string({ unit: "binary" }),
  fc.jsonValue({ maxDepth: 3 }),
);

/** What a route needs, so that more of the bodies come to its end. */
const needed: Record<string, object> = {
  createCompletion: { prompt: "a" },
  createChatCompletion: { messages: [{ role: "user", content: "a" }] },
  createEmbedding: { input: "a" },
  classify: { input: "a" },
};

for (const { method, urls, operation, body } of apiRoutes) {
  if (method !== "POST" || body === undefined) continue;
  test(`${operation} answers any body with a declared status`, async () => {
    const fields = [
      ...Object.keys(body.shape),
      ...Object.keys(unsupportedFields),
      "constructor",
      "toString",
      "made_up",
    ];
    const bodies = fc.tuple(
      fc.boolean(),
      fc.dictionary(fc.constantFrom(...fields), usual, { maxKeys: 4, noNullPrototype: true }),
    );
    const seen = new Set<number>();
    await fc.assert(
      fc.asyncProperty(bodies, async ([isComplete, given]) => {
        const payload = JSON.stringify(isComplete ? { ...needed[operation], ...given } : given);
        const headers = { "content-type": "application/json" };
        const response = await app.inject({ method, url: urls[0] as string, headers, payload });
        seen.add(response.statusCode);
        if (response.statusCode === 200) return;
        assert.ok(errorStatuses.includes(response.statusCode), `${response.statusCode} for ${payload}`);
        assert.ok(response.statusCode < 500, `${response.body} for ${payload}`);
        errorAnswer.parse(response.json());
        assert.ok(response.body.length < 5000);
      }),
      { numRuns: 300 },
    );
    assert.equal(model.taken, 0);
    assert.ok(seen.has(400));
  });
}
