import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { openArchive, ShardspeedError } from "../../dist/index.js";
import { zipFile } from "../checkpoint/zip_writer.js";
import { archives, listTree, pack, readTree, Scratch, tarGz } from "./support.js";
import { header, tarBlocks } from "./tar_writer.js";

const scratch = new Scratch();
const formats = ["default", "tgz", "no-archive", "zip-store"] as const;

/** Opens what may be anything: it is an archive with all its files in its folder, or the one error for what is none. */
async function openAny(file: string): Promise<void> {
  const before = readdirSync(scratch.folder);
  try {
    const archive = await openArchive(file, { extractLimits: { maxFiles: 200, maxBytes: 1e6 } });
    assert.ok(archive.folder.startsWith(scratch.temporary) || archive.folder === file);
    assert.match(archive.modelName, /^[A-Za-z0-9][\w.-]*$/);
    assert.ok(Object.values(readTree(archive.folder)).join("").length <= 1e6);
    await archive.close();
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
    assert.equal(error.code, "ERR_ARCHIVE", error.message);
    assert.ok(error.message.startsWith(file), error.message);
    assert.doesNotMatch(error.message, /(?!\n)\p{Cc}/u);
  }
  scratch.assertNothingLeft();
  assert.deepEqual(readdirSync(scratch.folder), before);
}

/** For one file after the other. */
function openerFor(name: string): (data: Uint8Array) => Promise<void> {
  const file = () => path.join(scratch.folder, "any", name);
  return async (data) => {
    mkdirSync(path.dirname(file()), { recursive: true });
    writeFileSync(file(), data);
    await openAny(file());
  };
}

const nameParts = fc.oneof(
  fc.constantFrom(
    "..",
    ".",
    "",
    "a",
    "b",
    "MAR-INF",
    "MANIFEST.json",
    "C:",
    "\\",
    "..\\..",
    "\0",
    "~",
    "é",
    "e\u0301",
    " ",
  ),
  fc.string({ maxLength: 6, unit: "binary" }),
);
const names = fc.array(nameParts, { maxLength: 5 }).map((parts) => parts.join("/"));
const entries = fc.array(fc.tuple(names, fc.uint8Array({ maxLength: 40 })), { minLength: 1, maxLength: 6 });

describe("archives of any names", () => {
  test("zip", async () => {
    const open = openerFor("names.mar");
    const mode = fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined, freq: 3 });
    await fc.assert(
      fc.asyncProperty(entries, mode, fc.boolean(), async (list, mode, deflate) => {
        const files = list.map(([name, data]) => ({ name, data, flags: 0x800, deflate }));
        await open(zipFile(mode === undefined ? files : [{ ...files[0]!, mode }, ...files.slice(1)]));
      }),
      { numRuns: 500 },
    );
  });

  test("tar, with names in headers of every kind", async () => {
    const open = openerFor("names.tar.gz");
    const type = fc.constantFrom("file", "directory", "symlink", "link", "fifo", "contiguous-file", "character-device");
    await fc.assert(
      fc.asyncProperty(entries, type, async (list, type) => {
        const linkname = type.includes("link") ? "../.." : null;
        const [[name, data]] = list as [[string, Uint8Array]];
        const first = { name, type, linkname };
        await open(await tarGz([[first, type === "file" ? data : ""], ...list.slice(1)]));
        const long = list.flatMap(([name, data]) => {
          const text = Buffer.from(name);
          return [header({ type: "L", bytes: text.length }), text, header({ bytes: data.length }), Buffer.from(data)];
        });
        await open(tarBlocks(long));
      }),
      { numRuns: 300 },
    );
  });
});

/** What breaks a file: bytes set, a part cut out, a part put in twice. */
const damage = fc.record({
  sets: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
  cut: fc.option(fc.tuple(fc.nat(), fc.nat({ max: 600 })), { freq: 2 }),
  double: fc.option(fc.tuple(fc.nat(), fc.nat({ max: 600 })), { freq: 2 }),
});

function applyDamage(
  good: Buffer,
  { sets, cut, double }: typeof damage extends fc.Arbitrary<infer T> ? T : never,
): Buffer {
  let bytes = Buffer.from(good);
  for (const [at, value] of sets) bytes[at % bytes.length] = value;
  if (double) {
    const [at, length] = [double[0] % bytes.length, double[1]];
    bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
  }
  if (cut) {
    const [at, length] = [cut[0] % bytes.length, cut[1]];
    bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
  }
  return bytes;
}

describe("damaged archives", () => {
  const zip = readFileSync(path.join(archives, "echo.mar"));
  const small = zipFile([
    { name: "MAR-INF/MANIFEST.json", data: readFileSync(path.join(archives, "optdir/MAR-INF/MANIFEST.json")) },
    { name: "d/", data: "" },
    { name: "d/zip64", data: "abc", zip64: true },
    { name: "model-config.yaml", data: "a: 1", deflate: true },
  ]);
  const gzip = readFileSync(path.join(archives, "opt.tar.gz"));
  const kinds: [string, Buffer, (data: Buffer) => Buffer, number][] = [
    ["a .mar", zip, (data) => data, 400],
    ["a zip of more kinds of entries", small, (data) => data, 400],
    ["a .tar.gz", gzip, (data) => data, 300],
    ["the tar in a .tar.gz", gunzipSync(gzip), (data) => gzipSync(data, { level: 1 }), 400],
    [
      "any bytes that begin as a zip",
      Buffer.concat([Buffer.from("PK\x05\x06"), Buffer.alloc(100)]),
      (data) => data,
      100,
    ],
  ];
  for (const [name, good, finish, numRuns] of kinds) {
    test(name, async () => {
      const open = openerFor("damaged.mar");
      await fc.assert(
        fc.asyncProperty(damage, (damage) => open(finish(applyDamage(good, damage)))),
        { numRuns },
      );
    });
  }

  test("no file stays open", { skip: process.platform !== "linux" }, async () => {
    const open = openerFor("open.mar");
    const count = () => readdirSync("/proc/self/fd").length;
    await open(zip.subarray(0, 1000));
    const before = count();
    for (let i = 0; i < 100; i++) {
      await open(applyDamage(zip, { sets: [[60 + i, 255]], cut: null, double: null }));
      await open(applyDamage(gzip, { sets: [[60 + i, 255]], cut: null, double: null }));
    }
    // Streams that have been destroyed close their files a moment later.
    for (let i = 0; i < 100 && count() > before; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(count() <= before, `${count()} > ${before}`);
  });
});

test("manifests of any contents", async () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom("m", "1.0", "python", "LSP", "../x", "h.py:f", "model-config.yaml"),
  );
  const value = fc.oneof({ weight: 4, arbitrary: text }, { weight: 1, arbitrary: fc.jsonValue() });
  const keys = ["modelName", "modelVersion", "handler", "configFile", "serializedFile", "requirementsFile", "envelope"];
  const model = fc.record(Object.fromEntries(keys.map((key) => [key, value])), { requiredKeys: ["modelName"] });
  const runtime = fc.oneof({ weight: 3, arbitrary: fc.constantFrom("python", "LSP") }, fc.jsonValue());
  const manifest = fc.oneof(
    { weight: 1, arbitrary: fc.json() },
    { weight: 1, arbitrary: fc.string() },
    { weight: 6, arbitrary: fc.record({ runtime, model, createdOn: value }).map((made) => JSON.stringify(made)) },
  );
  const folder = scratch.tree({ "MAR-INF/MANIFEST.json": "", "model-config.yaml": "" });
  await fc.assert(
    fc.asyncProperty(manifest, async (text) => {
      writeFileSync(path.join(folder, "MAR-INF/MANIFEST.json"), text);
      await openAny(folder);
    }),
    { numRuns: 1000 },
  );
});

test("what is packed comes out again, from every format", async () => {
  const part = fc
    .string({ minLength: 1, maxLength: 12, unit: "grapheme" })
    .filter(
      (part) =>
        !/^\.{1,2}$|[/\\\0]|^[A-Za-z]:|^\.|^__/.test(part) && part !== "MAR-INF" && Buffer.byteLength(part) < 200,
    );
  const name = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
  const data = fc.oneof(fc.uint8Array({ maxLength: 2000 }), fc.constant(new Uint8Array(300_000)));
  const tree = fc.dictionary(name, data, { maxKeys: 6 }).filter((files) => {
    // No file is also a folder.
    const all = Object.keys(files);
    return !all.some((one) => all.some((other) => other.startsWith(`${one}/`)));
  });
  await fc.assert(
    fc.asyncProperty(tree, fc.constantFrom(...formats), async (files, archiveFormat) => {
      const source = scratch.tree(files);
      const folder = scratch.make();
      const made = await pack(folder, {
        archiveFormat,
        extraFiles: [source],
        handler: "text_classifier",
        modelName: "M.1",
      });
      const archive = await openArchive(made.path);
      const { "MAR-INF/MANIFEST.json": manifest, ...found } = readTree(archive.folder);
      assert.equal(JSON.parse(manifest!).model.modelName, "M.1");
      assert.deepEqual(found, readTree(source));
      assert.deepEqual(
        made.files.toSorted(),
        listTree(archive.folder).filter((name) => !name.endsWith("/")),
      );
      await archive.close();
      scratch.assertNothingLeft();
      for (const used of [source, folder]) rmSync(used, { recursive: true });
    }),
    { numRuns: 60 },
  );
});
