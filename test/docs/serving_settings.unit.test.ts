import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { settingGroups, variablesOf } from "../../dist/serving/settings/row.js";
import { flagsWithoutSetting, type SettingName, settingNames, settingOf } from "../../dist/serving/settings/table.js";
import { ignoredKeys } from "../../dist/serving/settings/torchserve_keys.js";
import { root } from "../package/programs.js";

const manual = readFileSync(path.join(root, "docs/serving-settings.md"), "utf8");

/** A row as the page should have it. */
function rowOf(name: SettingName): string {
  const row = settingOf(name);
  const { own } = variablesOf(name, row);
  const flags =
    row.flags?.map((flag) => `\`--${flag}\``).join(", ") ?? (name === "modelFolder" ? "MODEL" : `\`${own}\``);
  const { unset, kind } = row;
  const value = unset === undefined || unset === "" ? "" : (kind.show?.(unset) ?? JSON.stringify(unset));
  const shown = row.unsetText ?? value;
  const cells = [`\`${name}\``, flags, row.key === undefined ? "" : `\`${row.key}\``, kind.words, shown, row.help];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`.replaceAll("|  |", "| |");
}

/** The lines of tables below a heading. */
function tableOf(heading: string): string[] {
  const section = manual.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? assert.fail(heading);
  return section.split("\n").filter((line) => /^\| `/.test(line));
}

for (const [group, heading] of Object.entries(settingGroups)) {
  test(`docs/serving-settings.md has the settings of "${heading}" as their table has them`, () => {
    const names = settingNames.filter((name) => settingOf(name).group === group);
    assert.deepEqual(
      tableOf(heading).map((line) => line.replaceAll(/ +/g, " ")),
      names.map((name) => rowOf(name).replaceAll(/ +/g, " ")),
    );
  });
}

test("docs/serving-settings.md has the flags that set nothing", () => {
  assert.deepEqual(
    tableOf("Other flags"),
    Object.entries(flagsWithoutSetting).map(([flag, help]) => `| \`--${flag}\` | ${help} |`),
  );
});

test("docs/serving-settings.md has TorchServe's keys without effect", () => {
  assert.deepEqual(
    tableOf("TorchServe's keys without effect"),
    [...ignoredKeys].map(([key, { reason }]) => `| \`${key}\` | ${reason} |`),
  );
});
