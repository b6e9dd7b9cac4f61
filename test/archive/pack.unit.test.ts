import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { openArchive, type PackOptions, packArchive } from "../../dist/index.js";
import { echoHandler, failure, handlers, listTree, pack, readTree, Scratch } from "./support.js";

const scratch = new Scratch();
const formats = ["default", "tgz", "no-archive", "zip-store"] as const;
const manifest = "MAR-INF/MANIFEST.json";

/** Files that an archive of these options has, but for the handler and the manifest. */
async function packedFiles(options: Partial<PackOptions>): Promise<string[]> {
  const { files } = await pack(scratch.make(), options);
  return files.filter((name) => name !== "echo_handler.py" && name !== manifest);
}

/** Asserts that packing fails and leaves the export folder as it was. */
async function refusesPack(options: Partial<PackOptions>, message: RegExp, folder = scratch.make()): Promise<void> {
  const before = listTree(folder);
  for (const archiveFormat of formats) {
    const error = await failure(pack(folder, { archiveFormat, ...options }));
    assert.equal(error.code, "ERR_ARCHIVE", error.message);
    assert.match(error.message, message);
    assert.deepEqual(listTree(folder), before);
  }
}

describe("the same inputs give the same bytes", () => {
  for (const archiveFormat of formats) {
    test(archiveFormat, async () => {
      const files = { b: "b".repeat(1e5), "a/c": "", "a/é": "x", Z: Buffer.from([0, 255]) };
      const made = [];
      for (const seconds of [1e9, 2e9]) {
        const extraFiles = [scratch.tree(files)];
        for (const name of Object.keys(files)) utimesSync(path.join(extraFiles[0]!, name), seconds, seconds);
        made.push((await pack(scratch.make(), { archiveFormat, extraFiles })).path);
      }
      const read = (file: string) => (archiveFormat === "no-archive" ? readTree(file) : readFileSync(file));
      assert.deepEqual(read(made[0]!), read(made[1]!));
    });
  }

  test("dates are 1980, or SOURCE_DATE_EPOCH", async () => {
    const text = async () => {
      const { path: folder } = await pack(scratch.make(), { archiveFormat: "no-archive" });
      return readFileSync(path.join(folder, manifest), "utf8");
    };
    const mtime = async () => {
      const { path: file } = await pack(scratch.make(), { archiveFormat: "tgz" });
      return execFileSync("tar", ["tvzf", file, "--utc", "--full-time"], { encoding: "utf8" });
    };
    const outside = process.env.SOURCE_DATE_EPOCH;
    delete process.env.SOURCE_DATE_EPOCH;
    try {
      assert.match(await text(), /"createdOn": "01\/01\/1980 00:00:00"/);
      assert.match(await mtime(), /1980-01-01 00:00:00/);
      process.env.SOURCE_DATE_EPOCH = "1700000001";
      assert.match(await text(), /"createdOn": "14\/11\/2023 22:13:21"/);
      assert.match(await mtime(), /2023-11-14 22:13:21/);
      for (const wrong of ["x", "-1", "1e9", "99999999999", "1.5"]) {
        process.env.SOURCE_DATE_EPOCH = wrong;
        const error = await failure(pack(scratch.make()));
        assert.equal(error.code, "ERR_INVALID_ARGUMENT");
        assert.match(error.message, /SOURCE_DATE_EPOCH/);
      }
    } finally {
      if (outside === undefined) delete process.env.SOURCE_DATE_EPOCH;
      else process.env.SOURCE_DATE_EPOCH = outside;
    }
  });
});

describe("extra files", () => {
  test("contents of folders go to the root, without what the original leaves out", async () => {
    const folder = scratch.tree({
      "a.txt": "",
      ".hidden": "",
      "sub/b.txt": "",
      "sub/.env": "",
      ".git/config": "",
      "sub/__pycache__/x.pyc": "",
      "__MACOSX/x": "",
      "sub/.cache/x": "",
    });
    const expected = [".hidden", "a.txt", "sub/.env", "sub/b.txt"];
    assert.deepEqual(await packedFiles({ extraFiles: folder }), expected);
    assert.deepEqual(await packedFiles({ extraFiles: `${folder}/` }), expected);
    assert.deepEqual(await packedFiles({ extraFiles: ` ${folder}/a.txt,, ${folder}/sub ,` }), [
      ".env",
      "a.txt",
      "b.txt",
    ]);
  });

  test("patterns", async () => {
    const folder = scratch.tree({
      "a1.txt": "",
      "a2.txt": "",
      "b.json": "",
      ".c.txt": "",
      "d/e.txt": "",
      "[x].txt": "",
      "f/e.txt/g": "",
    });
    const cases: [string, string[]][] = [
      ["*.txt", ["[x].txt", "a1.txt", "a2.txt"]],
      ["a?.txt", ["a1.txt", "a2.txt"]],
      ["a[!1].txt", ["a2.txt"]],
      ["[ab]*", ["a1.txt", "a2.txt", "b.json"]],
      [".*", [".c.txt"]],
      ["*/e.txt", ["e.txt", "g"]],
      ["[x].txt", ["[x].txt"]],
      ["[z-a]*", []],
      ["*.bin", []],
    ];
    for (const [pattern, expected] of cases) {
      const warnings: string[] = [];
      const logger = { ...console, warn: (message: string) => void warnings.push(message) };
      assert.deepEqual(await packedFiles({ extraFiles: path.join(folder, pattern), logger }), expected, pattern);
      assert.equal(warnings.length, expected.length === 0 ? 1 : 0, pattern);
      if (warnings[0]) assert.match(warnings[0], /Given wildcard pattern did not match any file: /);
    }
  });

  test("links are followed, and one that goes round in a circle is an error", async () => {
    const folder = scratch.tree({ "target/x": "1" });
    symlinkSync("target", path.join(folder, "link"));
    symlinkSync("target/x", path.join(folder, "file"));
    assert.deepEqual(await packedFiles({ extraFiles: folder }), ["file", "link/x", "target/x"]);
    symlinkSync("..", path.join(folder, "target/up"));
    await refusesPack({ extraFiles: folder }, /is a link to a folder that it lies in/);
    const dangling = scratch.make();
    symlinkSync("gone", path.join(dangling, "l"));
    await refusesPack(
      { extraFiles: dangling },
      /\/l: there is no such file or folder \(or it is a link to one that is gone\)/,
    );
  });

  test("the archive does not become a part of itself", async () => {
    for (const archiveFormat of formats) {
      const folder = scratch.tree({ x: "1" });
      for (const extraFiles of [folder, `${folder}/*`]) {
        const { files } = await pack(folder, { archiveFormat, extraFiles, force: true });
        assert.deepEqual(files, ["echo_handler.py", "x", manifest]);
      }
    }
  });

  test("the same file twice is one; another of its name is an error that names both", async () => {
    assert.deepEqual((await packedFiles({ extraFiles: [handlers, echoHandler] })).length, 5);
    const other = scratch.write("echo_handler.py", "other");
    await refusesPack(
      { extraFiles: other },
      new RegExp(`echo_handler.py in the archive: ${echoHandler} and ${other}\\.`),
    );
    const [file, folder] = [scratch.tree({ x: "" }), scratch.tree({ "x/y": "" })];
    await refusesPack({ extraFiles: [file, folder] }, /Two files would have the name x/);
  });

  test("a manifest among them is left out, and said so", async () => {
    const warnings: string[] = [];
    const logger = { ...console, warn: (message: string) => void warnings.push(message) };
    const extraFiles = scratch.tree({ [manifest]: "{}", "MAR-INF/other": "" });
    assert.deepEqual(await packedFiles({ extraFiles, logger }), ["MAR-INF/other"]);
    assert.match(warnings.join(), /MANIFEST\.json is left out/);
  });
});

describe("handlers", () => {
  test("files of each kind, with and without the name of a function", async () => {
    const folder = scratch.tree({
      "h.py": "",
      "j.js": "",
      "m.mjs": "",
      "c.cjs": "",
      "t.ts": "",
      "n.mts": "",
      "x.y.py": "",
    });
    const cases: [string, string, string][] = [
      ["h.py", "h.py", "h.py"],
      ["h", "h", "h.py"],
      ["h:run", "h:run", "h.py"],
      ["x.y:run", "x.y:run", "x.y.py"],
      ["j.js", "j.js", "j.js"],
      ["m.mjs:Handler", "m.mjs:Handler", "m.mjs"],
      ["c.cjs", "c.cjs", "c.cjs"],
      ["t.ts:run", "t.ts:run", "t.ts"],
      ["n", "n", "n.mts"],
    ];
    for (const [handler, named, file] of cases) {
      const made = await pack(scratch.make(), { handler: path.join(folder, handler), archiveFormat: "no-archive" });
      assert.deepEqual(made.files, [file, manifest]);
      assert.equal((await openArchive(made.path)).handler, named);
    }
  });

  test("names that need no file", async () => {
    const names = [
      "text_classifier",
      "base_handler",
      "TextGenerationHandler",
      "text_generation_handler",
      "TextGeneration",
    ];
    for (const handler of names) {
      const made = await pack(scratch.make(), { handler, archiveFormat: "no-archive" });
      assert.deepEqual(made.files, [manifest]);
      assert.equal((await openArchive(made.path)).handler, handler);
    }
    assert.deepEqual((await pack(scratch.make(), { handler: "TorchScriptHandler", runtime: "LSP" })).files, [manifest]);
  });

  test("that are not there", async () => {
    await refusesPack({ handler: "missing.py" }, /No such file or directory: 'missing\.py'/);
    await refusesPack({ handler: "missing" }, /No such file or directory: 'missing\.py' \(nor with \.js, \.mjs/);
    await refusesPack({ handler: `${echoHandler}:handle` }, /echo_handler\.py:handle'.* is given as module:name/);
    await refusesPack({ handler: handlers }, /No such file or directory/);
    await refusesPack(
      { handler: `${scratch.tree({ "h.py/x": "" })}/h.py` },
      /h\.py: is a folder, expected a regular file/,
    );
    await refusesPack({ handler: "echo", runtime: "LSP" }, /No such file or directory: 'echo\.(so|dylib)'/);
  });
});

describe("what is there already", () => {
  for (const archiveFormat of formats) {
    test(`${archiveFormat}: stays, or is replaced with force`, async () => {
      const folder = scratch.make();
      const { path: target } = await pack(folder, { archiveFormat });
      await refusesPack({ archiveFormat }, /already exists\.\nPlease specify --force\/-f option to overwrite/, folder);
      const warnings: string[] = [];
      const logger = { ...console, warn: (message: string) => void warnings.push(message) };
      const extraFiles = scratch.tree({ more: "1" });
      await pack(folder, { archiveFormat, extraFiles, force: true, logger });
      assert.deepEqual(warnings, [`Overwriting ${target} ...`]);
      assert.deepEqual(readdirSync(folder), [path.basename(target)]);
      const archive = await openArchive(target);
      assert.ok("more" in readTree(archive.folder));
      await archive.close();
    });

    test(`${archiveFormat}: stays as it was where its successor fails`, async () => {
      const folder = scratch.make();
      await pack(folder, { archiveFormat });
      const before =
        archiveFormat === "no-archive" ? "" : readFileSync(path.join(folder, readdirSync(folder)[0]!), "latin1");
      const serializedFile = scratch.write("w.bin", Buffer.alloc(1e6));
      // It becomes shorter while it is read.
      const onProgress = () => truncateSync(serializedFile, 300_000);
      const error = await failure(pack(folder, { archiveFormat, force: true, serializedFile, onProgress }));
      assert.match(error.message, /w\.bin: became shorter while it was packed/);
      const [name, ...others] = readdirSync(folder);
      assert.deepEqual(others, []);
      if (before) assert.equal(readFileSync(path.join(folder, name!), "latin1"), before);
      else assert.deepEqual(readdirSync(path.join(folder, name!)), ["MAR-INF", "echo_handler.py"]);
    });
  }

  test("a folder that is no archive is not replaced", async () => {
    const folder = scratch.tree({ "m/precious": "1" });
    await refusesPack(
      { archiveFormat: "no-archive", force: true },
      /is not replaced: it is a folder without MAR-INF/,
      folder,
    );
    mkdirSync(path.join(folder, "m.mar"));
    await refusesPack({ archiveFormat: "default", force: true }, /m\.mar: is not replaced: it is a folder/, folder);
    const file = scratch.tree({ m: "" });
    await refusesPack({ archiveFormat: "no-archive", force: true }, /m: a part of the path is not a folder/, file);
  });
});

describe("inputs that cannot be packed", () => {
  test("files that options name", async () => {
    const missing = path.join(scratch.folder, "missing");
    for (const option of ["serializedFile", "modelFile", "requirementsFile", "configFile"] as const) {
      await refusesPack({ [option]: missing }, /No such file or directory: '.*missing'/);
      await refusesPack({ [option]: handlers }, /is a folder, expected a regular file/);
    }
    await refusesPack({ extraFiles: missing }, /File does not exist: .*missing/);
  });

  test("pipes and devices, which would be waited for", async () => {
    const folder = scratch.make();
    execFileSync("mkfifo", [path.join(folder, "pipe")]);
    await refusesPack({ extraFiles: folder }, /pipe: is a pipe, expected a regular file or a folder/);
    await refusesPack({ serializedFile: "/dev/zero" }, /is a device/);
  });

  test("names that no archive should have", async () => {
    await refusesPack(
      { extraFiles: scratch.tree({ "a\\b": "" }) },
      /cannot stand in an archive: its name holds a backslash/,
    );
  });

  test("a file that grows meanwhile", async () => {
    const serializedFile = scratch.write("w.bin", Buffer.alloc(1e6));
    const onProgress = () => writeFileSync(serializedFile, Buffer.alloc(2e6));
    const error = await failure(pack(scratch.make(), { serializedFile, onProgress }));
    assert.match(error.message, /became longer while it was packed/);
  });

  test("names of models, and the folder to export to", async () => {
    for (const modelName of ["m/1", "m 1", "-m", ".m", "..", "é"]) {
      await refusesPack(
        { modelName },
        /^Model name contains special characters\.\nThe allowed regular expression filter/,
      );
    }
    const error = await failure(pack(path.join(scratch.folder, "nowhere")));
    assert.match(error.message, /^Given export-path .*nowhere is not a directory\. Point to a valid/);
  });

  test("options of a wrong kind are ERR_INVALID_ARGUMENT", async () => {
    const good = { modelName: "m", version: "1", handler: echoHandler };
    const wrong: [unknown, RegExp][] = [
      [undefined, /modelName/],
      [{ ...good, version: 1 }, /version/],
      [{ ...good, version: undefined }, /needs the option version/],
      [{ ...good, handler: "" }, /handler/],
      [{ ...good, archiveFormat: "rar" }, /archiveFormat to be one of default, tgz, no-archive, zip-store/],
      [{ ...good, runtime: "ruby" }, /runtime/],
      [{ ...good, extraFiles: [1] }, /extraFiles/],
      [{ ...good, configfile: "x" }, /Did you mean configFile/],
      [{ ...good, force: "yes" }, /force/],
      [{ ...good, logger: {} }, /logger/],
    ];
    for (const [options, message] of wrong) {
      const error = await failure(packArchive(options as PackOptions));
      assert.equal(error.code, "ERR_INVALID_ARGUMENT", error.message);
      assert.match(error.message, message);
    }
  });
});

describe("progress and signals", () => {
  for (const archiveFormat of formats) {
    test(archiveFormat, async () => {
      const serializedFile = scratch.write("w.bin", Buffer.alloc(1e6));
      const folder = scratch.make();
      const seen: number[] = [];
      const totals = new Set<number>();
      const onProgress: PackOptions["onProgress"] = ({ doneBytes, totalBytes }) => {
        seen.push(doneBytes);
        totals.add(totalBytes);
      };
      await pack(folder, { archiveFormat, serializedFile, onProgress, modelName: "whole" });
      assert.deepEqual([...totals], [1e6 + readFileSync(echoHandler).length]);
      assert.equal(seen.at(-1), [...totals][0]);

      const controller = new AbortController();
      const abort = () => controller.abort(new Error("enough"));
      const before = readdirSync(folder);
      const options = { archiveFormat, serializedFile, onProgress: abort, signal: controller.signal };
      for (let i = 0; i < 2; i++) {
        const error = await failure(pack(folder, options));
        assert.equal(error.code, "ERR_ABORTED");
        assert.match(String(error.cause), /enough/);
      }
      const thrown = new Error("from the callback");
      const fail = () => {
        throw thrown;
      };
      const failing = pack(folder, { archiveFormat, serializedFile, onProgress: fail });
      await assert.rejects(failing, (error) => error === thrown);
      assert.deepEqual(readdirSync(folder), before);
    });
  }
});
