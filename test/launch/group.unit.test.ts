import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { silentLogger } from "../../dist/base/logger.js";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import { findGroup, type GroupPlace, meetGroup, openLeaderListener } from "../../dist/launch/group.js";
import { rendezvous } from "../../dist/launch/rendezvous.js";
import { makePlaces } from "./support.js";

function placeAt(masterAddr: string, changes: Partial<LaunchEnvironment> = {}): GroupPlace {
  const [launch] = makePlaces(2, { masterAddr, ...changes });
  return findGroup(2, launch) as GroupPlace;
}

/** Where the native side is told to listen, on a host that has only these interfaces. */
function listenedAt(place: GroupPlace, possible: string[]): string[] {
  const asked: string[] = [];
  openLeaderListener(place, {
    openListener: (host) => {
      asked.push(host);
      if (!possible.includes(host)) throw new Error(`there is no ${host}`);
      return { descriptor: 3, port: 1 };
    },
  });
  return asked;
}

describe("the port of rank 0's native side", () => {
  const all = ["::", "0.0.0.0", "::1", "127.0.0.1"];

  test("is where the others look for it: at the loopback address of MASTER_ADDR, of IPv6 too, and only there", () => {
    assert.deepEqual(listenedAt(placeAt("127.0.0.1"), all), ["127.0.0.1"]);
    assert.deepEqual(listenedAt(placeAt("localhost"), all), ["127.0.0.1"]);
    assert.deepEqual(listenedAt(placeAt("::1"), all), ["::1"]);
  });

  test("is at all interfaces where other hosts come, of IPv6 where there is that", () => {
    for (const address of ["gpu1", "10.0.0.1", "fd00::2"])
      assert.deepEqual(listenedAt(placeAt(address), all), ["::"], address);
    assert.deepEqual(listenedAt(placeAt("gpu1"), ["0.0.0.0", "127.0.0.1"]), ["::", "0.0.0.0"]);
  });

  test("is there for other pods too where only rank 0's is told localhost", () => {
    const pods: Partial<LaunchEnvironment> = { launcher: "kubernetes", localWorldSize: 1, localRank: 0 };
    assert.deepEqual(listenedAt(placeAt("localhost", pods), all), ["::"]);
    assert.deepEqual(listenedAt(placeAt("localhost", { launcher: "kubernetes" }), all), ["127.0.0.1"]);
  });
});

test("ranks that divide the model among different numbers of ranks do not start", async (t) => {
  const before = process.env.SHARDSPEED_SECRET;
  process.env.SHARDSPEED_SECRET = "the secret of these tests";
  t.after(() => {
    if (before === undefined) delete process.env.SHARDSPEED_SECRET;
    else process.env.SHARDSPEED_SECRET = before;
  });
  // Meetings of one process come one after the other, so the other ranks are played by rendezvous() itself.
  const places = makePlaces(4);
  const said = { device: "cpu", kvCachePages: 1, settings: {} };
  const options = {
    listener: -1,
    commTimeoutMs: 1000,
    rendezvousTimeoutMs: 30_000,
    signal: undefined,
    logger: silentLogger,
  };
  const secret = Buffer.from("the secret of these tests");
  const others = places
    .slice(1)
    .map((place) => rendezvous(place, { ...said, settings: { tp_size: 4 } }, { secret, logger: silentLogger }));
  const group = findGroup(2, places[0]) as GroupPlace;
  await assert.rejects(meetGroup(group, said, undefined, options), {
    code: "ERR_COMM",
    message: /different models or options: tp_size is 2 on rank 0 and 4 on rank 1/,
  });
  await Promise.all(others);
});
