import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import { findGroup, type GroupPlace, openLeaderListener } from "../../dist/launch/group.js";
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
