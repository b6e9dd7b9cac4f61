import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { root, runProgram } from "../package/programs.js";
import { commands } from "./command_list.js";
import { readPages } from "./documents.js";
import { makeProject, type Project } from "./project.js";
import { type ShownCommand, shownCommands } from "./shell_commands.js";

// Every command line that a page shows is run, or its program, script and flags are at least looked for.

const shown: ShownCommand[] = readPages().flatMap(shownCommands);
const scripts: Record<string, string> = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).scripts;

/** A command of shardspeed named in a sentence: `shardspeed inspect`, `shardspeed bench serve`. */
const mention = /^shardspeed (?:bench )?[a-z]+$/;

function flagsOf(command: string): string[] {
  const flags = [...command.matchAll(/(?<=[\s[])--?[a-z][a-z-]*/gi)].map(([flag]) => flag);
  // CMake's options have no list.
  return flags.filter((flag) => !flag.startsWith("--CD"));
}

const helps = new Map<string, Promise<string>>();

/** What `shardspeed NAME --help` says; it fails for a command that is not there. */
function helpOf(name: string): Promise<string> {
  let help = helps.get(name);
  if (help === undefined) {
    help = runProgram(process.execPath, [path.join(root, "dist/cli/main.js"), ...name.split(" "), "--help"], root).then(
      (outcome) => {
        assert.equal(outcome.status, 0, `shardspeed ${name} --help: ${outcome.stderr}`);
        return outcome.stdout;
      },
    );
    helps.set(name, help);
  }
  return help;
}

/** Looks for what a command line names: the npm script, the file that Node runs, the command of shardspeed, and its flags. */
async function checkNames(line: string): Promise<void> {
  const command = line.replace(/^(?:[A-Z_]+=(?:"[^"]*"|\S+) )+/, "").replace(/^echo .* \| /, "");
  const script = /^npm run ([\w:-]+)/.exec(command)?.[1];
  if (script !== undefined) {
    assert.ok(script in scripts, `there is no script ${script} in package.json`);
    await checkFlags(command, fileOf(scripts[script] as string));
    return;
  }
  const name = /^(?:npx )?shardspeed ((?:bench )?[a-z]+)/.exec(command)?.[1];
  if (name !== undefined) {
    const help = await helpOf(name);
    for (const flag of flagsOf(command)) assert.match(help, new RegExp(`(^|\\s)${flag}\\b`), `${flag} in ${line}`);
    return;
  }
  const file = fileOf(command);
  // script.mjs is the reader's own.
  if (file !== undefined && file !== "script.mjs") await checkFlags(command, file);
}

/** The file of the checkout that a command runs by Node or as a script. */
function fileOf(command: string): string | undefined {
  return /^node (\S+)|^(scripts\/\S+)/.exec(command)?.slice(1).find(Boolean);
}

/** Programs of the checkout have their flags in their source, as `--flag` or as an option of parseArgs. */
async function checkFlags(command: string, file: string | undefined): Promise<void> {
  if (file === undefined) return;
  assert.ok(existsSync(path.join(root, file)), `${file} is not there`);
  const source = readFileSync(path.join(root, file.replace("scripts/demo.mjs", "examples/demo.mjs")), "utf8");
  for (const flag of flagsOf(command)) {
    const option = flag.replace(/^--/, "");
    assert.ok(source.includes(flag) || new RegExp(`["\\s]${option}"?:`).test(source), `${file} knows no ${flag}`);
  }
}

/** The first line of a command, for the name of a test. */
function shorten(command: string): string {
  return command.length > 100 ? `${command.slice(0, 97)}...` : command;
}

test("every command that a page shows is in the list, and no other", () => {
  const inPages = new Set(shown.map(({ command }) => command));
  const unknown = shown.filter(({ command }) => !(command in commands) && !mention.test(command));
  assert.deepEqual(unknown, [], "Add these to test/docs/command_list.ts, and say there how they are run");
  assert.deepEqual(
    Object.keys(commands).filter((command) => !inPages.has(command)),
    [],
    "No page shows these any more",
  );
});

test("the scripts, files, commands and flags of all of them exist", async () => {
  for (const { page, command } of shown) {
    await checkNames(command).catch((error: Error) => assert.fail(`${page}: ${error.message}`));
  }
});

test("what others run is run by them", () => {
  for (const [command, treatment] of Object.entries(commands)) {
    if (!("by" in treatment)) continue;
    const source = readFileSync(path.join(root, treatment.by), "utf8");
    const words = command.split(" ").filter((word) => /^[a-z]/.test(word) && word !== "run" && word !== "node");
    const named = [...words, ...words.map((word) => path.basename(word))].some((word) => source.includes(word));
    assert.ok(named, `${treatment.by} does not run ${command}`);
  }
});

describe("the commands that the documents show", () => {
  let project: Project;

  before(async () => {
    project = await makeProject();
    await mkdir(path.join(project.folder, "out"));
  });
  after(() => project.remove());

  for (const [command, treatment] of Object.entries(commands)) {
    if (!("in" in treatment)) continue;
    const line = treatment.as ?? command;
    test(shorten(command), async () => {
      for (const flag of flagsOf(command)) assert.ok(line.includes(flag), `${flag} is not tried`);
      const bin = path.join(project.folder, "node_modules/.bin");
      const outcome = await runProgram(
        "/bin/bash",
        ["-c", `set -eo pipefail; ${line}`],
        treatment.in === "checkout" ? root : project.folder,
        { PATH: `${bin}:${process.env.PATH}`, OUT: path.join(project.folder, "out") },
      );
      assert.equal(outcome.status, 0, outcome.stdout + outcome.stderr);
      if (treatment.says) assert.match(outcome.stdout, treatment.says);
    });
  }
});
