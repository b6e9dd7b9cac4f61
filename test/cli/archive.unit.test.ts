import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "./command.js";

const fixtures = path.join(root, "test/fixtures/torchserve");
const handlers = path.join(fixtures, "handlers");
const command = path.join(root, "dist/cli/main.js");

interface Recorded {
  name: string;
  args: string[];
  exit: number;
  stdout: string;
  stderr: string;
  made: string[];
}

const recorded: Recorded[] = JSON.parse(readFileSync(path.join(fixtures, "archiver.json"), "utf8"));

function archive(folder: string, args: readonly string[]) {
  return spawnSync(process.execPath, [command, "archive", ...args], { cwd: folder, encoding: "utf8" });
}

/** What is left of a recorded message without Python's and argparse's own: parts that ours must have. */
function essentials({ exit, stderr }: Recorded): string[] {
  const line = stderr.split("\n").at(-1) ?? "";
  if (exit === 2) return line.match(/--[a-z-]+|'\w+'/g)?.slice(0, 2) ?? [];
  return [line.replace(/^(\S+Error: |WARNING - )?(\[Errno \d+\] )?/, "").replaceAll("<handlers>", handlers)];
}

describe("answers as torch-model-archiver does", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "archive-cli-"));
    mkdirSync(path.join(folder, "out"));
  });
  after(() => rmSync(folder, { recursive: true }));

  // In this order: later ones find what earlier ones have made.
  for (const row of recorded) {
    test(row.name, () => {
      const args = row.args.map((arg) => arg.replaceAll("<handlers>", handlers));
      const { status, stdout, stderr } = archive(folder, args);
      assert.equal(status, row.exit, stderr);
      for (const text of essentials(row)) assert.ok(stderr.includes(text), `${text} in ${stderr}`);
      assert.deepEqual(readdirSync(path.join(folder, "out")).sort(), row.made);
      assert.deepEqual(readdirSync(folder), ["out"]);
      if (!args.includes("--help")) {
        assert.equal(stdout, "");
        return;
      }
      const flags = [...row.stdout.matchAll(/^ {2}(?:-\w(?: \w+)?, )?(--[a-z-]+)/gm)].map(
        (match) => match[1] as string,
      );
      assert.ok(flags.length > 10);
      for (const flag of flags) assert.match(stdout, new RegExp(`${flag}\\b`));
    });
  }
});

describe("shardspeed archive", () => {
  let folder: string;
  const handler = ["--version", "1.0", "--handler", path.join(handlers, "echo_handler.py")];
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), "archive-cli-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  test("says what was made, on the standard error", () => {
    const { status, stdout, stderr } = archive(folder, ["--model-name", "said", ...handler]);
    assert.deepEqual([status, stdout], [0, ""]);
    assert.match(stderr, /^shardspeed: made \S+said\.mar \(2 files, 1\.\d+ kB\)\n$/);
  });

  test("--quiet says nothing, not even that something is replaced", () => {
    const args = ["--model-name", "said", ...handler, "--force", "--quiet"];
    const { status, stdout, stderr } = archive(folder, args);
    assert.deepEqual([status, stdout, stderr], [0, "", ""]);
  });

  test("--json says it for programs, failures too", () => {
    const args = ["--model-name", "json", ...handler, "--json"];
    const made = JSON.parse(archive(folder, args).stdout);
    assert.deepEqual(made.files, ["echo_handler.py", "MAR-INF/MANIFEST.json"]);
    assert.equal(made.bytes, readFileSync(path.join(folder, "json.mar")).length);
    const again = archive(folder, args);
    assert.equal(again.status, 1);
    const { error } = JSON.parse(again.stdout);
    assert.equal(error.code, "ERR_ARCHIVE");
    assert.match(error.message, /json\.mar already exists/);
  });

  test("an empty value of an option that may be left out leaves it out", () => {
    const empty = ["-r", "", "-c", "", "--extra-files", "", "--serialized-file", "", "--model-file", ""];
    assert.equal(archive(folder, ["--model-name", "empty", ...handler, ...empty]).status, 0);
    const { status, stderr } = archive(folder, ["--model-name", "", ...handler]);
    assert.equal(status, 2);
    assert.match(stderr, /modelName/);
  });

  test("Ctrl-C leaves nothing behind", async () => {
    // All holes: it takes no space, and minutes to compress.
    writeFileSync(path.join(folder, "weights.bin"), "");
    truncateSync(path.join(folder, "weights.bin"), 30e9);
    const found = readdirSync(folder);
    const args = ["--model-name", "cut", ...handler, "--serialized-file", "weights.bin"];
    const child = spawn(process.execPath, [command, "archive", ...args], { cwd: folder, stdio: "ignore" });
    const ended = once(child, "close");
    while (readdirSync(folder).length === found.length && child.exitCode === null) await sleep(5);
    child.kill("SIGINT");
    assert.deepEqual(await ended, [130, null]);
    assert.deepEqual(readdirSync(folder), found);
  });
});
