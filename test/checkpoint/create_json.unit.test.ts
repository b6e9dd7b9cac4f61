import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { createCheckpointsJson } from "../../dist/checkpoint/create_json.js";
import { namePattern } from "../../dist/checkpoint/name_pattern.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";
import { Messages, Scratch } from "./support.js";

const scratch = new Scratch();

interface Row {
  name: string;
  files?: string[];
  args?: (string | null)[];
  json?: { type: string; checkpoints: string[]; version: number };
  stdout?: string;
}

function folderOf(files: readonly string[]): { folder: string; model: string } {
  const folder = scratch.folder(Object.fromEntries(files.map((file) => [`m/${file}`, ""])));
  mkdirSync(path.join(folder, "m"), { recursive: true });
  return { folder, model: path.join(folder, "m") };
}

describe("as create_checkpoints_json of TorchServe", () => {
  for (const row of readJson<Row[]>(fixture("deepspeed", "index_cases.json"))) {
    test(row.name, async () => {
      if (row.args) return refuses(row.args);
      const { folder, model } = folderOf(row.files ?? []);
      const file = path.join(folder, "checkpoints.json");
      const messages = new Messages();
      const made = createCheckpointsJson(model, file, { logger: messages });
      if (row.json?.checkpoints.length === 0) {
        await assert.rejects(made, hasCode("ERR_CHECKPOINT", new RegExp(model)));
        assert.deepEqual(readdirSync(folder), ["m"]);
        return;
      }
      const checkpoints = row.json?.checkpoints.map((one) => one.replace("<model_path>", model));
      const expected = { ...row.json, checkpoints };
      assert.deepEqual(await made, expected);
      assert.deepEqual(readJson(file), expected);
      assert.deepEqual(messages.all, [`info: ${row.stdout?.replace("<dir>", folder)}`]);
      assert.deepEqual(readdirSync(folder).sort(), ["checkpoints.json", "m"]);
    });
  }

  async function refuses(args: readonly (string | null)[]): Promise<void> {
    const folder = scratch.folder({ "a.bin": "" });
    const [model, file] = args.map((one) => one?.replace("<dir>", folder) ?? null) as [string, string];
    if (model === null) {
      await assert.rejects(
        createCheckpointsJson(model, file),
        hasCode("ERR_INVALID_ARGUMENT", /modelPath.*found null/),
      );
    } else {
      const missing = existsSync(model) ? path.dirname(file) : model;
      await assert.rejects(createCheckpointsJson(model, file), hasCode("ERR_CHECKPOINT", new RegExp(`${missing}:`)));
    }
    assert.deepEqual(readdirSync(folder), ["a.bin"]);
  }

  test("byte for byte, sorted, with 1.0 and escapes", async () => {
    const folder = scratch.folder({ "m/b.bin": "", "m/a.bin": "", "m/é\u{1f600}.bin": "" });
    const file = path.join(folder, "c.json");
    await createCheckpointsJson(path.join(folder, "m"), file);
    assert.equal(
      readFileSync(file, "utf8"),
      `{"type": "ds_model", "checkpoints": ["${folder}/m/a.bin", "${folder}/m/b.bin", "${folder}/m/\\u00e9\\ud83d\\ude00.bin"], "version": 1.0}`,
    );
  });

  test("links to files are followed, links to folders and links to nothing are not", async () => {
    const folder = scratch.folder({ "m/sub/real.bin": "", "elsewhere.data": "" });
    symlinkSync(path.join(folder, "elsewhere.data"), path.join(folder, "m/linked.bin"));
    symlinkSync(path.join(folder, "m/sub"), path.join(folder, "m/again"));
    symlinkSync(path.join(folder, "m/sub"), path.join(folder, "m/folder.bin"));
    symlinkSync(path.join(folder, "nothing"), path.join(folder, "m/dangling.bin"));
    const { checkpoints } = await createCheckpointsJson(`${folder}/m`, `${folder}/c.json`);
    assert.deepEqual(checkpoints, [`${folder}/m/linked.bin`, `${folder}/m/sub/real.bin`]);
  });

  test("paths begin with modelPath as pathlib writes it", async () => {
    const folder = path.relative(".", scratch.folder({ "m/a.bin": "" }));
    const rows = [
      ["/m", "/m/a.bin"],
      ["/m/", "/m/a.bin"],
      ["//m/.", "/m/a.bin"],
      ["/m/../m", "/m/../m/a.bin"],
    ];
    for (const [given, expected] of rows) {
      for (const start of ["", "./"]) {
        const { checkpoints } = await createCheckpointsJson(start + folder + given, `${folder}/c.json`);
        assert.deepEqual(checkpoints, [folder + expected]);
      }
    }
  });
});

describe("what is better here", () => {
  test("an index that is there is replaced whole, by several at once too", async () => {
    const { folder, model } = folderOf(["a.bin", "b.bin"]);
    const file = path.join(folder, "c.json");
    writeFileSync(file, "x".repeat(10_000));
    await Promise.all(Array.from({ length: 20 }, () => createCheckpointsJson(model, file)));
    assert.equal(readJson<{ checkpoints: string[] }>(file).checkpoints.length, 2);
    assert.deepEqual(readdirSync(folder).sort(), ["c.json", "m"]);
  });

  test("nothing is left behind where the target cannot be replaced", async () => {
    const { folder, model } = folderOf(["a.bin"]);
    mkdirSync(path.join(folder, "c.json"));
    await assert.rejects(
      createCheckpointsJson(model, path.join(folder, "c.json")),
      hasCode("ERR_CHECKPOINT", /c\.json: cannot be written/),
    );
    assert.deepEqual(readdirSync(folder).sort(), ["c.json", "m"]);
    await assert.rejects(
      createCheckpointsJson(model, path.join(model, "a.bin/c.json")),
      hasCode("ERR_CHECKPOINT", /a\.bin/),
    );
    await assert.rejects(
      createCheckpointsJson(path.join(model, "a.bin"), path.join(folder, "d.json")),
      hasCode("ERR_CHECKPOINT", /a\.bin/),
    );
  });

  const tree = [
    "w.bin",
    "w.pt",
    "w.safetensors",
    "optimizer.bin",
    "training_args.bin",
    "rng_state_0.pt",
    ".hidden.bin",
    ".cache/x.bin",
  ];
  const rows: [string, object, string[]][] = [
    ["patterns", { patterns: ["*.pt"] }, ["rng_state_0.pt", "w.pt"]],
    ["safetensors", { safetensors: true, weightsOnly: true }, ["w.bin", "w.safetensors"]],
    ["weightsOnly", { weightsOnly: true }, ["w.bin"]],
    [
      "all of them",
      { patterns: ["*.pt", "w.b?n"], safetensors: true, weightsOnly: true },
      ["w.bin", "w.pt", "w.safetensors"],
    ],
  ];
  for (const [name, options, expected] of rows) {
    test(name, async () => {
      const { folder, model } = folderOf(tree);
      const { checkpoints } = await createCheckpointsJson(model, `${folder}/c.json`, { ...options, relative: true });
      assert.deepEqual(checkpoints, expected);
    });
  }

  test("a link stays one, and what is no file is written to as it is", async () => {
    const { folder, model } = folderOf(["a.bin"]);
    const file = path.join(folder, "real.json");
    writeFileSync(file, "old");
    symlinkSync("real.json", path.join(folder, "link.json"));
    symlinkSync("/dev/null", path.join(folder, "device.json"));
    const made = await createCheckpointsJson(model, path.join(folder, "link.json"));
    await createCheckpointsJson(model, path.join(folder, "device.json"));
    assert.deepEqual(readJson(file), made);
    assert.equal(readlinkSync(path.join(folder, "link.json")), "real.json");
    assert.equal(readlinkSync(path.join(folder, "device.json")), "/dev/null");
  });

  test("wrong options", async () => {
    const { folder, model } = folderOf(["a.bin"]);
    const wrong: [unknown, RegExp][] = [
      [{ patern: ["*"] }, /patern.*patterns/],
      [{ patterns: "*" }, /patterns/],
      [{ patterns: [] }, /patterns/],
      [{ patterns: ["a/*"] }, /pattern/],
      [{ safetensors: "yes" }, /safetensors/],
      [null, /options/],
    ];
    for (const [options, message] of wrong) {
      await assert.rejects(
        createCheckpointsJson(model, `${folder}/c.json`, options as object),
        hasCode("ERR_INVALID_ARGUMENT", message),
      );
    }
    await assert.rejects(createCheckpointsJson(model, 7 as unknown as string), hasCode("ERR_INVALID_ARGUMENT", /file/));
  });
});

describe("patterns of names", () => {
  const rows: [string, string, boolean][] = [
    ["*.bin", ".bin", true],
    ["a*b*c", "aXXbYYc", true],
    ["a*b*c", "aXXbYY", false],
    ["[!a]*", "abc", false],
    ["[a-c]?", "bz", true],
    ["[]]", "]", true],
    ["[x", "[x", true],
    ["?", "\u{1f600}", true],
    ["*a*a*a*a*a*a*a*a*a*a*b", "a".repeat(255), false],
  ];
  for (const [pattern, name, expected] of rows) {
    test(`${pattern} on ${name.slice(0, 20)}`, () => assert.equal(namePattern(pattern)(name), expected));
  }

  test("a star stands for anything, and other characters for themselves", () => {
    const plain = fc.string({ minLength: 1, maxLength: 8 }).map((text) => text.replace(/[*?[/]/g, "x"));
    fc.assert(
      fc.property(plain, plain, fc.string({ maxLength: 20 }), (start, end, middle) => {
        assert.ok(namePattern(`${start}*${end}`)(start + middle + end));
        assert.ok(namePattern(start)(start));
        assert.equal(namePattern(start)(end), start === end);
      }),
    );
  });
});
