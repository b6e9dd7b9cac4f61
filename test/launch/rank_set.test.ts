import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { readLines } from "../../dist/launch/lines.js";
import type { RankExit } from "../../dist/launch/rank_process.js";
import { type RankLine, RankSet, type RankSetOptions } from "../../dist/launch/rank_set.js";
import { failure } from "../archive/support.js";
import { findMarked, isRunning, plainEnvironment, waitFor } from "./processes.js";

const script = fileURLToPath(new URL("rank_script.js", import.meta.url));
const marker = `SHARDSPEED_TEST_MARKER=rank-set-${process.pid}`;
const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "exit"] as const;

after(() => {
  for (const pid of findMarked(marker)) process.kill(pid, "SIGKILL");
});

/** What a set has told. */
interface Told {
  started: [number, number][];
  lines: RankLine[];
  exited: RankExit[];
  failed: RankExit[];
  ended: (RankExit | undefined)[];
}

function make(args: string[], options: Partial<RankSetOptions> = {}): { set: RankSet; told: Told } {
  const [name = "", value = ""] = marker.split("=");
  const environment = { ...plainEnvironment(), [name]: value };
  const set = new RankSet({ program: script, args, count: 2, environment, graceMs: 1000, ...options });
  const told: Told = { started: [], lines: [], exited: [], failed: [], ended: [] };
  set.on("started", (rank, pid) => void told.started.push([rank, pid]));
  set.on("line", (line) => void told.lines.push(line));
  set.on("exited", (exit) => void told.exited.push(exit));
  set.on("failed", (exit) => void told.failed.push(exit));
  set.on("ended", (exit) => void told.ended.push(exit));
  return { set, told };
}

function ready({ lines }: Told, count: number, word = /^ready/): Promise<void> {
  return waitFor(() => lines.filter(({ text }) => word.test(text)).length === count, `${count} ranks are ready`);
}

describe("a set of ranks", () => {
  test("tells what its ranks write and how they end, and gives them a secret and a port", async () => {
    const { set, told } = make(["environment"], { count: 3 });
    await set.start();
    assert.equal(set.isRunning, true);
    assert.equal(await set.ended, undefined);
    assert.equal(set.isRunning, false);
    assert.deepEqual(
      told.started.map(([rank]) => rank),
      [0, 1, 2],
    );
    const found = told.lines.map(({ rank, name, text }) => ({ rank, name, ...JSON.parse(text) }));
    assert.deepEqual(found.map(({ rank }) => rank).sort(), [0, 1, 2]);
    const [one] = found;
    assert.match(one?.SHARDSPEED_SECRET, /^[0-9a-f]{64}$/);
    for (const { rank, name, RANK, LOCAL_RANK, WORLD_SIZE, MASTER_PORT, SHARDSPEED_SECRET, pid } of found) {
      assert.deepEqual(
        [name, RANK, LOCAL_RANK, WORLD_SIZE, MASTER_PORT, SHARDSPEED_SECRET],
        ["stdout", String(rank), String(rank), "3", one?.MASTER_PORT, one?.SHARDSPEED_SECRET],
      );
      assert.equal(told.started[rank]?.[1], pid);
    }
    assert.deepEqual(
      told.exited.map(({ code, signal }) => [code, signal]),
      [
        [0, null],
        [0, null],
        [0, null],
      ],
    );
    assert.deepEqual([told.failed, told.ended], [[], [undefined]]);
    assert.deepEqual(findMarked(marker), []);
  });

  test("may be started again, with another secret", async () => {
    const { set, told } = make(["environment"], { count: 1 });
    for (let i = 0; i < 2; i++) {
      await set.start();
      await set.ended;
    }
    const secrets = new Set(told.lines.map(({ text }) => JSON.parse(text).SHARDSPEED_SECRET));
    assert.equal(secrets.size, 2);
    assert.equal(told.ended.length, 2);
  });

  test("has not ended while it still looks for a port", async () => {
    const { set, told } = make(["environment"], { count: 1 });
    void set.start();
    await set.ended;
    assert.deepEqual([told.exited.length, told.ended.length, set.isRunning], [1, 1, false]);
  });

  test("two at once do not mind each other: one is killed, is told of, and starts again while the other goes on", async () => {
    const before = signals.map((signal) => process.listenerCount(signal));
    const [one, two] = [make(["signals"]), make(["signals"])];
    await Promise.all([one.set.start(), two.set.start()]);
    await Promise.all([ready(one.told, 2), ready(two.told, 2)]);
    assert.deepEqual(
      signals.map((signal) => process.listenerCount(signal)),
      before.map((count, i) => (signals[i] === "exit" ? count + 1 : count)),
      "no signal of this process is listened to, and its end once",
    );
    const victim = one.told.started[1]?.[1] as number;
    process.kill(victim, "SIGKILL");
    const failed = { rank: 1, code: null, signal: "SIGKILL" };
    assert.deepEqual(await one.set.ended, failed);
    assert.deepEqual([one.told.failed, one.told.ended], [[failed], [failed]]);
    assert.equal(one.told.exited.length, 2, "rank 0 was ended, as it cannot go on alone");
    assert.ok(one.told.started.every(([, pid]) => !isRunning(pid)));
    assert.ok(two.told.started.every(([, pid]) => isRunning(pid)));
    assert.equal(two.told.exited.length, 0);

    await one.set.start();
    await ready(one.told, 4);
    assert.equal(findMarked(marker).length, 4);
    const ports = [one, two].map(({ set }) => set);
    await Promise.all(ports.map((set) => set.stop()));
    assert.deepEqual(findMarked(marker), []);
    assert.equal(two.told.failed.length, 0, "ranks that are told to end have not failed");
    assert.equal(process.exitCode, undefined);
    assert.deepEqual(
      signals.map((signal) => process.listenerCount(signal)),
      before,
    );
  });
});

describe("stop()", () => {
  test("gives ranks their time, then kills what ignores SIGTERM, with what it has started", async () => {
    const { set, told } = make(["child"]);
    await set.start();
    await ready(told, 2, /^child/);
    assert.equal(findMarked(marker).length, 4);
    const startedAt = performance.now();
    await set.stop(500);
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= 450 && tookMs < 5000, String(tookMs));
    assert.deepEqual(findMarked(marker), []);
    assert.deepEqual(told.failed, []);
  });

  test("with no time at all", async () => {
    const { set, told } = make(["stubborn"], { graceMs: 60_000 });
    await set.start();
    await ready(told, 2);
    const slow = set.stop();
    await waitFor(() => told.lines.some(({ text }) => text === "ignored SIGTERM"), "SIGTERM came");
    await set.stop(0);
    await slow;
    assert.deepEqual(
      told.exited.map(({ signal }) => signal),
      ["SIGKILL", "SIGKILL"],
    );
    assert.deepEqual(findMarked(marker), []);
  });

  test("while the set starts, before it and after it", async () => {
    const { set, told } = make(["signals"]);
    await set.stop();
    const starting = failure(set.start());
    await set.stop();
    assert.equal((await starting).code, "ERR_ABORTED");
    assert.deepEqual([told.started, findMarked(marker)], [[], []]);
    await set.start();
    assert.equal((await failure(set.start())).code, "ERR_INVALID_ARGUMENT");
    await set.stop();
    await set.stop();
    assert.deepEqual(findMarked(marker), []);
  });
});

describe("a set that cannot be started", () => {
  test("says why, and leaves nothing", async () => {
    const { set, told } = make([], { program: "/nowhere/program", node: false, count: 3 });
    const error = await failure(set.start());
    assert.equal(error.code, "ERR_INVALID_ARGUMENT");
    assert.match(error.message, /Cannot start \/nowhere\/program: there is no such program/);
    assert.deepEqual([told.started, told.ended], [[], [undefined]]);
    assert.equal(set.isRunning, false);
  });

  test("or does not make sense", () => {
    const wrong: object[] = [
      ...[{ count: 0 }, { count: undefined }, { count: 1e6 }, { count: 2, worldSize: 1 }, { worldSize: Number.NaN }],
      ...[{ program: 3 }, { firstRank: -1 }, { firstRank: 0.5 }, { masterPort: 65536 }, { graceMs: Number.NaN }],
      { telepathy: true },
    ];
    for (const options of wrong)
      assert.throws(() => make([], options), { code: "ERR_INVALID_ARGUMENT" }, JSON.stringify(options));
    assert.throws(() => new RankSet(undefined as never), { code: "ERR_INVALID_ARGUMENT" });
    assert.throws(() => make([], { count: 2, worldSize: 4 }), { code: "ERR_CONFIG" });
  });
});

test("a script that fails is told of with its code, and what it wrote", async () => {
  const { set, told } = make(["exit", "1", "7"]);
  await set.start();
  assert.deepEqual(await set.ended, { rank: 1, code: 7, signal: null });
  const gone = make(["write"], { program: "/nowhere/script.mjs" });
  await gone.set.start();
  assert.equal((await gone.set.ended)?.code, 1);
  assert.ok(gone.told.lines.some(({ name, text }) => name === "stderr" && /Cannot find module/.test(text)));
  assert.deepEqual([told.failed.length, findMarked(marker).length], [1, 0]);
});

test("a listener that throws is an uncaught exception, and the ranks end all the same", async () => {
  const { set } = make(["write"]);
  set.on("started", () => {
    throw new Error("of the listener");
  });
  const thrown: unknown[] = [];
  const catchIt = (error: Error) => void thrown.push(error.message);
  process.setUncaughtExceptionCaptureCallback(catchIt);
  try {
    await set.start();
    await set.ended;
    await sleep(1);
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
  assert.deepEqual(thrown, ["of the listener", "of the listener"]);
});

test("lines are those of the text, however it is cut", async () => {
  const pieces = async function* () {
    for (const piece of ["a\nb", "", "c\n\n", "ü".slice(0, 1), "\nend"]) yield Buffer.from(piece);
  };
  const found: string[] = [];
  for await (const lines of readLines(pieces() as never)) found.push(...lines.map(String));
  assert.deepEqual(found, ["a", "bc", "", "ü", "end"]);
});
