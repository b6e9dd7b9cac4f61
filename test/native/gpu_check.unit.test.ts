import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { root } from "./native_build.js";

// scripts/gpu-check.sh as far as it goes without a GPU.

function gpuCheck(args: string[], path = process.env.PATH) {
  return spawnSync("/bin/bash", ["scripts/gpu-check.sh", ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, PATH: path },
  });
}

test("gpu-check.sh is a script that bash reads", () => {
  const { status, stderr } = spawnSync("/bin/bash", ["-n", "scripts/gpu-check.sh"], { cwd: root, encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("gpu-check.sh lists its options", () => {
  const { status, stdout } = gpuCheck(["--help"]);
  assert.equal(status, 0);
  for (const option of ["--toolkit", "--device", "--out", "--quick", "--skip-sanitizer", "--skip-bench"])
    assert.ok(stdout.includes(option), option);
});

test("gpu-check.sh says what it found and what it expected", () => {
  for (const [args, message] of [
    [["--fast"], /^Found --fast, expected one of the options that --help lists/],
    [["--out"], /^--out needs a value/],
    [["--toolkit", "/nowhere"], /^gpu-check: --toolkit \/nowhere has no bin\/nvcc\./],
  ] as const) {
    const { status, stderr } = gpuCheck([...args]);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});
