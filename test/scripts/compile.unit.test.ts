import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { root } from "../package/programs.js";

// scripts/compile.mjs, on a project of two files.

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shardspeed-test-"));
  const compilerOptions = {
    composite: true,
    rootDir: "source",
    outDir: "output",
    tsBuildInfoFile: "output/.tsbuildinfo",
    types: [],
    lib: ["es2023"],
    skipLibCheck: true,
  };
  await mkdir(path.join(folder, "source"));
  await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["source"] }));
  await writeFile(path.join(folder, "source/kept.ts"), "export const kept = 1;\n");
  await writeFile(path.join(folder, "source/removed.ts"), "export const removed = 1;\n");
});
after(() => rm(folder, { recursive: true }));

function compile(): number | null {
  const script = path.join(root, "scripts/compile.mjs");
  return spawnSync(process.execPath, [script, path.join(folder, "tsconfig.json")], { encoding: "utf8" }).status;
}

const output = (name: string) => path.join(folder, "output", name);

test("outputs whose source is gone are removed, lost ones written again", async () => {
  assert.equal(compile(), 0);
  assert.ok(existsSync(output("removed.js")));
  await rm(path.join(folder, "source/removed.ts"));
  await rm(output("kept.js"));
  assert.equal(compile(), 0);
  assert.ok(existsSync(output("kept.js")));
  for (const name of ["removed.js", "removed.d.ts"]) assert.ok(!existsSync(output(name)), name);
});

test("an error fails, each time, and leaves an old date", async () => {
  await writeFile(path.join(folder, "source/kept.ts"), 'export const kept: number = "a";\n');
  for (let i = 0; i < 2; i++) {
    assert.notEqual(compile(), 0);
    assert.equal((await stat(output(".tsbuildinfo"))).mtimeMs, 0);
  }
  await writeFile(path.join(folder, "source/kept.ts"), "export const kept = 2;\n");
  assert.equal(compile(), 0);
  assert.notEqual((await stat(output(".tsbuildinfo"))).mtimeMs, 0);
});
