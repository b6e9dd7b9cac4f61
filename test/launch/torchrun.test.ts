import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { demoModel } from "../support/fixtures.js";
import { meetingRank, startProgram } from "./processes.js";

const torchrun = process.env.SHARDSPEED_TORCHRUN || "torchrun";
const found = spawnSync(torchrun, ["--help"], { stdio: "ignore" }).status === 0;
const missing = `${torchrun} cannot be run: install the Python package torch, or name its torchrun in SHARDSPEED_TORCHRUN`;

test("ranks that the real torchrun starts meet each other", { skip: found ? false : missing }, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-test-"));
  try {
    const args = ["--nproc_per_node", "2", "--no_python", process.execPath, meetingRank, "2"];
    const { status, stdout, stderr } = await startProgram(torchrun, args, { XDG_STATE_HOME: folder }).ended;
    assert.equal(status, 0, stderr);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(lines.length, 4, stdout);
    for (const { sequence, launcher, members } of lines) {
      assert.equal(launcher, "torchrun");
      assert.deepEqual(members, [
        { rank: 0, sequence },
        { rank: 1, sequence },
      ]);
    }
    assert.equal(new Set(lines.map(({ key }) => key)).size, 2);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("ranks that the real torchrun starts compute a model together", { skip: found ? false : missing }, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-test-"));
  try {
    const rank = fileURLToPath(new URL("../support/rank_process.js", import.meta.url));
    const task = JSON.stringify({ models: [demoModel], tpSize: 2, prompt: [5, 6, 7, 8, 9], maxNewTokens: 4 });
    const args = ["--nproc_per_node", "2", "--no_python", process.execPath, rank, task];
    const { status, stdout, stderr } = await startProgram(torchrun, args, { XDG_STATE_HOME: folder }).ended;
    assert.equal(status, 0, stderr);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const ready = events.filter(({ event }) => event === "ready");
    assert.deepEqual(ready.map(({ rank, driver }) => [rank, driver]).sort(), [
      [0, true],
      [1, false],
    ]);
    assert.equal(events.filter(({ event }) => event === "tokens").length, 1);
    assert.equal(events.filter(({ event }) => event === "done").length, 2);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
