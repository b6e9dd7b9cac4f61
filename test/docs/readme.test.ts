import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { architectures } from "../../dist/models/index.js";
import { root, runProgram } from "../package/programs.js";

const require = createRequire(import.meta.url);

describe("the quick start of README.md", () => {
  // Inside the package, so that "shardspeed" is the package itself.
  const folder = path.join(root, "build-test", `quick-start-${process.pid}`);

  before(async () => {
    const readme = await readFile(path.join(root, "README.md"), "utf8");
    const code = /^## Quick start$[\s\S]*?^```ts$\n([\s\S]*?)^```$/m.exec(readme)?.[1];
    assert.ok(code, "README.md has a TypeScript block under ## Quick start");
    const compilerOptions = {
      target: "es2023",
      lib: ["es2023", "esnext.disposable"],
      module: "nodenext",
      strict: true,
      types: ["node"],
    };
    await mkdir(folder);
    await writeFile(path.join(folder, "quick_start.ts"), code);
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["quick_start.ts"] }));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  test("compiles and runs", async () => {
    const tsc = await runProgram(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", folder], root);
    assert.equal(tsc.status, 0, tsc.stdout);
    const outcome = await runProgram(process.execPath, [path.join(folder, "quick_start.js")], root);
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stdout, /^ to it\. It is a very small thing/);
  });
});

test("the table of README.md names the architectures that there are", async () => {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const row = /^\| Architectures \| ([^(|]+)/m.exec(readme)?.[1] ?? "";
  const named = row.split(",").map((name) => name.toLowerCase().replace(/[^a-z0-9]/g, ""));
  assert.deepEqual(
    named.sort(),
    architectures()
      .map(({ modelType }) => modelType.replace(/[^a-z0-9]/g, ""))
      .sort(),
  );
});
