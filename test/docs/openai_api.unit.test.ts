import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { errorStatuses, toApiError } from "../../dist/serving/routes/openai/errors.js";
import { chatSchema, completionSchema, embeddingSchema } from "../../dist/serving/routes/openai/fields.js";
import { apiRoutes } from "../../dist/serving/routes/openai/routes.js";
import { type BodyRoute, harmlessFields, unsupportedFields } from "../../dist/serving/routes/openai/unsupported.js";
import { ServingError, type ServingErrorCode, servingStatuses } from "../../dist/serving/serving_error.js";
import { root } from "../package/programs.js";

const page = readFileSync(path.join(root, "docs/openai-api.md"), "utf8");
const schemas = { completions: completionSchema, chat: chatSchema, embeddings: embeddingSchema };
const columns = Object.keys(schemas) as BodyRoute[];

/** What becomes of a field, in the table's words. */
function fate(route: BodyRoute, field: string): string {
  const isKnown = Object.hasOwn(schemas[route].shape, field);
  const isRefused = unsupportedFields[field]?.routes.includes(route) === true;
  if (isKnown) return isRefused ? "in part" : "followed";
  if (isRefused) return "refused";
  return harmlessFields[route].includes(field) ? "no effect" : "";
}

test("docs/openai-api.md has every field, and what becomes of it", () => {
  const rows = [...page.matchAll(/^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|[^|]*\|$/gm)];
  const documented = Object.fromEntries(
    rows.map(([, name, ...cells]) => [name, cells.slice(0, 3).map((one) => one.trim())]),
  );
  const names = new Set([
    ...columns.flatMap((route) => [...Object.keys(schemas[route].shape), ...harmlessFields[route]]),
    ...Object.keys(unsupportedFields),
  ]);
  const expected = Object.fromEntries([...names].map((name) => [name, columns.map((route) => fate(route, name))]));
  assert.deepEqual(documented, expected);
});

test("it has every route", () => {
  const documented = [...page.matchAll(/^\| `(GET|POST) (\S+)` \|/gm)].map(([, method, url]) => `${method} ${url}`);
  const expected = apiRoutes.map(({ method, urls }) => `${method} ${urls[0]?.replace("*", "{id}")}`);
  assert.deepEqual(documented.sort(), expected.sort());
  for (const url of apiRoutes.flatMap(({ urls }) => urls.slice(1))) assert.ok(page.includes(`\`${url}\``), url);
});

test("it has every status, and the codes of the server's own failures with theirs", () => {
  const rows = [...page.matchAll(/^\| (\d[\d, ]+) \| ([^|]+) \|/gm)];
  const statuses = rows.flatMap(([, cell = ""]) => cell.split(", ").map(Number));
  assert.deepEqual([...new Set(statuses)].sort(), [...errorStatuses, 405].sort());
  for (const code of Object.keys(servingStatuses) as ServingErrorCode[]) {
    const failure = toApiError(new ServingError(code, "Why."), { queueFullStatus: 503 });
    const row = rows.find(
      ([, cell = "", codes = ""]) => cell.includes(String(failure.status)) && codes.includes(failure.code),
    );
    assert.ok(row, `${failure.status} ${failure.code}`);
  }
});
