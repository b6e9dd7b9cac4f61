import assert from "node:assert/strict";
import { availableParallelism, networkInterfaces } from "node:os";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { silentLogger } from "../../dist/base/logger.js";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import { readLaunchEnvironment } from "../../dist/launch/environment.js";
import { type Met, rendezvous } from "../../dist/launch/rendezvous.js";
import { startRun } from "../launch/processes.js";
import { demoModel } from "../support/fixtures.js";
import type { RankTask } from "../support/rank_process.js";
import { endRanks, launchVariables, RankProcess } from "../support/ranks.js";

// Where ranks that are processes find each other and what they take of their host, and what those hear that only follow.

const task: RankTask = { models: [demoModel], tpSize: 2, prompt: [5, 6, 7, 8, 9], maxNewTokens: 12 };
const command = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

test("ranks meet and compute at an address of IPv6", { skip: !hasIpv6 && "this host has no ::1" }, async () => {
  const variables = await launchVariables(2);
  const ranks = [0, 1].map((rank) => new RankProcess(task, { ...variables(rank), MASTER_ADDR: "::1" }));
  try {
    await Promise.all(ranks.map(({ ended }) => ended));
    for (const rank of ranks)
      assert.ok(
        rank.events.some(({ event }) => event === "done"),
        JSON.stringify(rank.events),
      );
  } finally {
    await endRanks(ranks);
  }
});

test("replicas of one rank each share the processors of their host", async () => {
  const generate = [command, "generate", demoModel, "--prompt", "It is", "--device", "cpu", "--verbose"];
  const { status, stderr } = await startRun(["--nproc-per-node", "2", ...generate]).ended;
  assert.equal(status, 0, stderr);
  const threads = [...stderr.matchAll(/^\[rank (\d)\] .*Loaded opt on cpu: .*?(\d+) threads?,/gm)].map(
    ([, rank, count]) => [Number(rank), Number(count)],
  );
  const share = Math.max(1, Math.floor(availableParallelism() / 2));
  assert.deepEqual(threads.sort(), [
    [0, share],
    [1, share],
  ]);
});

describe("the group is over for", () => {
  /** Rank 1, played by this process: it meets rank 0, with what it is told to say. */
  function meet(place: LaunchEnvironment, data: unknown): Promise<Met> {
    const secret = Buffer.from("the secret of the tests");
    return rendezvous(place, data, { secret, logger: silentLogger, timeoutMs: 60_000 });
  }

  test("rank 0 within commTimeoutMs where a rank that it has met never connects", async () => {
    const variables = await launchVariables(2);
    const place = readLaunchEnvironment(variables(1)) as LaunchEnvironment;
    const options = { commTimeoutMs: 1000, rendezvousTimeoutMs: 60_000 };
    const leader = new RankProcess({ ...task, options, retry: true }, variables(0));
    try {
      // The first time only to hear what rank 0 says of itself, which the second time agrees with.
      const refused = { failure: { code: "ERR_CHECKPOINT", message: "not yet" } };
      const [said] = (await meet(place, { device: "cpu", kvCachePages: 0, settings: {}, ...refused })).members;
      await leader.waitFor("failed");
      await meet(place, said?.data);
      await leader.ended;
      const failures = leader.events.filter(({ event }) => event === "failed");
      assert.equal(failures.length, 2, JSON.stringify(leader.events));
      assert.equal(failures[1]?.code, "ERR_COMM");
      assert.match(failures[1]?.message as string, /did not connect: 1/);
      assert.ok((failures[1]?.afterMs as number) < 10_000);
    } finally {
      await endRanks([leader]);
    }
  });

  test("a rank that only waits in dispose(), which says so once", async () => {
    const variables = await launchVariables(2);
    const driver = new RankProcess({ ...task, forever: true }, variables(0));
    const follower = new RankProcess({ ...task, onlyDisposes: true }, variables(1));
    try {
      await follower.waitFor("ready");
      await driver.waitFor("tokens");
      driver.kill("SIGKILL");
      const failure = await follower.waitFor("failed");
      assert.equal(failure?.code, "ERR_COMM", JSON.stringify(follower.events));
      assert.match(failure?.message as string, /rank 0 is gone/);
      assert.equal((await follower.ended).code, 0, follower.stderr);
    } finally {
      await endRanks([driver, follower]);
    }
  });
});
