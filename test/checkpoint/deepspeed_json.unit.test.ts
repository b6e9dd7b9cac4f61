import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { openDeepSpeedCheckpoint } from "../../dist/checkpoint/deepspeed.js";
import { readDeepSpeedJson } from "../../dist/checkpoint/deepspeed_json.js";
import { recordingLogger } from "../support/fake_binding.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";

interface Case {
  json: Record<string, unknown>;
  result?: object;
  error?: string;
}

describe("what DeepSpeed makes of checkpoint JSONs", () => {
  for (const { json, result, error } of readJson<Case[]>(fixture("deepspeed", "checkpoint_json_cases.json"))) {
    test(JSON.stringify(json), async () => {
      const before = JSON.stringify(json);
      // A file that is missing is found out when it is opened.
      const expected = result !== undefined || error === "FileNotFoundError";
      if (!expected) await assert.rejects(readDeepSpeedJson(json), hasCode("ERR_CHECKPOINT"));
      else {
        const read = await readDeepSpeedJson(json);
        assert.equal(read.type.toLowerCase(), String(json.type).toLowerCase());
        assert.equal(read.version, json.version);
      }
      if (error === "FileNotFoundError")
        await assert.rejects(
          openDeepSpeedCheckpoint(json),
          hasCode("ERR_CHECKPOINT", /names "a\.pt", which is not there/),
        );
      assert.equal(JSON.stringify(json), before);
    });
  }
});

describe("the forms", () => {
  const base = { type: "ds_model", version: 1.0 };
  const forms: [string, object, { whole: string[]; shards: string[][] }][] = [
    ["a list", { checkpoints: ["a", "b"] }, { whole: ["a", "b"], shards: [] }],
    ["pp by name", { checkpoints: ["a", "b"], parallelization: "pp", tp_size: 2 }, { whole: ["a", "b"], shards: [] }],
    ["a string", { checkpoints: "a" }, { whole: ["a"], shards: [] }],
    ["tp, a file a rank", { checkpoints: ["a", "b"], parallelization: "tp" }, { whole: [], shards: [["a"], ["b"]] }],
    [
      "tp, two files a rank",
      { checkpoints: ["a0", "b0", "a1", "b1"], parallelization: "tp", tp_size: 2 },
      {
        whole: [],
        shards: [
          ["a0", "a1"],
          ["b0", "b1"],
        ],
      },
    ],
    [
      "mp_size before tp_size",
      { checkpoints: ["a", "b"], parallelization: "tp", tp_size: 1, mp_size: 2 },
      { whole: [], shards: [["a"], ["b"]] },
    ],
    ["tp and non_tp", { checkpoints: { tp: ["a", "b"], non_tp: ["c"] } }, { whole: ["c"], shards: [["a"], ["b"]] }],
    ["tp alone", { checkpoints: { tp: ["a"] } }, { whole: [], shards: [["a"]] }],
    ["non_tp alone", { checkpoints: { non_tp: "c" } }, { whole: ["c"], shards: [] }],
    ["Megatron", { type: "Megatron", checkpoints: ["a", "b"], version: 2 }, { whole: [], shards: [["a"], ["b"]] }],
    ["a version as text", { checkpoints: ["a"], version: "1.0" }, { whole: ["a"], shards: [] }],
  ];
  for (const [name, json, expected] of forms) {
    test(name, async () => {
      const { whole, shards } = await readDeepSpeedJson({ ...base, ...json });
      assert.deepEqual({ whole, shards }, expected);
    });
  }

  test("an unknown key is said, with the nearest known one", async () => {
    const logger = recordingLogger();
    await readDeepSpeedJson({ ...base, checkpoints: ["a"], basedir: "x", colour: 1 }, { logger });
    const text = logger.lines.join("\n");
    assert.match(text, /unknown key "basedir".*did you mean base_dir\?/);
    assert.match(text, /unknown key "colour"\. It has no effect/);
  });
});

describe("errors", () => {
  const good = { type: "ds_model", checkpoints: ["a"], version: 1 };
  const cases: [object, RegExp][] = [
    [{ type: undefined }, /has no "type", expected type, checkpoints and version/],
    [{ type: 3 }, /has type 3, expected one of "ds_model", "bloom", "Megatron"/],
    [{ checkpoints: {} }, /names no files/],
    [{ checkpoints: [] }, /names no files/],
    [{ checkpoints: 4 }, /has checkpoints that are a number, expected a list of paths/],
    [{ checkpoints: ["a", 1] }, /has checkpoints with 1 among them/],
    [{ checkpoints: ["a", undefined] }, /has checkpoints with undefined among them/],
    [{ checkpoints: [""] }, /has checkpoints with "" among them/],
    [{ checkpoints: ["a\0b"] }, /among them, expected paths/],
    [{ checkpoints: ["a", "b", "a"] }, /name "a" twice/],
    [{ checkpoints: { tp: ["a"], nontp: ["b"] } }, /checkpoints with a key "nontp", expected tp and non_tp/],
    [{ version: "new" }, /has version "new", expected a number/],
    [{ version: true }, /has version true/],
    [{ type: "Megatron", version: 1.5 }, /Megatron version 1\.5, expected 0, 1\.0 or 2\.0/],
    [{ parallelization: "ep" }, /parallelization "ep", expected "pp" \(whole tensors\) or "tp"/],
    [{ parallelization: "tp", tp_size: 2 }, /names 1 files for 2 ranks, expected as many for each/],
    [{ parallelization: "tp", tp_size: 0 }, /has tp_size 0, expected an integer of at least 1/],
    [{ mp_size: "2" }, /has mp_size "2", expected an integer/],
    [{ base_dir: 5 }, /has base_dir 5, expected a path/],
  ];
  for (const [change, message] of cases) {
    test(String(message), () =>
      assert.rejects(readDeepSpeedJson({ ...good, ...change }), hasCode("ERR_CHECKPOINT", message)),
    );
  }

  test("files that are none", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "checkpoints.json");
    for (const [text, message] of [
      ["", /is not valid JSON/],
      ["[]", /is an array, expected an object/],
      ['{"type": "ds_model", "type": "bloom"}', /names more than once: "type"/],
      ["{", /is not valid JSON/],
    ] as const) {
      writeFileSync(file, text);
      await assert.rejects(readDeepSpeedJson(file), hasCode("ERR_CHECKPOINT", message));
    }
    await assert.rejects(readDeepSpeedJson(folder), hasCode("ERR_CHECKPOINT", /is a folder, expected a regular file/));
    await assert.rejects(readDeepSpeedJson(join(folder, "none.json")), hasCode("ERR_CHECKPOINT", /no such file/));
  });
});

test("20,000 random objects and texts: read, or refused with ERR_CHECKPOINT", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "checkpoints.json");
  const check = async (source: object | string) => {
    try {
      const { whole, shards } = await readDeepSpeedJson(source);
      assert.ok(whole.length + shards.length > 0);
      assert.ok([...whole, ...shards.flat()].every((name) => typeof name === "string" && name !== ""));
    } catch (error) {
      hasCode("ERR_CHECKPOINT")(error);
    }
  };
  const names = fc.array(fc.oneof(fc.string(), fc.constantFrom("a.bin", "b.bin", "../c.pt")), { maxLength: 6 });
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), names, fc.integer({ min: -2, max: 5 }));
  const likely = fc.record(
    {
      type: fc.oneof(fc.constantFrom("ds_model", "bloom", "Megatron"), value),
      checkpoints: fc.oneof(names, fc.record({ tp: names, non_tp: names }, { requiredKeys: [] }), value),
      version: fc.oneof(fc.constantFrom(0, 1.0, 2, null), value),
      parallelization: fc.oneof(fc.constantFrom("pp", "tp"), value),
      tp_size: value,
      mp_size: value,
      base_dir: value,
    },
    { requiredKeys: [] },
  );
  await fc.assert(fc.asyncProperty(fc.oneof({ weight: 4, arbitrary: likely }, fc.object()), check), {
    numRuns: 16_000,
  });
  const text = fc.oneof(
    fc.string(),
    likely.map((json) => JSON.stringify(json)),
    fc.json(),
  );
  const written = fc.asyncProperty(text, fc.nat(60), async (whole, cutAt) => {
    writeFileSync(file, cutAt < 20 ? whole.slice(0, cutAt) : whole);
    await check(file);
  });
  await fc.assert(written, { numRuns: 4_000 });
});
