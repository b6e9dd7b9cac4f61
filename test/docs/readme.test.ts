import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { architectures } from "../../dist/models/index.js";
import { root } from "../package/programs.js";

test("README.md names the architectures that there are", async () => {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const named = /^- \*\*Architectures\*\*: ([^.]+)\./m.exec(readme)?.[1] ?? "";
  const found = architectures().map(({ modelType }) => modelType.replace(/[^a-z0-9]/g, ""));
  const words = named.split(",").map((name) => name.toLowerCase().replace(/[^a-z0-9]/g, ""));
  assert.deepEqual(words.sort(), found.sort());
});
