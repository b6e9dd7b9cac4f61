import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { parseModelConfigYaml } from "../../dist/index.js";
import { type KeyDescription, keysOf, modelYamlKeys } from "../../dist/torchserve_config/keys.js";
import { root } from "../package/programs.js";

const manual = path.join(root, "docs/model-config.md");

function typeWords({ type }: KeyDescription): string {
  if (type.kind === "integer") return `integer, from ${type.minimum}`;
  if (type.kind === "boolean") return "true or false";
  if (type.kind === "integers") return "list of integers, from 0";
  if (type.kind === "text") return "text";
  const words = Object.keys(type.words).filter((word) => word !== "");
  return `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function defaultWords(key: string, value: unknown): string {
  if (key === "maxWorkers") return "minWorkers";
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

test("the table of docs/model-config.md is that of lib/torchserve_config/keys.ts", async () => {
  const text = await readFile(manual, "utf8");
  const rows = [...text.matchAll(/^\| `(.*?)` \|(.*)\|$/gm)].map(([, key, rest]) => {
    const [type, unit, unset, meaning] = (rest ?? "").split("|").map((cell) => cell.trim());
    return { key, type, unit, default: unset, noEffect: meaning?.startsWith("no effect") };
  });
  assert.deepEqual(
    rows,
    Object.entries(modelYamlKeys).map(([key, description]) => ({
      key,
      type: typeWords(description),
      unit: description.unit ?? "",
      default: defaultWords(key, description.default),
      noEffect: description.noEffect !== undefined,
    })),
  );
  for (const key of keysOf()) assert.ok(text.includes(`\`${key}`), key);
});

test("its example is a good one", async () => {
  const example = /^```yaml\n([\s\S]*?)^```$/m.exec(await readFile(manual, "utf8"))?.[1];
  const { values, warnings } = parseModelConfigYaml(example ?? assert.fail("there is no example"));
  assert.deepEqual(warnings, []);
  assert.equal(values.parallelLevel, 4);
});
