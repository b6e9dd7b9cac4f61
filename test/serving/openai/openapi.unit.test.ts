import assert from "node:assert/strict";
import { test } from "node:test";
import { errorStatuses } from "../../../dist/serving/routes/openai/errors.js";
import { buildOpenApi, describeRoutes } from "../../../dist/serving/routes/openai/openapi.js";
import { apiRoutes } from "../../../dist/serving/routes/openai/routes.js";
import { FakeModel, makeApp } from "./fake_model.js";

interface Operation {
  operationId: string;
  requestBody?: { content: Record<string, { schema: { properties: object; required?: string[] } }> };
  responses: Record<string, { description: string; content: Record<string, { schema: unknown }> }>;
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

const app = await makeApp([new FakeModel()]);
const document = (await app.inject("/openapi.json")).json() as Document;
const operations = Object.values(document.paths).flatMap((path) => Object.values(path));

test("the document has every URL of every route, each with a name of its own", () => {
  assert.equal(document.openapi, "3.1.0");
  const urls = apiRoutes.flatMap((route) => route.urls);
  assert.equal(operations.length, urls.length);
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, urls.length);
  assert.ok(document.paths["/v1/models/{id}"]?.get);
});

test("it has the fields that requests are checked for", () => {
  for (const { urls, body } of apiRoutes) {
    if (body === undefined) continue;
    const schema = document.paths[urls[0] as string]?.post?.requestBody?.content["application/json"]?.schema;
    assert.deepEqual(Object.keys(schema?.properties ?? {}), Object.keys(body.shape));
  }
  const chat = document.paths["/v1/chat/completions"]?.post?.requestBody?.content["application/json"]?.schema;
  assert.deepEqual(chat?.required, ["messages"]);
});

test("it declares every status that may come, with a text, and the form of errors", () => {
  for (const { responses } of operations) {
    assert.deepEqual(
      Object.keys(responses).map(Number),
      [200, ...errorStatuses].sort((one, other) => one - other),
    );
    for (const [status, { description, content }] of Object.entries(responses)) {
      assert.ok(description.length > 0, status);
      if (status !== "200")
        assert.deepEqual(content["application/json"]?.schema, { $ref: "#/components/schemas/Error" });
    }
  }
  assert.ok(document.components.schemas.Error);
  const streams = operations.filter(({ responses }) => responses[200]?.content["text/event-stream"]);
  assert.equal(streams.length, apiRoutes.filter(({ chunk }) => chunk !== undefined).length);
});

test("its references lead somewhere", () => {
  const text = JSON.stringify(document);
  for (const [, name = ""] of text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)) {
    assert.ok(document.components.schemas[name], name);
  }
  assert.ok(!/"\$ref":"#\/(?!components)/.test(text));
});

test("it has no routes that are switched off, and can be switched off itself", async () => {
  const settings = { tokenizerInfo: false };
  const other = (await (await makeApp([new FakeModel()], { settings })).inject("/openapi.json")).json() as Document;
  assert.ok(!("/tokenizer_info" in other.paths));
  assert.ok("/tokenizer_info" in (buildOpenApi([describeRoutes(apiRoutes)]) as Document).paths);
  const off = await makeApp([new FakeModel()], { settings: { openApiDocument: false } });
  assert.equal((await off.inject("/openapi.json")).statusCode, 404);
});
