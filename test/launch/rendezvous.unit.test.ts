import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import type { Met } from "../../dist/launch/rendezvous.js";
import { assertFails, assertMet, type Changes, meet, watchResources } from "./meeting_support.js";
import { waitFor } from "./processes.js";
import { makePlaces } from "./support.js";

watchResources();

for (let size = 1; size <= 8; size++) {
  test(`${size} ranks meet`, async () => {
    assertMet(await Promise.all(makePlaces(size).map((place) => meet(place))));
  });
}

test("32 ranks meet that come in any order and at any time", async () => {
  const places = makePlaces(32);
  const shuffled = [...places].sort(() => Math.random() - 0.5);
  const outcomes = new Array<Met>(places.length);
  await Promise.all(
    shuffled.map(async (place, index) => {
      await sleep(index * 20);
      outcomes[place.rank] = await meet(place);
    }),
  );
  assertMet(outcomes);
});

test("a late rank 0, and a late other", async () => {
  const [zero, one, two] = makePlaces(3) as [LaunchEnvironment, LaunchEnvironment, LaunchEnvironment];
  const first = meet(one);
  await sleep(700);
  const second = meet(zero);
  await sleep(1200);
  assertMet(await Promise.all([second, first, meet(two)]));
});

test("data of any kind and of some size come through as they are", async () => {
  const values = [null, '\u2028\n"ä', { list: [1.5, -0, { deep: [] }], ["__proto__"]: 1 }, "x".repeat(900_000)];
  const outcomes = await Promise.all(makePlaces(4).map((place) => meet(place, { data: values[place.rank] })));
  const expected = values.map((value) => JSON.parse(JSON.stringify(value)));
  for (const { members } of outcomes)
    assert.deepEqual(
      members.map(({ data }) => data),
      expected,
    );
  const [alone] = makePlaces(1) as [LaunchEnvironment];
  assert.equal((await meet(alone, { data: null })).members[0]?.data, null);
  await assertFails(meet(alone, { data: "x".repeat(2 ** 20) }), "ERR_INVALID_ARGUMENT", /at most/);
});

test("names and addresses that mean this host", async () => {
  const hasIpv6 = Object.values(networkInterfaces()).some((found) => found?.some(({ address }) => address === "::1"));
  for (const masterAddr of ["localhost", "127.0.0.1", "127.0.0.2", ...(hasIpv6 ? ["::1"] : [])]) {
    const outcomes = await Promise.all(makePlaces(2, { masterAddr }).map((place) => meet(place)));
    const address = masterAddr === "localhost" ? "127.0.0.1" : masterAddr;
    for (const { members } of outcomes)
      assert.deepEqual(
        members.map((member) => member.address),
        [address, address],
      );
  }
});

test("an address of this host that others reach too: it listens there, and says so for the ranks beside it", async (context) => {
  const outside = Object.values(networkInterfaces()).flatMap((found) => found ?? []);
  const masterAddr = outside.find(({ internal, family }) => !internal && family === "IPv4")?.address;
  if (masterAddr === undefined) return context.skip("this host has no address but those of its own");
  const logged: string[] = [];
  const places = makePlaces(2, { masterAddr, localRank: 0, localWorldSize: 1 });
  for (const { members } of await Promise.all(places.map((place) => meet(place, { logged })))) {
    assert.deepEqual(
      members.map(({ address }) => address),
      [masterAddr, masterAddr],
    );
  }
  assert.match(logged.join("\n"), new RegExp(`listening at ${masterAddr} port`));
});

test("a name that rank 0 does not know, or an address that is not its own: it listens everywhere", async () => {
  for (const masterAddr of ["no-such-host.invalid", "192.0.2.1"]) {
    const [zero, one] = makePlaces(2, { localRank: 0, localWorldSize: 1 }) as [LaunchEnvironment, LaunchEnvironment];
    const logged: string[] = [];
    await Promise.all([meet({ ...zero, masterAddr }, { logged }), meet(one)]);
    assert.match(logged.join("\n"), /listening at (::|0\.0\.0\.0) port/);
  }
});

test("a pod of rank 0 that is told localhost is still found by the others", async () => {
  const [zero, one] = makePlaces(2, { localRank: 0, localWorldSize: 1 }) as [LaunchEnvironment, LaunchEnvironment];
  const logged: string[] = [];
  const pod = { ...zero, masterAddr: "localhost", launcher: "kubernetes" } as const;
  await Promise.all([meet(pod, { logged }), meet(one)]);
  assert.match(logged.join("\n"), /listening at (::|0\.0\.0\.0) port/);
  // Without that reason nobody outside of this host can reach it.
  logged.length = 0;
  const places = makePlaces(2, { localRank: 0, localWorldSize: 1 });
  await Promise.all(places.map((place) => meet(place, { logged })));
  assert.match(logged.join("\n"), /listening at 127\.0\.0\.1 port/);
});

describe("meetings one after another and side by side", () => {
  test("do not mix", async () => {
    const places = makePlaces(4);
    const keys = new Set<string>();
    await Promise.all(
      places.map(async (place) => {
        for (let sequence = 0; sequence < 5; sequence++) {
          const { members, sessionKey } = await meet(place, { data: sequence });
          assert.deepEqual(
            members.map(({ data }) => data),
            [sequence, sequence, sequence, sequence],
          );
          keys.add(sessionKey.toString("hex"));
        }
      }),
    );
    assert.equal(keys.size, 5);
  });

  test("of different groups on ports that overlap, with different secrets or the same", async () => {
    const first = makePlaces(3);
    const second = first.map((place) => ({ ...place, launchId: "second" }));
    const third = first.map((place) => ({ ...place, masterPort: place.masterPort + 1 }));
    const outcomes = await Promise.all([...first, ...second, ...third].map((place) => meet(place)));
    for (const from of [0, 3, 6]) assertMet(outcomes.slice(from, from + 3));
    // Same port and all: rank 0 of the second one moves on to the next port, and the ranks tell the two apart by the secret.
    const other = Buffer.from("the secret of some others");
    const users = [...first.map((place) => meet(place)), ...first.map((place) => meet(place, { secret: other }))];
    const met = await Promise.all(users);
    assertMet(met.slice(0, 3));
    assertMet(met.slice(3));
  });
});

describe("a rank that does not belong to the others", () => {
  const cases: [string, Partial<LaunchEnvironment>, Changes, RegExp, RegExp][] = [
    [
      "another secret",
      {},
      { secret: Buffer.from("another one") },
      /the shared secret differs.*SHARDSPEED_SECRET/,
      /the shared secret differs/,
    ],
    ["another world size", { worldSize: 4 }, {}, /rank 1 has WORLD_SIZE=4, rank 0 has 3/, /WORLD_SIZE=4/],
    ["the rank of another", { rank: 2 }, {}, /there is a rank 2 already/, /there is a rank 2 already/],
  ];
  for (const [name, change, changes, told, logs] of cases) {
    test(`${name}: it is told, rank 0 logs it, and the meeting goes on`, async () => {
      const [zero, one, two] = makePlaces(3) as [LaunchEnvironment, LaunchEnvironment, LaunchEnvironment];
      const logged: string[] = [];
      const others = [meet(zero, { logged }), meet(two)];
      await waitFor(() => logged.some((line) => /Rank 2 has come/.test(line)), "rank 2 came");
      await assertFails(meet({ ...one, ...change }, changes), "ERR_COMM", told);
      const warnings = logged.filter((line) => line.startsWith("warning"));
      assert.equal(warnings.length, 1, warnings.join("\n"));
      assert.match(warnings[0] ?? "", logs);
      assertMet(await Promise.all([others[0], meet(one), others[1]] as Promise<Met>[]));
    });
  }
});

describe("time limit and signal", () => {
  test("rank 0 alone says who is missing and where it waited", async () => {
    const [zero] = makePlaces(4) as [LaunchEnvironment];
    const message = new RegExp(
      `within 0.3 s: of 4 ranks 0 came, missing: 1 to 3 \\(listening at 127.0.0.1 port ${zero.masterPort}\\)`,
    );
    await assertFails(meet(zero, { timeoutMs: 300 }), "ERR_COMM", message);
  });

  test("rank 0 says whom it has refused, as that may be the one that is missing", async () => {
    const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    const message = /missing: 1 \(.*\)\. Rank 0 refused a connection from 127\.0\.0\.1 .*rank 1 has WORLD_SIZE=4/;
    const waiting = assertFails(meet(zero, { timeoutMs: 2000 }), "ERR_COMM", message);
    await assertFails(meet({ ...one, worldSize: 4 }), "ERR_COMM", /WORLD_SIZE=4/);
    await waiting;
  });

  test("another alone says where it looked and what was there", async () => {
    const [, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    const range = `port ${one.masterPort} to ${one.masterPort + 15}`;
    const message = new RegExp(`rank 1 has not found rank 0 at 127.0.0.1: nobody listens \\(${range}\\)`);
    await assertFails(meet(one, { timeoutMs: 300 }), "ERR_COMM", message);
  });

  test("a host that is not known, or not yet", async () => {
    const [, one] = makePlaces(2, { masterAddr: "no-such-host.invalid" }) as [LaunchEnvironment, LaunchEnvironment];
    await assertFails(meet(one, { timeoutMs: 300 }), "ERR_COMM", /rank 0 at no-such-host\.invalid/);
  });

  test("all who came are told who did not", async () => {
    const places = makePlaces(5).filter(({ rank }) => rank !== 1 && rank !== 3);
    const outcomes = places.map((place) => meet(place, { timeoutMs: 2500 }));
    await Promise.all(
      outcomes.map((outcome) => assertFails(outcome, "ERR_COMM", /of 5 ranks 0, 2, 4 came, missing: 1, 3/)),
    );
  });

  test("a cancelled rank says so to the others", async () => {
    for (const cancelled of [0, 2]) {
      const controller = new AbortController();
      const logged: string[] = [];
      const places = makePlaces(4).filter(({ rank }) => rank !== 1);
      const outcomes = places.map((place) =>
        meet(place, { logged, ...(place.rank === cancelled ? { signal: controller.signal } : {}) }),
      );
      const settled = Promise.allSettled(outcomes);
      await waitFor(() => logged.filter((line) => /has come/.test(line)).length === 2, "two ranks came");
      const reason = new Error("enough");
      controller.abort(reason);
      await settled;
      for (const [index, { rank }] of places.entries()) {
        if (rank === cancelled) {
          await assertFails(outcomes[index] as Promise<Met>, "ERR_ABORTED", /cancelled by its signal/);
          await assert.rejects(outcomes[index] as Promise<Met>, { cause: reason });
        } else {
          await assertFails(
            outcomes[index] as Promise<Met>,
            "ERR_COMM",
            new RegExp(`Rank ${cancelled} .*it was cancelled there`),
          );
        }
      }
    }
  });

  test("a signal that was given before, and one while rank 0 is looked for", async () => {
    const [zero, one] = makePlaces(2) as [LaunchEnvironment, LaunchEnvironment];
    await assertFails(meet(zero, { signal: AbortSignal.abort() }), "ERR_ABORTED", /cancelled/);
    for (const place of [zero, one]) {
      const controller = new AbortController();
      const outcome = meet(place, { signal: controller.signal });
      setTimeout(() => controller.abort(), 120);
      await assertFails(outcome, "ERR_ABORTED", /cancelled/);
    }
  });
});
