import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { type ConfigKey, configKeys, defaultOf } from "../../dist/deepspeed_config/keys.js";
import { root } from "../package/programs.js";

const words: Record<ConfigKey["effect"], string> = {
  followed: "",
  always: "",
  none: "no effect: ",
  refused: "refused ",
  renamed: "",
};

function tableRow(key: ConfigKey): string {
  const { name, alias, type, effect, meaning, renamedTo } = key;
  const isObject = meaning.startsWith("its keys follow");
  const unset = renamedTo !== undefined || isObject ? "" : `\`${JSON.stringify(defaultOf(key))}\``;
  const does = isObject ? meaning : `${words[effect]}${meaning}`;
  const cells = [`\`${name}\``, alias ? `\`${alias}\`` : "", type, unset, does];
  return `| ${cells.join(" | ")} |`;
}

test("docs/deepspeed-config.md has the table of lib/deepspeed_config/keys.ts, row for row", async () => {
  const text = await readFile(path.join(root, "docs/deepspeed-config.md"), "utf8");
  const section = /^## Keys$(.*?)^## /ms.exec(text)?.[1] ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  assert.deepEqual(rows, configKeys.map(tableRow));
});
