import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { createGunzip } from "node:zlib";
import tar from "tar-stream";
import yauzl from "yauzl";
import { archives, echoHandler, handlers, listTree, pack, readTree, Scratch } from "./support.js";

const scratch = new Scratch();

interface Entry {
  name: string;
  type: string;
  method?: number;
  flags?: number;
  text: string;
}

async function readZip(file: string): Promise<Entry[]> {
  const zip = await yauzl.openPromise(file);
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) {
    const parts: Buffer[] = [];
    for await (const part of await zip.openReadStreamPromise(entry)) parts.push(part);
    const { fileName: name, compressionMethod: method, generalPurposeBitFlag: flags } = entry;
    entries.push({ name, type: "file", method, flags, text: Buffer.concat(parts).toString() });
  }
  return entries;
}

async function readTar(file: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of createReadStream(file).pipe(createGunzip()).pipe(tar.extract())) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part);
    entries.push({ name: entry.header.name, type: entry.header.type ?? "", text: Buffer.concat(parts).toString() });
  }
  return entries;
}

/** What must be equal: all but the dates and versions in the manifest, and the order of the entries before it. */
function comparable(entries: Entry[]): unknown[] {
  return entries
    .map(({ text, ...entry }) => ({ ...entry, text: entry.name.endsWith("MANIFEST.json") ? skeleton(text) : text }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A manifest without the values that differ; its keys stay, in their order. */
function skeleton(text: string): string {
  return text
    .replace(/"\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d"/, '"DD/MM/YYYY HH:MM:SS"')
    .replace(/("archiverVersion": )"\d+\.\d+\.\d+"/, '$1"X.Y.Z"');
}

const deepspeed = {
  handler: path.join(handlers, "deepspeed_handler.py"),
  configFile: path.join(handlers, "model-config.yaml"),
};

describe("archives have the layout of torch-model-archiver's", () => {
  test("default", async () => {
    for (const [modelName, version, handler] of [
      ["echo", "1.0", "echo_handler.py"],
      ["echo2", "2.0", "echo_handler.py"],
      ["failing", "1.0", "failing_handler.py"],
    ] as const) {
      const made = await pack(scratch.make(), { modelName, version, handler: path.join(handlers, handler) });
      assert.equal(path.basename(made.path), `${modelName}.mar`);
      const entries = await readZip(made.path);
      assert.deepEqual(comparable(entries), comparable(await readZip(path.join(archives, `${modelName}.mar`))));
      assert.deepEqual(
        entries.map(({ name }) => name),
        [handler, "MAR-INF/MANIFEST.json"],
      );
      assert.deepEqual(
        made.files,
        entries.map(({ name }) => name),
      );
    }
  });

  test("zip-store: the same, not compressed, and without sizes behind the data, which TorchServe cannot read", async () => {
    const stored = await readZip((await pack(scratch.make(), { archiveFormat: "zip-store" })).path);
    const deflated = await readZip((await pack(scratch.make())).path);
    assert.deepEqual(
      stored,
      deflated.map((entry) => ({ ...entry, method: 0 })),
    );
    assert.deepEqual(
      stored.map(({ flags }) => flags),
      [0, 0],
    );
  });

  test("tgz", async () => {
    const extraFiles = `${path.join(handlers, "ds-config.json")}`;
    const requirementsFile = path.join(handlers, "requirements.txt");
    const options = { ...deepspeed, extraFiles, requirementsFile, modelName: "opt", archiveFormat: "tgz" } as const;
    const made = await pack(scratch.make(), options);
    assert.equal(path.basename(made.path), "opt.tar.gz");
    const entries = await readTar(made.path);
    assert.deepEqual(comparable(entries), comparable(await readTar(path.join(archives, "opt.tar.gz"))));
    assert.equal(entries.at(-1)?.name, "opt/MAR-INF/MANIFEST.json");
  });

  test("no-archive", async () => {
    const extraFiles = path.join(handlers, "ds-config.json");
    const options = { ...deepspeed, extraFiles, modelName: "optdir", archiveFormat: "no-archive" } as const;
    const made = await pack(scratch.make(), options);
    assert.equal(path.basename(made.path), "optdir");
    const original = path.join(archives, "optdir");
    assert.deepEqual(listTree(made.path), listTree(original));
    const manifest = "MAR-INF/MANIFEST.json";
    const files = readTree(made.path);
    assert.equal(skeleton(files[manifest]!), skeleton(readFileSync(path.join(original, manifest), "utf8")));
    assert.deepEqual({ ...files, [manifest]: "" }, { ...readTree(original), [manifest]: "" });
    assert.equal(made.bytes, Object.values(files).join("").length);
  });
});

test("a manifest with all that it can have, in the original's order", async () => {
  const file = (name: string) => scratch.write(name, name);
  const made = await pack(scratch.make(), {
    modelName: "a-b_c.d",
    version: "é \u{1f600}",
    serializedFile: file("weights.pt"),
    modelFile: file("model.py"),
    requirementsFile: file("req.txt"),
    configFile: file("config.yaml"),
    runtime: "python3",
    archiveFormat: "no-archive",
    handler: `${echoHandler.slice(0, -3)}:handle`,
  });
  const text = readFileSync(path.join(made.path, "MAR-INF/MANIFEST.json"), "utf8");
  const expected = `{
  "createdOn": "DD/MM/YYYY HH:MM:SS",
  "runtime": "python3",
  "model": {
    "modelName": "a-b_c.d",
    "serializedFile": "weights.pt",
    "handler": "echo_handler:handle",
    "modelFile": "model.py",
    "modelVersion": "\\u00e9 \\ud83d\\ude00",
    "requirementsFile": "req.txt",
    "configFile": "config.yaml"
  },
  "archiverVersion": "X.Y.Z"
}`;
  assert.equal(skeleton(text), expected);
});
