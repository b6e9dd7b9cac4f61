import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { root } from "./programs.js";

interface LockedPackage {
  resolved?: string;
  optionalDependencies?: Record<string, string>;
}

async function lockedPackages(): Promise<[string, LockedPackage][]> {
  const text = await readFile(path.join(root, "package-lock.json"), "utf8");
  return Object.entries(JSON.parse(text).packages as Record<string, LockedPackage>);
}

test("package-lock.json does not say where packages come from", async () => {
  const resolved = (await lockedPackages()).filter(([, { resolved }]) => resolved !== undefined);
  assert.deepEqual(resolved, []);
});

// npm leaves optional packages out of the lock file when the registry in use does not have them, and then `npm ci` fails.
test("package-lock.json has the optional packages of every platform", async () => {
  const packages = await lockedPackages();
  const names = new Set(packages.map(([place]) => place.split("node_modules/").at(-1)));
  const wanted = packages.flatMap(([, { optionalDependencies = {} }]) => Object.keys(optionalDependencies));
  assert.deepEqual(
    wanted.filter((name) => !names.has(name)),
    [],
  );
});
