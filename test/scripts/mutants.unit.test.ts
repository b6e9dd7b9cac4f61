import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { root } from "../package/programs.js";

// The lists of seeded faults, without sowing any: `npm run test:mutants` does that.

interface Seed {
  name: string;
  file: string;
  kind: string;
  problem?: string;
}

function listSeeds(...args: string[]): { status: number | null; seeds: Seed[] } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["scripts/test_mutants.mjs", "--list", "--json", ...args],
    { cwd: root, encoding: "utf8", maxBuffer: 2 ** 26 },
  );
  assert.ok(stdout !== "", stderr);
  return { status, seeds: JSON.parse(stdout) };
}

test("every seeded fault has its place in the code, once, and a test that is there", () => {
  const { status, seeds } = listSeeds();
  for (const { file, name, problem } of seeds) assert.equal(problem, undefined, `${file}: ${name}`);
  assert.equal(status, 0);
  assert.equal(new Set(seeds.map(({ file, name }) => `${file} ${name}`)).size, seeds.length);
});

test("faults of every kind are seeded in every part of the project", () => {
  const { seeds } = listSeeds();
  assert.ok(seeds.length >= 40, `found ${seeds.length}`);
  const rooms = ["lib/tokenizer/", "lib/models/", "lib/checkpoint/", "lib/deepspeed_config/", "lib/engine/"];
  rooms.push(
    "lib/archive/",
    "lib/launch/",
    "src/base/",
    "src/comm/",
    "src/cpu/",
    "src/model/",
    "src/runtime/",
    "cuda/",
  );
  for (const room of rooms) {
    const kinds = new Set(seeds.filter(({ file }) => file.startsWith(room)).map(({ kind }) => kind));
    assert.ok(kinds.size >= 2, `${room} has the kinds ${[...kinds].join(", ") || "none"}, expected at least two`);
  }
});

test("parts of paths choose among them", () => {
  const { seeds } = listSeeds("runtime/sampler");
  assert.ok(seeds.length > 0);
  for (const { file } of seeds) assert.match(file, /runtime\/sampler/);
  const none = spawnSync(process.execPath, ["scripts/test_mutants.mjs", "--list", "no_file_has_this_name"], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(none.status, 2);
  assert.match(none.stderr, /No seeded fault is in a file named no_file_has_this_name/);
});
