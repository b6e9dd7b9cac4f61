import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { openArchive } from "../../dist/index.js";
import { zipFile } from "../checkpoint/zip_writer.js";
import { archives, failure, handlers, pack, readTree, Scratch, tarGz } from "./support.js";

const scratch = new Scratch();
const manifest = (model: object = {}, rest: object = {}) =>
  JSON.stringify({ runtime: "python", model: { modelName: "m", modelVersion: "2", ...model }, ...rest });

describe("archives that torch-model-archiver made", () => {
  const expected: Record<string, { name: string; version: string; files: string[]; config?: string }> = {
    "echo.mar": { name: "echo", version: "1.0", files: ["echo_handler.py"] },
    "echo2.mar": { name: "echo2", version: "2.0", files: ["echo_handler.py"] },
    "failing.mar": { name: "failing", version: "1.0", files: ["failing_handler.py"] },
    "opt.tar.gz": {
      name: "opt",
      version: "1.0",
      files: ["deepspeed_handler.py", "ds-config.json", "model-config.yaml", "requirements.txt"],
      config: "model-config.yaml",
    },
    optdir: {
      name: "optdir",
      version: "1.0",
      files: ["deepspeed_handler.py", "ds-config.json", "model-config.yaml"],
      config: "model-config.yaml",
    },
  };
  for (const [file, { name, version, files, config }] of Object.entries(expected)) {
    test(file, async () => {
      const archive = await openArchive(path.join(archives, file));
      assert.equal(archive.modelName, name);
      assert.equal(archive.version, version);
      assert.equal(archive.handler, files[0]);
      assert.equal(archive.configFile, config && path.join(archive.folder, config));
      assert.equal(archive.temporary, file !== "optdir");
      assert.equal(archive.manifest.createdOn, "23/11/2026 09:13:20");
      assert.equal(archive.manifest.archiverVersion, "0.12.0");
      const { "MAR-INF/MANIFEST.json": _, ...found } = readTree(archive.folder);
      const wanted = files.map((wanted) => [wanted, readFileSync(path.join(handlers, wanted), "latin1")]);
      assert.deepEqual(found, Object.fromEntries(wanted));
      await archive.close();
      assert.equal(existsSync(archive.folder), file === "optdir");
      scratch.assertNothingLeft();
    });
  }
});

describe("openArchive", () => {
  test("unpacks to a folder that only its user can read, and removes it, once", async () => {
    const { path: file } = await pack(scratch.make(), { extraFiles: [scratch.tree({ "a/b.txt": "b" })] });
    const archive = await openArchive(file);
    assert.equal(path.dirname(archive.folder), scratch.temporary);
    assert.equal(statSync(archive.folder).mode & 0o777, 0o700);
    assert.equal(statSync(path.join(archive.folder, "a")).mode & 0o777, 0o700);
    assert.equal(statSync(path.join(archive.folder, "a/b.txt")).mode & 0o777, 0o600);
    await Promise.all([archive.close(), archive.close()]);
    await archive.close();
    scratch.assertNothingLeft();
    await (await openArchive(file))[Symbol.asyncDispose]();
    scratch.assertNothingLeft();
  });

  test("leaves no file open, whole archives or not", { skip: process.platform !== "linux" }, async () => {
    const count = () => readdirSync("/proc/self/fd").length;
    const { path: whole } = await pack(scratch.make());
    const damaged = scratch.write("x.mar", readFileSync(whole).subarray(0, -1));
    const open = async () => {
      await (await openArchive(whole)).close();
      await (await openArchive(path.join(archives, "opt.tar.gz"))).close();
      await failure(openArchive(damaged));
    };
    await open();
    const before = count();
    for (let i = 0; i < 10; i++) await open();
    // Streams that have been destroyed close their files a moment later.
    for (let i = 0; i < 100 && count() > before; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(count() <= before, `${count()} > ${before}`);
  });

  test("does not go by the name", async () => {
    for (const archiveFormat of ["default", "tgz", "zip-store"] as const) {
      const { path: file } = await pack(scratch.make(), { archiveFormat });
      const renamed = path.join(path.dirname(file), archiveFormat === "tgz" ? "x.mar" : "x.tar.gz");
      renameSync(file, renamed);
      const archive = await openArchive(renamed);
      assert.equal(archive.modelName, "m");
      await archive.close();
    }
  });

  test("without a manifest, assumes what TorchServe does", async () => {
    const tarball = await tarGz([["x/handler.py", "pass"]]);
    const cases: [string, string][] = [
      [scratch.write("my-model.mar", zipFile([{ name: "handler.py", data: "pass" }])), "my-model"],
      [scratch.write("my-model.tar.gz", tarball), "my-model"],
      [scratch.write("my model é.tgz", tarball), "my_model__"],
      [scratch.write("..mar", tarball), "model"],
      [path.dirname(scratch.write("plain.v1/handler.py", "pass")), "plain.v1"],
    ];
    for (const [location, name] of cases) {
      const archive = await openArchive(location);
      assert.equal(archive.modelName, name);
      assert.equal(archive.version, "1.0");
      assert.equal(archive.handler, "default_service_handler");
      assert.equal(archive.configFile, undefined);
      assert.equal(archive.manifest.runtime, "python");
      assert.equal(readFileSync(path.join(archive.folder, "handler.py"), "utf8"), "pass");
      await archive.close();
    }
  });

  test("takes numbers and booleans for text as they are written, as TorchServe's parser does", async () => {
    const model = '"modelName": "m", "handler": "h.mjs", "modelVersion" :\t1.0, "description": "\\"modelVersion\\": 3"';
    const text = `{"runtime": "python", "model": {${model}, "envelope": true}, "archiverVersion": 0.10, "publisher": 1.0}`;
    const archive = await openArchive(scratch.tree({ "MAR-INF/MANIFEST.json": text }));
    assert.equal(archive.version, "1.0");
    assert.equal(archive.manifest.archiverVersion, "0.10");
    assert.equal(archive.manifest.model.envelope, "true");
    assert.equal(archive.manifest.model.description, '"modelVersion": 3');
    assert.equal((archive.manifest as unknown as { publisher: number }).publisher, 1);
  });

  test("takes a manifest with less and with more than the original writes", async () => {
    const text = manifest({ handler: null, extensions: "x", envelope: "json", description: "d" }, { publisher: 1 });
    const archive = await openArchive(scratch.tree({ "MAR-INF/MANIFEST.json": `\ufeff${text}` }));
    assert.equal(archive.handler, "default_service_handler");
    assert.equal(archive.manifest.model.envelope, "json");
    assert.equal(archive.version, "2");
  });
});

describe("the folder in a tar archive", () => {
  const inside = "MAR-INF/MANIFEST.json";
  const layouts: Record<string, string[]> = {
    "as the original has it": [`m/${inside}`, "m/h.py"],
    "of another name": [`any name/${inside}`, "any name/h.py"],
    "with a dot before it": [`./m/${inside}`, "./m/h.py"],
    "left out": [inside, "h.py"],
    "left out, with dots": [`./${inside}`, "./h.py"],
    "beside what macOS adds": ["._m", `m/${inside}`, "m/h.py"],
  };
  for (const [layout, names] of Object.entries(layouts)) {
    test(layout, async () => {
      const file = await tarGz(names.map((name) => [name, name.endsWith(".json") ? manifest() : "pass"] as const));
      const archive = await openArchive(scratch.write("x.tar.gz", file));
      assert.equal(archive.version, "2");
      assert.ok(existsSync(path.join(archive.folder, "h.py")));
      await archive.close();
      scratch.assertNothingLeft();
    });
  }
});

test("a tar archive with two model archives in it", async () => {
  const entries = ["b", "a"].map((name) => [`${name}/MAR-INF/MANIFEST.json`, manifest()] as const);
  await scratch.refuses(scratch.write("x.tar.gz", await tarGz(entries)), /more than one model archive.*\["a","b"\]/);
});

describe("a manifest that is wrong is ERR_ARCHIVE and says where", () => {
  const wrong: [string, string | Uint8Array, RegExp][] = [
    ["empty", "", /MANIFEST\.json.*is not JSON: line 1, column 1/],
    ["no JSON", '{\n "runtime": python }', /is not JSON: line 2, column 13/],
    ["no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), /is not valid UTF-8/],
    ["an array", "[]", /the manifest is \[\.\.\.\], expected an object/],
    ["null", "null", /the manifest is null/],
    ["no model", '{"runtime": "python"}', /model is missing, expected an object/],
    ["a model that is none", '{"runtime": "python", "model": "m"}', /model is "m", expected an object/],
    ["no name", manifest({ modelName: undefined }), /has no model\.modelName/],
    ["null as name", manifest({ modelName: null }), /has no model\.modelName/],
    ["no version", manifest({ modelVersion: undefined }), /has no model\.modelVersion/],
    ["a list as version", manifest({ modelVersion: [1] }), /has the model\.modelVersion \[\.\.\.\], expected a string/],
    ["a name with a slash", manifest({ modelName: "../m" }), /has the model\.modelName "\.\.\/m", expected \^/],
    ["no runtime", manifest({}, { runtime: undefined }), /has no runtime, expected one of python, python3, LSP/],
    ["another runtime", manifest({}, { runtime: "ruby" }), /has the runtime "ruby"/],
    ["a handler that is none", manifest({ handler: ["h.py"] }), /has the model\.handler \[\.\.\.\]/],
    ["an empty handler", manifest({ handler: "" }), /has the model\.handler "", expected a string that is not empty/],
    [
      "a handler outside",
      manifest({ handler: "../h.py:f" }),
      /model\.handler "\.\.\/h\.py" that leads to another folder/,
    ],
    [
      "a config file outside",
      manifest({ configFile: "/etc/passwd" }),
      /configFile "\/etc\/passwd" that is an absolute/,
    ],
    ["a config file that is not there", manifest({ configFile: "no.yaml" }), /names the configFile "no\.yaml"/],
    [
      "nesting without end",
      `{"runtime": "python", "model": ${"[".repeat(2e5)}${"]".repeat(2e5)}}`,
      /model is \[\.\.\.\]/,
    ],
    ["2 MB", manifest({ description: "x".repeat(2e6) }), /is larger than 1048576 bytes/],
  ];
  for (const [name, text, message] of wrong) {
    test(name, async () => {
      const zip = zipFile([{ name: "MAR-INF/MANIFEST.json", data: text }]);
      await scratch.refuses(scratch.write("m.mar", zip), message);
      await scratch.refuses(scratch.tree({ "MAR-INF/MANIFEST.json": text }), message);
    });
  }

  test("a folder, or a file where its folder should be", async () => {
    await scratch.refuses(scratch.tree({ "MAR-INF/MANIFEST.json/x": "" }), /is a folder, expected a regular file/);
    await scratch.refuses(scratch.tree({ "MAR-INF": "" }), /a part of the path is not a folder/);
  });
});

describe("arguments and signals", () => {
  test("wrong ones are ERR_INVALID_ARGUMENT", async () => {
    const file = path.join(archives, "echo.mar");
    const wrong: [unknown, unknown, RegExp][] = [
      [undefined, undefined, /Expected location to be the path/],
      ["", undefined, /location/],
      ["a\0b", undefined, /location/],
      [file, 1, /the openArchive options/],
      [file, { limits: {} }, /Unknown openArchive option "limits"/],
      [file, { extractLimits: { maxfiles: 1 } }, /Did you mean maxFiles/],
      [file, { extractLimits: { maxFiles: 0 } }, /maxFiles/],
      [file, { extractLimits: { maxBytes: "1GB" } }, /maxBytes/],
      [file, { onProgress: 1 }, /onProgress/],
      [file, { signal: {} }, /signal/],
    ];
    for (const [location, options, message] of wrong) {
      const error = await failure(openArchive(location as string, options as object));
      assert.equal(error.code, "ERR_INVALID_ARGUMENT", error.message);
      assert.match(error.message, message);
    }
    scratch.assertNothingLeft();
  });

  for (const archiveFormat of ["default", "tgz", "zip-store"] as const) {
    test(`${archiveFormat}: progress, and a signal in the midst of it`, async () => {
      const big = scratch.write("big.bin", Buffer.alloc(4e6, "0123456789"));
      const { path: file, bytes } = await pack(scratch.make(), { archiveFormat, serializedFile: big });
      const seen: number[] = [];
      const archive = await openArchive(file, {
        onProgress: ({ doneBytes, totalBytes }) => {
          assert.equal(totalBytes, bytes);
          seen.push(doneBytes);
        },
      });
      await archive.close();
      assert.ok(seen.length > 1);
      assert.deepEqual(
        seen,
        seen.toSorted((a, b) => a - b),
      );
      assert.ok(seen.at(-1)! <= bytes && seen.at(-1)! > bytes / 2, `${seen.at(-1)} of ${bytes}`);

      const controller = new AbortController();
      const onProgress = () => controller.abort(new Error("enough"));
      const error = await failure(openArchive(file, { signal: controller.signal, onProgress }));
      assert.equal(error.code, "ERR_ABORTED");
      assert.match(String(error.cause), /enough/);
      assert.equal((await failure(openArchive(file, { signal: controller.signal }))).code, "ERR_ABORTED");
      scratch.assertNothingLeft();
    });
  }

  test("what a callback throws comes out, and nothing is left", async () => {
    const thrown = new Error("from the callback");
    const onProgress = () => {
      throw thrown;
    };
    for (const file of ["echo.mar", "opt.tar.gz"]) {
      await assert.rejects(openArchive(path.join(archives, file), { onProgress }), (error) => error === thrown);
    }
    scratch.assertNothingLeft();
  });
});
