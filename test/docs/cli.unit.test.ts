import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { describeDefault, generationFlag } from "../../dist/cli/flags.js";
import { describeValues, generationOptionNames, generationOptions } from "../../dist/engine/generation_options.js";
import { root, runProgram } from "../package/programs.js";

async function help(...command: string[]): Promise<string> {
  const outcome = await runProgram(process.execPath, [path.join(root, "dist/cli/main.js"), ...command, "--help"], root);
  assert.equal(outcome.status, 0, outcome.stderr);
  return outcome.stdout;
}

/** The commands that a help text lists. */
function subcommands(text: string): string[] {
  const list = text.split(/^Commands:$/m)[1] ?? "";
  return [...list.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name ?? "").filter((name) => name !== "help");
}

/** The long flags that a text names, without --help, which every command has. */
function flags(text: string): string[] {
  const found = [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(([flag]) => flag);
  return [...new Set(found)].filter((flag) => flag !== "--help").sort();
}

test("docs/cli.md describes the commands and flags of --help, all of them and no others", async () => {
  const manual = await readFile(path.join(root, "docs/cli.md"), "utf8");
  const documented = new Map<string, string>();
  for (const section of manual.split(/^## /m)) {
    const command = /^([a-z]+(?: [a-z]+)?)\n/.exec(section)?.[1];
    if (command) documented.set(command, section);
  }
  // This command has so many that they are on a page of their own.
  documented.set("serve", await readFile(path.join(root, "docs/serving-settings.md"), "utf8"));
  const helps = new Map<string, string>();
  for (const name of subcommands(await help())) {
    const text = await help(name);
    const inner = subcommands(text);
    if (inner.length === 0) helps.set(name, text);
    for (const second of inner) helps.set(`${name} ${second}`, await help(name, second));
  }
  assert.ok(helps.size > 0);
  assert.deepEqual([...documented.keys()].sort(), [...helps.keys()].sort());
  for (const [command, text] of helps) {
    assert.deepEqual(flags(documented.get(command) ?? ""), flags(text), command);
  }
});

test("docs/cli.md has the generation options as their table has them", async () => {
  const manual = await readFile(path.join(root, "docs/cli.md"), "utf8");
  for (const name of generationOptionNames) {
    const row = generationOptions[name];
    const columns = [`\`${generationFlag(name)}\``, describeValues(row), describeDefault(row), row.help];
    const expected = `| ${columns.join(" | ")} |`.replaceAll("  ", " ");
    assert.ok(manual.includes(`\n${expected}\n`), `docs/cli.md lacks the row\n${expected}`);
  }
});
