import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { findMarked, isRunning, type Running, startRun, waitFor } from "./processes.js";

const script = fileURLToPath(new URL("rank_script.js", import.meta.url));
const marker = `SHARDSPEED_TEST_MARKER=${process.pid}`;

function start(args: string[]): Running {
  return startRun(args, { SHARDSPEED_TEST_MARKER: String(process.pid) });
}

/** Resolves when each of the ranks, or each child, has said its line. */
function ready({ written }: Running, count: number, word = "ready"): Promise<void> {
  const found = () => (written.stdout.match(new RegExp(`\\b${word} \\d+`, "g")) ?? []).length;
  return waitFor(() => found() === count, `${count} times ${word}, found ${written.stdout} ${written.stderr}`);
}

/** Nothing that a launch has started, however indirectly, is there any more. */
async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(findMarked(marker), []);
}

after(() => {
  for (const pid of findMarked(marker)) process.kill(pid, "SIGKILL");
});

describe("a rank that fails ends the others", () => {
  test("and its exit code is the launcher's", async () => {
    for (const rank of [0, 2]) {
      const { status, stderr } = await start(["--nproc-per-node", "3", script, "exit", String(rank), "7"]).ended;
      assert.equal(status, 7);
      assert.equal(stderr, `shardspeed: rank ${rank} failed with exit code 7; ending the others\n`);
      await assertNothingLeft();
    }
  });

  test("by a signal as well: 128 and its number", async () => {
    for (const signal of ["SIGKILL", "SIGSEGV", "SIGTERM"] as const) {
      const { status, stderr } = await start(["--nproc-per-node", "2", script, "die", "1", signal]).ended;
      assert.equal(status, 128 + constants.signals[signal]);
      assert.match(stderr, new RegExp(`rank 1 was ended by ${signal}; ending the others`));
      await assertNothingLeft();
    }
  });

  test("one that ends well does not: the others go on", async () => {
    const { status, stderr } = await start(["--nproc-per-node", "2", "--no-node", "sh", "-c", "sleep $RANK; exit 0"])
      .ended;
    assert.deepEqual([status, stderr], [0, ""]);
  });

  test("those that ignore SIGTERM are killed after the grace time, which others use", async () => {
    const { status, stdout } = await start([
      "--nproc-per-node",
      "3",
      "--grace-seconds",
      "0.7",
      script,
      "stubborn",
      "1",
      "300",
    ]).ended;
    assert.equal(status, 9);
    assert.match(stdout, /\[rank 0\] ignored SIGTERM/);
    assert.match(stdout, /\[rank 2\] ignored SIGTERM/);
    await assertNothingLeft();
  });

  test("stopped ones too", async () => {
    const running = start(["--nproc-per-node", "2", script, "signals"]);
    await ready(running, 2);
    const [first, second] = [...running.written.stdout.matchAll(/ready (\d+)/g)].map(([, pid]) => Number(pid)) as [
      number,
      number,
    ];
    process.kill(first, "SIGSTOP");
    process.kill(second, "SIGKILL");
    assert.equal((await running.ended).status, 137);
    await assertNothingLeft();
  });

  test("a program that cannot be started leaves none of the others", async () => {
    const { status, stderr } = await start(["--nproc-per-node", "4", "--no-node", "/nowhere/program"]).ended;
    assert.equal(status, 2, stderr);
    await assertNothingLeft();
  });
});

describe("what ranks have started ends with them", () => {
  test("where they end well, where they fail, and where it ignores SIGTERM", async () => {
    for (const code of ["0", "5"]) {
      const running = start(["--nproc-per-node", "2", "--grace-seconds", "0.5", script, "child", code]);
      await ready(running, 2, "child");
      assert.equal((await running.ended).status, Number(code));
      await assertNothingLeft();
    }
  });

  test("what has left their process group does not hold the launcher up", async () => {
    const running = start([script, "stray"]);
    const { status, stdout } = await running.ended;
    assert.equal(status, 0);
    const pid = Number(/stray (\d+)/.exec(stdout)?.[1]);
    assert.ok(isRunning(pid));
    process.kill(pid, "SIGKILL");
    await waitFor(() => findMarked(marker).length === 0, "the stray process ended");
  });
});

describe("signals", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
    test(`${signal} is passed on: programs that do not mind it end by it, others as they like`, async () => {
      const plain = start(["--nproc-per-node", "2", script, "prompt"]);
      // The prompt is half a line, which comes with the end; so the ranks are looked for.
      await waitFor(() => findMarked(marker).length === 3, "launcher and ranks run");
      await sleep(300);
      plain.child.kill(signal);
      const outcome = await plain.ended;
      assert.equal(outcome.status, 128 + constants.signals[signal], outcome.stderr);
      assert.equal(outcome.stderr, "");
      for (const code of ["0", "3"]) {
        const running = start(["--nproc-per-node", "2", script, "signals", code]);
        await ready(running, 2);
        running.child.kill(signal);
        const { status, stdout } = await running.ended;
        assert.equal(status, Number(code));
        assert.match(stdout, new RegExp(`\\[rank 0\\] ${signal}`));
        assert.match(stdout, new RegExp(`\\[rank 1\\] ${signal}`));
      }
      await assertNothingLeft();
    });
  }

  test("SIGTERM comes to the rank alone, which may still need what it has started", async () => {
    const running = start([
      "--no-node",
      "sh",
      "-c",
      "trap 'kill -0 $! && echo still there; exit 4' TERM; sleep 60 & echo ready $$; wait",
    ]);
    await ready(running, 1);
    running.child.kill("SIGTERM");
    const { status, stdout } = await running.ended;
    assert.equal(status, 4);
    assert.match(stdout, /still there/);
    await assertNothingLeft();
  });

  test("SIGUSR1, SIGUSR2 and SIGCONT are passed on, and end nothing", async () => {
    const running = start(["--nproc-per-node", "2", script, "signals"]);
    await ready(running, 2);
    for (const signal of ["SIGUSR2", "SIGUSR1", "SIGCONT"] as const) {
      running.child.kill(signal);
      await waitFor(() => running.written.stdout.split(signal).length === 3, `${signal} came to both`);
    }
    running.child.kill("SIGTERM");
    assert.equal((await running.ended).status, 0);
  });

  test("a second Ctrl-C kills what has ignored the first", async () => {
    const running = start(["--nproc-per-node", "2", script, "stubborn"]);
    await ready(running, 2);
    running.child.kill("SIGINT");
    await waitFor(() => running.written.stdout.split("ignored SIGINT").length === 3, "both ignored it");
    assert.equal(running.child.exitCode, null);
    running.child.kill("SIGINT");
    assert.equal((await running.ended).status, 130);
    await assertNothingLeft();
  });

  test("after SIGTERM there is the grace time, then SIGKILL", async () => {
    const running = start(["--nproc-per-node", "2", "--grace-seconds", "0.5", script, "stubborn"]);
    await ready(running, 2);
    running.child.kill("SIGTERM");
    assert.equal((await running.ended).status, 137);
    await assertNothingLeft();
  });

  test("Ctrl-Z stops the ranks too, and they go on with the launcher", async () => {
    const running = start(["--nproc-per-node", "1", script, "signals"]);
    await ready(running, 1);
    const pid = Number(/ready (\d+)/.exec(running.written.stdout)?.[1]);
    running.child.kill("SIGTSTP");
    await waitFor(() => isStopped(pid) && isStopped(running.child.pid as number), "both are stopped");
    running.child.kill("SIGCONT");
    await waitFor(() => /SIGCONT/.test(running.written.stdout), "the rank goes on");
    running.child.kill("SIGTERM");
    assert.equal((await running.ended).status, 0);
  });
});

describe("a launcher that is killed", () => {
  test("leaves no rank behind, nor what ranks have started, whatever they ignore", async () => {
    const running = start(["--nproc-per-node", "2", script, "child"]);
    await ready(running, 2, "child");
    assert.equal(findMarked(marker).length, 5);
    running.child.kill("SIGKILL");
    await waitFor(() => findMarked(marker).length === 0, "all processes ended");
    await running.ended;
    const stubborn = start(["--nproc-per-node", "3", script, "stubborn"]);
    await ready(stubborn, 3);
    stubborn.child.kill("SIGKILL");
    await waitFor(() => findMarked(marker).length === 0, "all processes ended");
    await stubborn.ended;
  });

  test("at any moment", async () => {
    for (const delay of [30, 60, 90, 120, 150, 200, 300]) {
      const running = start(["--nproc-per-node", "2", script, "stubborn"]);
      await sleep(delay);
      running.child.kill("SIGKILL");
      await running.ended;
      await waitFor(() => findMarked(marker).length === 0, `all processes ended after ${delay} ms`);
    }
  });
});

function isStopped(pid: number): boolean {
  return findState(pid) === "T";
}

function findState(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2)[0];
  } catch {
    return undefined;
  }
}
