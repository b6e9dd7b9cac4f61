import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { meetingRank, type Running, startProgram, startRun, waitFor } from "./processes.js";
import { makePlaces } from "./support.js";

const running: Running[] = [];
afterEach(async () => {
  for (const { child } of running) child.kill("SIGKILL");
  await Promise.all(running.splice(0).map(({ ended }) => ended));
});

/** Starts these ranks of a world as processes. */
function startRanks(worldSize: number, ranks: number[]): Running[] {
  const places = makePlaces(worldSize);
  const started = ranks.map((rank) => {
    const { masterAddr, masterPort } = places[rank] as (typeof places)[number];
    return startProgram(process.execPath, [meetingRank], {
      RANK: String(rank),
      WORLD_SIZE: String(worldSize),
      LOCAL_RANK: String(rank),
      LOCAL_WORLD_SIZE: String(worldSize),
      MASTER_ADDR: masterAddr,
      MASTER_PORT: String(masterPort),
      SHARDSPEED_SECRET: "the secret of these tests",
    });
  });
  running.push(...started);
  return started;
}

for (const size of [1, 2, 5]) {
  test(`${size} processes meet twice, and end by themselves`, async () => {
    const launched = startRun(["--nproc-per-node", String(size), "--no-prefix", meetingRank, "2"]);
    running.push(launched);
    const { status, stdout, stderr } = await launched.ended;
    assert.equal(status, 0, stderr);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(lines.length, 2 * size);
    for (const sequence of [0, 1]) {
      const met = lines.filter((line) => line.sequence === sequence);
      assert.deepEqual(
        met.map(({ rank }) => rank).sort(),
        Array.from({ length: size }, (_, rank) => rank),
      );
      const members = Array.from({ length: size }, (_, rank) => ({ rank, sequence }));
      for (const line of met) {
        assert.deepEqual(line.members, members);
        assert.equal(line.launcher, "shardspeed");
      }
      if (size > 1) assert.equal(new Set(met.map(({ key }) => key)).size, 1);
    }
  });
}

describe("a process that is killed while others are awaited", () => {
  test("is named to all who have come", async () => {
    const [zero, one, two] = startRanks(4, [0, 1, 2]) as [Running, Running, Running];
    await waitFor(() => /3 of 4/.test(zero.written.stderr), "three ranks came");
    one.child.kill("SIGKILL");
    for (const { ended } of [zero, two]) {
      const { error } = JSON.parse((await ended).stdout);
      assert.equal(error.code, "ERR_COMM");
      assert.match(
        error.message,
        /^Rank 1 went away before all 4 ranks had met|^Rank 0 ended the meeting: Rank 1 went away/,
      );
    }
  });

  test("may be rank 0", async () => {
    const [zero, one, two] = startRanks(4, [0, 1, 2]) as [Running, Running, Running];
    await waitFor(() => /3 of 4/.test(zero.written.stderr), "three ranks came");
    zero.child.kill("SIGKILL");
    for (const { ended } of [one, two]) {
      const { error } = JSON.parse((await ended).stdout);
      assert.equal(error.code, "ERR_COMM");
      assert.match(error.message, /^Rank 0 went away before all 4 ranks had met/);
    }
  });
});
