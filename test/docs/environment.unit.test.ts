import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { root } from "../package/programs.js";

/** Where the sources read the environment. */
const reads = /(?:getenv\(|isSet\(|\benv\.)"?([A-Z][A-Z0-9_]{3,})/g;

test("docs/environment.md has every variable that the sources read, but for those of launchers and the emulator", () => {
  const found = new Set<string>();
  for (const room of ["lib", "binding", "src", "cuda"]) {
    for (const name of readdirSync(path.join(root, room), { recursive: true }) as string[]) {
      if (!/\.(ts|cpp|cu|h|cuh)$/.test(name)) continue;
      const text = readFileSync(path.join(root, room, name), "utf8");
      for (const [, variable] of text.matchAll(reads)) if (variable) found.add(variable);
    }
  }
  const page = readFileSync(path.join(root, "docs/environment.md"), "utf8");
  const isKnown = (name: string) => page.includes(`\`${name}\``) || name.startsWith("SHARDSPEED_EMULATOR_");
  assert.ok(found.has("SHARDSPEED_CPU") && found.has("SHARDSPEED_BINDING"), [...found].join());
  assert.deepEqual(
    [...found].filter((name) => !isKnown(name)),
    [],
  );
});
