import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { packArchive, type Settings } from "../../../dist/index.js";
import type { ModelPool } from "../../../dist/serving/model_pool.js";
import type { ModelRegistry } from "../../../dist/serving/registry.js";
import { hasCode } from "../../support/fixtures.js";
import { ask, echo, folder, makeRegistry } from "./worker_pools.js";

describe("a handler that cannot be started", () => {
  let count = 0;
  async function failing(
    source: string,
    settings: Settings = {},
  ): Promise<{ error: Error; pool: ModelPool; registry: ModelRegistry }> {
    const file = path.join(folder, `failing_${count++}.mjs`);
    writeFileSync(file, source);
    const { path: location } = await packArchive({
      modelName: "failing",
      version: "1.0",
      handler: file,
      exportPath: mkdtempSync(path.join(folder, "failing-")),
    });
    const registry = makeRegistry();
    const { pool } = await registry.register({ location, settings });
    const error = await pool.replicas.scaleTo(1).then(
      () => assert.fail("it started"),
      (reason) => reason,
    );
    return { error, pool, registry };
  }

  test("says why, and is not tried again where that would not help", async () => {
    const { error, pool, registry } = await failing("export const nothing = 1;");
    assert.match(error.message, /exports no class/);
    assert.equal(pool.state, "failed");
    await assert.rejects(ask(pool, "a"), { code: "no_worker" });
    await registry.dispose(1000);
  });

  test("is tried again where that may help", async () => {
    const marker = path.join(folder, "marker");
    const { error, pool, registry } = await failing(`
      import { existsSync, writeFileSync } from "node:fs";
      export class Late {
        initialize() {
          if (existsSync(${JSON.stringify(marker)})) return;
          writeFileSync(${JSON.stringify(marker)}, "");
          throw new Error("the data base is not there yet");
        }
        handle(data) { return data.map(() => "at last"); }
      }`);
    assert.match(error.message, /the data base is not there yet/);
    assert.equal(pool.state, "loading");
    assert.equal(await ask(pool, "a"), "at last");
    await registry.dispose(1000);
  });

  test("is given another turn by whoever scales its workers", async () => {
    const marker = path.join(folder, "second marker");
    const { pool, registry } = await failing(
      `
      import { existsSync, writeFileSync } from "node:fs";
      export class Late {
        initialize() {
          if (existsSync(${JSON.stringify(marker)})) return;
          writeFileSync(${JSON.stringify(marker)}, "");
          throw new Error("not yet");
        }
        handle(data) { return data.map(() => "at last"); }
      }`,
      { maxRetryTimeoutInSec: 0 },
    );
    assert.equal(pool.state, "failed");
    await pool.replicas.scaleTo(1);
    assert.equal(await ask(pool, "a"), "at last");
    assert.equal(pool.replicas.all.length, 1);
    await registry.dispose(1000);
  });

  test("says so where the path of its socket is too long", async () => {
    const short = process.env.TMPDIR;
    process.env.TMPDIR = path.join(folder, "long".repeat(30));
    mkdirSync(process.env.TMPDIR);
    try {
      const registry = makeRegistry();
      const { pool } = await registry.register({ location: echo });
      await assert.rejects(pool.replicas.scaleTo(1), hasCode("ERR_CONFIG", /socket would have \d+ bytes.*TMPDIR/));
      assert.equal(pool.state, "failed");
      await registry.dispose(1000);
      assert.deepEqual(readdirSync(process.env.TMPDIR), []);
    } finally {
      process.env.TMPDIR = short;
    }
  });

  test("is ended where it takes longer than it may", async () => {
    const source = "export class Slow { initialize() { return new Promise(() => {}); } handle() {} }";
    const { error, registry } = await failing(source, { startupTimeout: 2 });
    assert.match(error.message, /not loaded in 2 s.*startupTimeout/s);
    await registry.dispose(1000);
  });
});
