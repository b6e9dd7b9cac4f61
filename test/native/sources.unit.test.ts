import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { mostRanks } from "../../dist/native/limits.js";
import { root } from "./native_build.js";

// Which folder of the C++ sources may include which. "." are the headers of src/ itself, such as backend.h.
const mayInclude: Record<string, string[]> = {
  base: [],
  ".": ["base", "model"],
  model: ["base", "."],
  comm: ["base"],
  grammar: ["base", "."],
  cpu: ["base", ".", "model", "comm"],
  runtime: ["base", ".", "model", "comm", "cpu"],
  cuda: ["base", ".", "model", "comm"],
  binding: ["base", ".", "model", "comm", "cpu", "grammar", "runtime", "cuda"],
};

function sourcesOf(folder: string): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => /\.(h|cpp|cu|cuh|inc)$/.test(file))
    .map((file) => path.join(folder, file));
}

/** The folder of a file named as #include names it. */
function roomOf(name: string): string {
  return path.dirname(name).split("/")[0] ?? ".";
}

function includesOf(file: string): string[] {
  const text = readFileSync(path.join(root, file), "utf8");
  return [...text.matchAll(/^#include "([^"]+)"/gm)].map((match) => match[1] ?? "");
}

test("includes between the folders of the C++ sources go one way", () => {
  const wrong: string[] = [];
  const files = ["src", "cuda", "binding"].flatMap(sourcesOf);
  assert.ok(files.length > 100);
  for (const file of files) {
    const room = roomOf(file.replace(/^src\//, ""));
    for (const name of includesOf(file)) {
      const target = roomOf(name);
      if (target in mayInclude && target !== room && !mayInclude[room]?.includes(target))
        wrong.push(`${file}: ${name}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("C++ tests start threads by TestThreads, which reports what they throw", () => {
  const files = sourcesOf("test/native").filter((file) => !path.basename(file).startsWith("test_threads."));
  const bare = files.filter((file) =>
    /std::(j?thread\b(?!::id)|async\b)/.test(readFileSync(path.join(root, file), "utf8")),
  );
  assert.deepEqual(bare, []);
});

test("TypeScript refuses groups of the sizes that C++ has no room for", () => {
  const [, most] =
    /constexpr int kMostRanks = (\d+);/.exec(readFileSync(path.join(root, "src/comm/group.h"), "utf8")) ?? [];
  assert.equal(mostRanks, Number(most));
});
