import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { root } from "../package/programs.js";

// test/run.mjs itself, on a file of two tests that need nothing.

function runTests(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["test/run.mjs", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return { status, output: `${stdout}${stderr}` };
}

test("--name shows and counts the tests of that name only", () => {
  const { status, output } = runTests("--name", "as torch takes", "options/seed", "options/nothing");
  assert.equal(status, 0, output);
  assert.match(output, /✔ seeds as torch takes them/);
  assert.doesNotMatch(output, /without manualSeed/);
  assert.match(output, /tests 1\n/);
  assert.match(output, /pass 1\n/);
  assert.match(output, /skipped 0\n/);
});

test("a name or a part of a file name that nothing has is a failure", () => {
  const name = runTests("--name", "no test has this name", "options/seed");
  assert.equal(name.status, 1);
  assert.match(name.output, /No test's name matches no test has this name/);
  const file = runTests("no file has this name");
  assert.equal(file.status, 1);
  assert.match(file.output, /No test file in .* matches no file has this name/);
});

test("--unit leaves out the files that need the addon", () => {
  const { status, output } = runTests("--unit", "engine/lifecycle");
  assert.equal(status, 1);
  assert.match(output, /No test file/);
});

test("--times lists how long files took", () => {
  const { status, output } = runTests("--times", "options/seed");
  assert.equal(status, 0, output);
  assert.match(output, /^\d+\.\d s in 1 files, the longest:\n +\d+\.\d s {2}options\/seed\.unit\.test\.js$/m);
});

test("unit tests get an addon that cannot be loaded", () => {
  assert.match(process.env.SHARDSPEED_BINDING ?? "", /a unit test needs no addon/);
});
