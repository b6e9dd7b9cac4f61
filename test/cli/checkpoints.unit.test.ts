import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { Scratch } from "../checkpoint/support.js";
import { run } from "./command.js";

const scratch = new Scratch();

describe("checkpoints", () => {
  test("to the standard output, or to a file", async () => {
    const folder = scratch.folder({ "b.bin": "", "a.bin": "", "optimizer.bin": "", "c.safetensors": "", "d.pt": "" });
    const text = (names: string[]) =>
      `{"type": "ds_model", "checkpoints": [${names.map((name) => `"${name}"`).join(", ")}], "version": 1.0}`;
    const all = await run(["checkpoints", folder]);
    assert.equal(all.status, 0, all.stderr);
    assert.equal(all.stdout, `${text(["a.bin", "b.bin", "optimizer.bin"].map((name) => `${folder}/${name}`))}\n`);
    assert.equal(all.stderr, "");

    const out = path.join(folder, "index.json");
    const flags = ["--safetensors", "--weights-only", "--relative", "--pattern", "*.bin", "--pattern", "*.pt"];
    const written = await run(["checkpoints", folder, "--out", out, ...flags]);
    assert.equal(written.status, 0, written.stderr);
    assert.equal(written.stdout, "");
    assert.match(written.stderr, /index\.json: 4 files\n$/);
    assert.equal(readFileSync(out, "utf8"), text(["a.bin", "b.bin", "c.safetensors", "d.pt"]));
    const both = await run(["checkpoints", folder, "--out", out, "--json", "--relative"]);
    assert.equal(both.stdout, `${readFileSync(out, "utf8")}\n`);
  });

  test("a folder without weights, and wrong usage", async () => {
    const empty = scratch.folder();
    const none = await run(["checkpoints", empty, "--json"]);
    assert.equal(none.status, 1);
    assert.equal(JSON.parse(none.stdout).error.code, "ERR_CHECKPOINT");
    assert.equal((await run(["checkpoints", empty, "--pattern", "a/b"])).status, 2);
    assert.equal((await run(["checkpoints"])).status, 2);
  });
});
