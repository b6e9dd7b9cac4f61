import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { architectures } from "../../dist/models/index.js";
import { root } from "../package/programs.js";

test("README.md has a table of the architectures that there are", async () => {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const [, table = ""] = /^## Architectures\n\n((?:\|.*\n)+)/m.exec(readme) ?? [];
  const rows = architectures().map(({ modelType, summary }) => `| \`${modelType}\` | ${summary} |`);
  assert.deepEqual(table.trimEnd().split("\n"), ["| `model_type` | what |", "|---|---|", ...rows]);
});
