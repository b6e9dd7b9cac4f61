import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { initInference } from "../../dist/index.js";
import { demoModel, fixture, readJson } from "../support/fixtures.js";

/** Checkpoints as users have them, each with what transformers 5.24 generates from that very folder. */
describe("checkpoints in unusual forms, as transformers loads them", () => {
  for (const [name, what] of [
    ["tied_head_in_index", "an index that names a tied head which is in no shard"],
    ["float64", "weights in float64"],
  ] as const) {
    test(what, async () => {
      const { ids, new: expected } = readJson<{ ids: number[]; new: number[] }>(
        fixture("users", name, "expected.json"),
      );
      await using engine = await initInference(fixture("users", name), { threads: 1 });
      assert.equal(engine.module.dtype, "float32");
      const { ids: found } = await engine.generate(ids, { maxNewTokens: expected.length, ignoreEos: true });
      assert.deepEqual(found, expected);
    });
  }

  test("a snapshot in the cache of Hugging Face, whose files are links, by its name", async (t) => {
    const home = mkdtempSync(path.join(tmpdir(), "shardspeed-home-"));
    const before = process.env.HF_HOME;
    t.after(() => {
      rmSync(home, { recursive: true });
      if (before === undefined) delete process.env.HF_HOME;
      else process.env.HF_HOME = before;
    });
    process.env.HF_HOME = home;
    const model = path.join(home, "hub", "models--shardspeed--demo");
    mkdirSync(path.join(model, "refs"), { recursive: true });
    writeFileSync(path.join(model, "refs", "main"), "0123abcd");
    mkdirSync(path.join(model, "snapshots", "0123abcd"), { recursive: true });
    for (const name of readdirSync(demoModel)) {
      symlinkSync(path.join(path.resolve(demoModel), name), path.join(model, "snapshots", "0123abcd", name));
    }
    const generate = async (place: string) => {
      await using engine = await initInference(place, { threads: 1 });
      return (await engine.generate("Once", { maxNewTokens: 5 })).ids;
    };
    const expected = await generate(demoModel);
    for (const place of ["shardspeed/demo", model]) assert.deepEqual(await generate(place), expected);
  });
});
