import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Readable, Writable } from "node:stream";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { formatPrefix, forwardLines, Sink, wantsColor } from "../../dist/cli/prefixed_output.js";
import { isGroupAlive, sendSignal } from "../../dist/launch/posix_group.js";
import { findMarked, isRunning, type Outcome, startProgram, startRun, waitFor } from "./processes.js";

const script = fileURLToPath(new URL("rank_script.js", import.meta.url));
const root = fileURLToPath(new URL("../../", import.meta.url));

function run(args: string[], environment: NodeJS.ProcessEnv = {}, input = ""): Promise<Outcome> {
  return startRun(args, environment, input).ended;
}

/** The lines of a rank, without their prefix. */
function linesOf(text: string, rank: number): string[] {
  const start = `[rank ${rank}] `;
  return text
    .split("\n")
    .filter((line) => line.startsWith(start))
    .map((line) => line.slice(start.length));
}

describe("the ranks", () => {
  const places = (outcome: Outcome, count: number, first = 0) => {
    assert.equal(outcome.status, 0, outcome.stderr);
    return Array.from({ length: count }, (_, i) => JSON.parse(linesOf(outcome.stdout, first + i)[0] as string));
  };

  test("find the variables of torchrun, and a secret that they share", async () => {
    const outcome = await run(["--nproc-per-node", "3", script, "environment"], { TORCHELASTIC_RUN_ID: "another" });
    const found = places(outcome, 3);
    for (const [rank, { pid, ...variables }] of found.entries()) {
      assert.equal(variables.RANK, String(rank));
      assert.equal(variables.LOCAL_RANK, String(rank));
      assert.equal(variables.WORLD_SIZE, "3");
      assert.equal(variables.LOCAL_WORLD_SIZE, "3");
      assert.equal(variables.MASTER_ADDR, "127.0.0.1");
      assert.ok(Number(variables.MASTER_PORT) > 1023 && Number(variables.MASTER_PORT) <= 65520);
      assert.equal(variables.MASTER_PORT, found[0].MASTER_PORT);
      assert.match(variables.SHARDSPEED_SECRET, /^[0-9a-f]{64}$/);
      assert.equal(variables.SHARDSPEED_SECRET, found[0].SHARDSPEED_SECRET);
      assert.equal(variables.SHARDSPEED_LAUNCHER, "run");
      assert.equal("TORCHELASTIC_RUN_ID" in variables, false);
      assert.equal("SHARDSPEED_WATCHED_LAUNCHER" in variables, false);
      assert.ok(pid > 0);
    }
  });

  test("of a node among several", async () => {
    const flags = [
      "--nnodes",
      "3",
      "--node-rank",
      "2",
      "--master-addr",
      "head",
      "--master-port",
      "1234",
      "--nproc-per-node",
      "2",
    ];
    const outcome = await run([...flags, script, "environment"], { SHARDSPEED_SECRET: "the secret of these tests" });
    for (const [index, variables] of places(outcome, 2, 4).entries()) {
      assert.deepEqual(
        [variables.RANK, variables.LOCAL_RANK, variables.WORLD_SIZE, variables.LOCAL_WORLD_SIZE],
        [String(4 + index), String(index), "6", "2"],
      );
      assert.deepEqual([variables.MASTER_ADDR, variables.MASTER_PORT], ["head", "1234"]);
      assert.equal(variables.SHARDSPEED_SECRET, "the secret of these tests");
    }
    const underscores = flags.map((flag) => flag.replace(/(?<=\w)-(?=\w)/g, "_"));
    const alike = await run([...underscores, script, "environment"], {
      SHARDSPEED_SECRET: "the secret of these tests",
    });
    assert.equal(places(alike, 2, 4)[1].RANK, "5");
    const port = ["--nnodes", "2", "--node-rank", "0", "--master-addr", "head", script, "environment"];
    const outcome2 = await run(port, { SHARDSPEED_SECRET: "the secret of these tests" });
    assert.equal(places(outcome2, 1)[0].MASTER_PORT, "29500");
  });

  test("get all that follows the script as arguments, options too", async () => {
    const args = ["environment", "--json", "--nproc-per-node", "9", "-x", "--", "--help", "--version", ""];
    assert.deepEqual(places(await run([script, ...args]), 1)[0].args, args.slice(1));
  });

  test("run under Node with the launcher's own options", async () => {
    const command = path.join(root, "dist/cli/main.js");
    const args = ["--max-old-space-size=77", "--no-deprecation", command, "run", script, "environment"];
    const [{ execArgv }] = places(await startProgram(process.execPath, args).ended, 1);
    assert.deepEqual(execArgv.slice(0, 2), ["--max-old-space-size=77", "--no-deprecation"]);
  });

  test("may be any program", async () => {
    const outcome = await run([
      "--nproc-per-node",
      "2",
      "--no-node",
      "sh",
      "-c",
      "echo $RANK of $WORLD_SIZE: $1",
      "sh",
      "--x",
    ]);
    assert.deepEqual([linesOf(outcome.stdout, 0), linesOf(outcome.stdout, 1)], [["0 of 2: --x"], ["1 of 2: --x"]]);
    assert.equal(outcome.status, 0);
  });

  test("may have children and threads, which the launcher's end is no matter of", async () => {
    for (const [action, lines] of [
      ["fork", ["out 0", "forked 0"]],
      ["worker", ["worker 0"]],
    ] as const) {
      const outcome = await run([script, action]);
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.deepEqual(linesOf(outcome.stdout, 0), lines);
    }
  });

  test("of which the first reads the standard input, and no other", async () => {
    const { stdout } = await run(["--nproc-per-node", "2", script, "input"], {}, "some\ntext");
    assert.deepEqual(linesOf(stdout, 0), ['"some\\ntext"']);
    assert.deepEqual(linesOf(stdout, 1), ['""']);
  });
});

describe("their output", () => {
  test("goes line by line to the same stream, with the rank before it", async () => {
    const { status, stdout, stderr } = await run(["--nproc-per-node", "3", script, "write"]);
    assert.equal(status, 0);
    assert.deepEqual(stdout.trim().split("\n").sort(), ["[rank 0] out 0", "[rank 1] out 1", "[rank 2] out 2"]);
    assert.deepEqual(stderr.trim().split("\n").sort(), ["[rank 0] err 0", "[rank 1] err 1", "[rank 2] err 2"]);
  });

  test("is neither cut nor mixed: half lines, empty ones, long ones, characters of several bytes", async () => {
    const halves = await run(["--nproc-per-node", "2", script, "halves"]);
    for (const rank of [0, 1]) assert.deepEqual(linesOf(halves.stdout, rank), [`grüße ${rank}`, "", "half"]);
    const long = await run(["--nproc-per-node", "2", script, "long"]);
    for (const rank of [0, 1])
      assert.deepEqual(linesOf(long.stdout, rank), [`${rank}`.repeat(3_000_000), `end ${rank}`]);
  });

  test("is colored by rank where that is asked for", async () => {
    const { stdout, stderr } = await run(["--nproc-per-node", "2", script, "write"], { FORCE_COLOR: "1" });
    const lines = stdout.replaceAll("\u001b", "ESC").trim().split("\n");
    const colors = new Set(lines.map((line) => /^ESC\[(\d+)m\[rank \d\]ESC\[0m out \d$/.exec(line)?.[1]));
    assert.equal(colors.size, 2, stdout);
    assert.ok(!colors.has(undefined), stdout);
    assert.match(stderr.replaceAll("\u001b", "ESC"), /ESC\[\d+m\[rank 1\]ESC\[0m err 1/);
  });

  test("is left alone with --no-prefix, half lines too", async () => {
    const outcome = await run(["--nproc-per-node", "1", "--no-prefix", script, "halves"], { FORCE_COLOR: "1" });
    assert.equal(outcome.stdout, "grüße 0\n\nhalf");
    const waiting = startRun(["--no-prefix", script, "prompt"]);
    await waitFor(() => waiting.written.stdout === "prompt 0> ", "the prompt was passed on");
    waiting.child.kill("SIGTERM");
    await waiting.ended;
  });

  test("waits for a slow reader, and all of it comes", async () => {
    const { child, ended, written } = startRun(["--nproc-per-node", "2", script, "flood"]);
    child.stdout?.pause();
    await sleep(2500);
    assert.equal(child.exitCode, null);
    assert.ok(written.stdout.length < 1_500_000);
    child.stdout?.resume();
    const { status, stdout } = await ended;
    assert.equal(status, 0);
    for (const rank of [0, 1]) {
      const lines = linesOf(stdout, rank);
      assert.equal(lines.length, 20_000);
      lines.forEach((line, i) => void assert.equal(line, `${rank} ${i} ${"x".repeat(50)}`));
    }
  });

  test("ends the ranks where its reader has gone, as it would without the launcher", async () => {
    const { child, ended } = startRun(["--nproc-per-node", "2", script, "flood"]);
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.stdout?.destroy();
    const { status, signal, stderr } = await ended;
    assert.equal(signal, null);
    assert.notEqual(status, 0);
    assert.match(stderr, /EPIPE/);
  });

  test("is signalled past a reader that has stopped reading", async () => {
    const marker = `past-reader-${process.pid}`;
    const { child, ended } = startRun(["--nproc-per-node", "2", script, "flood"], { SHARDSPEED_TEST_MARKER: marker });
    child.stdout?.pause();
    await waitFor(() => findMarked(marker).length === 3, "launcher and ranks run");
    await sleep(1000);
    child.kill("SIGINT");
    await waitFor(() => findMarked(marker).length === 1, "the ranks ended while nothing was read");
    child.stdout?.resume();
    assert.equal((await ended).status, 130);
  });
});

describe("how a launch fails", () => {
  const wrong: [string[], NodeJS.ProcessEnv, number, RegExp][] = [
    [[], {}, 2, /missing required argument 'script'/],
    [["/nowhere/script.mjs"], {}, 2, /Cannot run \/nowhere\/script\.mjs: there is no such file.*ERR_INVALID_ARGUMENT/],
    [[root], {}, 2, /it is no file/],
    [["--no-node", "/nowhere/program"], {}, 2, /Cannot start \/nowhere\/program: there is no such program/],
    [["--no-node", path.join(root, "README.md")], {}, 2, /cannot be executed/],
    [["--nproc-per-node", "0", script], {}, 2, /Expected --nproc-per-node to be an integer from 1 to \d+, found 0/],
    [["--nproc-per-node", "-1", script], {}, 2, /found -1/],
    [["--nproc-per-node", "two", script], {}, 2, /Expected an integer/],
    [["--nproc-per-nodes", "2", script], {}, 2, /unknown option '--nproc-per-nodes'/],
    [["--nnodes", "2", script], {}, 2, /needs --node-rank and --master-addr/],
    [
      ["--nnodes", "2", "--node-rank", "2", "--master-addr", "a", script],
      {},
      2,
      /--node-rank to be an integer from 0 to 1/,
    ],
    [["--node-rank", "1", script], {}, 2, /--node-rank to be an integer from 0 to 0/],
    [["--master-port", "65536", script], {}, 2, /--master-port/],
    [["--grace-seconds", "-1", script], {}, 2, /--grace-seconds/],
    [
      ["--nnodes", "2", "--node-rank", "1", "--master-addr", "a", script],
      {},
      1,
      /SHARDSPEED_SECRET is not set.*ERR_CONFIG/,
    ],
  ];
  for (const [args, environment, code, message] of wrong) {
    test(args.map((arg) => arg.replace(root, "")).join(" ") || "nothing to run", async () => {
      const { status, stdout, stderr } = await run(args, environment);
      assert.equal(status, code, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, message);
    });
  }

  test("--json among the arguments of a script does not change how it is said", async () => {
    const { status, stdout, stderr } = await run(["/nowhere/script.mjs", "--json"]);
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(stderr, /no such file/);
  });
});

test("docs/cli.md lists the options of run, all of them and no others", async () => {
  const { status, stdout } = await run(["--help"]);
  assert.equal(status, 0);
  assert.match(stdout, /Exit codes: /);
  const options = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]);
  const docs = await readFile(path.join(root, "docs/cli.md"), "utf8");
  const section = docs.split(/^## /m).find((part) => part.startsWith("run\n")) ?? "";
  const documented = [...section.matchAll(/^\| `(?:-\w, )?(--[\w-]+)`/gm)].map((match) => match[1]);
  assert.deepEqual(documented.sort(), options.filter((option) => option !== "--help").sort());
});

test("a process group of which only an ended process is left is not alive", async () => {
  // The job gets a group of its own, and the sleep that takes the place of its parent never asks for its code.
  const running = startProgram("sh", ["-c", "setsid sh -c 'echo $$' & exec sleep 60"]);
  try {
    await waitFor(() => /\d+\n/.test(running.written.stdout), "the job was started");
    const group = Number(running.written.stdout);
    await waitFor(() => !isRunning(group), "the job ended");
    assert.equal(sendSignal(-group, 0), true);
    assert.equal(isGroupAlive(group), false);
    assert.equal(isGroupAlive(running.child.pid as number), false, "the shell leads no group of its own");
  } finally {
    running.child.kill("SIGKILL");
    await running.ended;
  }
});

describe("prefixes", () => {
  test("have a color where a terminal reads, or where it is asked for", () => {
    const terminal = { isTTY: true };
    const cases: [{ isTTY?: boolean }, NodeJS.ProcessEnv, boolean][] = [
      [terminal, {}, true],
      [terminal, { TERM: "dumb" }, false],
      [terminal, { NO_COLOR: "1" }, false],
      [terminal, { NO_COLOR: "" }, true],
      [terminal, { FORCE_COLOR: "0" }, false],
      [{}, {}, false],
      [{}, { FORCE_COLOR: "1" }, true],
      [{}, { FORCE_COLOR: "" }, true],
      [{}, { FORCE_COLOR: "1", NO_COLOR: "1" }, true],
      [{}, { FORCE_COLOR: "false" }, false],
    ];
    for (const [stream, env, expected] of cases)
      assert.equal(wantsColor(stream, env), expected, JSON.stringify([stream, env]));
    assert.equal(formatPrefix(12, false), "[rank 12] ");
    const colors = Array.from({ length: 10 }, (_, rank) => /\[(\d+)m/.exec(formatPrefix(rank, true))?.[1]);
    assert.equal(new Set(colors).size, 10);
    assert.ok(!colors.includes("31"));
  });

  test("stand before every line, however the text is cut", async () => {
    const pieces = fc.array(fc.string({ unit: fc.constantFrom("a", "\n", "ü", "\r") }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.array(fc.nat(40)), async (texts, cuts) => {
        const bytes = Buffer.from(texts.join(""));
        const ends = [...new Set(cuts.filter((at) => at < bytes.length))].sort((a, b) => a - b);
        const chunks = [...ends, bytes.length].map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
        const written: Buffer[] = [];
        const stream = new Writable({
          highWaterMark: 4,
          write(chunk, _encoding, done) {
            written.push(chunk);
            setImmediate(done);
          },
        });
        await forwardLines(Readable.from(chunks.filter(({ length }) => length > 0)), new Sink(stream), "> ");
        await new Promise<void>((resolve) => stream.end(() => resolve()));
        const text = texts.join("");
        const expected = text
          .replace(/\n$/, "")
          .split("\n")
          .map((line) => `> ${line}\n`)
          .join("");
        assert.equal(Buffer.concat(written).toString(), text === "" ? "" : expected);
      }),
      { numRuns: 200 },
    );
  });
});
