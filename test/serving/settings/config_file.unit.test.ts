import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { parseConfigFile, readConfigFile } from "../../../dist/serving/settings/config_file.js";
import { settingNames, settingOf } from "../../../dist/serving/settings/table.js";
import { ignoredKeys, readerKeys } from "../../../dist/serving/settings/torchserve_keys.js";
import { resolveWith } from "./support.js";

const keys = [...settingNames.flatMap((name) => settingOf(name).key ?? []), ...ignoredKeys.keys(), ...readerKeys];

test("any values of TorchServe's keys are settings or a typed error", async () => {
  const value = fc.oneof(
    fc.constantFrom("true", "0", "-1", "8080", "http://[::]:1", "unix:/a", "{}", "[]", "all", "a=b,c", "(", "$$HOME$$"),
    fc.json(),
    fc.string({ unit: "binary" }),
  );
  const entries = fc.array(fc.tuple(fc.constantFrom(...keys), value), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(entries, async (given) => {
      const text = given
        .map(([key, one]) => `${key}=${one.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`)
        .join("\n");
      try {
        const { warnings } = await resolveWith(text, { environment: { HOME: "/root" } });
        assert.ok(warnings.length <= 2 + 21 && warnings.every((line) => line.length < 2000));
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error), String(error));
        assert.equal(error.code, "ERR_CONFIG");
      }
    }),
    { numRuns: 60 },
  );
});

test("a file of a hundred thousand keys that nobody knows has twenty warnings", () => {
  const text = Array.from({ length: 100_000 }, (_, i) => `x${i}=1`).join("\n");
  const { warnings, properties } = parseConfigFile(text, "f", {});
  assert.deepEqual(properties, []);
  assert.deepEqual([warnings.length, warnings.at(-1)], [21, "f: 99980 more warnings"]);
});

test("UTF-8 is read, and Latin-1 where it is none; what is no file is an error", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-config-"));
  try {
    const file = path.join(folder, "c.properties");
    for (const encoding of ["utf8", "latin1"] as const) {
      writeFileSync(file, "model_store=/modèles\n", encoding);
      assert.equal((await readConfigFile(file, {}))?.properties[0]?.value, "/modèles", encoding);
    }
    assert.equal(await readConfigFile(path.join(folder, "gone"), {}), undefined);
    mkdirSync(path.join(folder, "folder"));
    await assert.rejects(readConfigFile(path.join(folder, "folder"), {}), /expected a regular file/);
    writeFileSync(file, "#".repeat(2 ** 20 + 1));
    await assert.rejects(readConfigFile(file, {}), /expected at most 1048576 bytes/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
