import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { openArchive, readModelConfigYaml } from "../../dist/index.js";
import { root, runProgram } from "../package/programs.js";
import { demoModel, readJson } from "../support/fixtures.js";

// examples/opt-deepspeed, as README.md says it is run.

const example = path.join(root, "examples/opt-deepspeed");

interface DemoRow {
  prompt: string;
  text: string;
}

test("run.mjs packs, opens, loads with tp_size 2 and answers a batch", async () => {
  const before = (await readdir(tmpdir())).filter((name) => /^(opt-deepspeed|shardspeed-archive)-/.test(name));
  const rows = readJson<DemoRow[]>(path.join(demoModel, "golden.json")).slice(0, 3);
  const prompts = rows.map(({ prompt }) => prompt);
  const { status, stdout, stderr } = await runProgram(
    process.execPath,
    [path.join(example, "run.mjs"), ...prompts],
    root,
  );
  assert.equal(status, 0, stderr);
  assert.match(stderr, /Loaded opt on cpu in 2 ranks: .* as float16/);
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, prompts.length);
  for (const [i, { prompt, text }] of rows.entries()) {
    const line = lines[i] as string;
    const whole = `${prompt}${text}`.replaceAll("\n", " ");
    // 24 tokens of the 48 that the golden text has.
    assert.ok(line.startsWith(prompt) && whole.startsWith(line) && line.length > prompt.length + 24, line);
  }
  const left = (await readdir(tmpdir())).filter((name) => /^(opt-deepspeed|shardspeed-archive)-/.test(name));
  assert.deepEqual(left, before);
});

test("the command that README.md packs it with", async (t) => {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const command = /npx (shardspeed archive [\s\S]*?--archive-format tgz)/.exec(readme)?.[1];
  assert.ok(command, "README.md has the command");
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
  t.after(() => rm(folder, { recursive: true }));
  const args = command.replaceAll("\\\n", " ").trim().split(/\s+/).slice(1);
  const program = [path.join(root, "dist/cli/main.js"), ...args, "--export-path", folder];
  const { status, stderr } = await runProgram(process.execPath, program, example);
  assert.equal(status, 0, stderr);
  await using archive = await openArchive(path.join(folder, "opt.tar.gz"));
  assert.equal(archive.handler, "opt_handler.mjs");
  const { values, warnings } = await readModelConfigYaml(archive.configFile as string);
  assert.deepEqual(warnings, []);
  assert.equal(values.deepspeed.config, "ds-config.json");
  assert.equal(values.parallelLevel, 2);
});
