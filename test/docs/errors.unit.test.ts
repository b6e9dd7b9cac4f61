import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { errorCodes, httpStatuses } from "../../dist/base/errors.js";
import { root } from "../package/programs.js";

/** The second-level sections of a Markdown text: heading -> what follows it. */
function sections(markdown: string): Map<string, string> {
  const parts = markdown.split(/^## /m).slice(1);
  return new Map(
    parts.map((part) => {
      const end = part.indexOf("\n");
      return [part.slice(0, end).replaceAll("`", "").trim(), part.slice(end).trim()];
    }),
  );
}

test("docs/errors.md describes the codes of lib/base/errors.ts, all of them and no others", async () => {
  const documented = sections(await readFile(path.join(root, "docs/errors.md"), "utf8"));
  assert.deepEqual([...documented.keys()].sort(), Object.keys(errorCodes).sort());
  for (const [code, meaning] of Object.entries(errorCodes)) {
    assert.equal(documented.get(code)?.split("\n")[0], meaning, code);
  }
});

test("and the HTTP status of each", async () => {
  const markdown = await readFile(path.join(root, "docs/errors.md"), "utf8");
  const rows = [...markdown.matchAll(/^\| (ERR_\w+) \| (\d+) \|$/gm)].map(([, code, status]) => [code, Number(status)]);
  assert.deepEqual(Object.fromEntries(rows), httpStatuses);
  assert.deepEqual(Object.keys(httpStatuses), Object.keys(errorCodes));
  for (const status of Object.values(httpStatuses)) assert.ok(status >= 400 && status <= 599, String(status));
});
