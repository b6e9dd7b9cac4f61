import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { silentLogger } from "../../dist/base/logger.js";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import {
  describeReplicas,
  findGroup,
  type GroupPlace,
  meetGroup,
  openLeaderListener,
} from "../../dist/launch/group.js";
import { rendezvous } from "../../dist/launch/rendezvous.js";
import { initInference } from "../../dist/loading/init.js";
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

test("more processes than tp_size are a warning on the first of them, which says what to do", () => {
  const at = (rank: number, worldSize: number) => ({ ...(makePlaces(worldSize)[rank] as LaunchEnvironment) });
  for (const [tpSize, worldSize, message] of [
    [
      1,
      2,
      /^2 processes were started, and tp_size is 1: each loads the whole model, .*to 2 to divide it, or start one process$/,
    ],
    [
      2,
      4,
      /^4 processes .*tp_size is 2: each of 2 groups loads the whole model, .*to 4 to divide it, or start 2 processes$/,
    ],
    [2, 8, /each of 4 groups/],
  ] as const) {
    assert.match(describeReplicas(tpSize, at(0, worldSize)) ?? "", message);
    for (let rank = 1; rank < worldSize; rank++) assert.equal(describeReplicas(tpSize, at(rank, worldSize)), undefined);
  }
  assert.equal(describeReplicas(4, at(0, 4)), undefined);
  assert.equal(describeReplicas(1, at(0, 1)), undefined);
  assert.equal(describeReplicas(4, undefined), undefined);
});

test("initInference says so before it loads anything", async (t) => {
  const launch = { RANK: "0", WORLD_SIZE: "4", LOCAL_RANK: "0", LOCAL_WORLD_SIZE: "4", MASTER_ADDR: "127.0.0.1" };
  const before = Object.fromEntries(Object.keys(launch).map((name) => [name, process.env[name]]));
  t.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
  Object.assign(process.env, launch);
  for (const tpSize of [1, 2]) {
    const said: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void said.push(message) };
    await assert.rejects(initInference("/nowhere", { tpSize, logger, device: "cpu", rendezvousTimeoutMs: 50 }));
    assert.match(said[0] ?? "", /^4 processes were started/);
  }
});
