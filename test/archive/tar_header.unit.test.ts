import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import tar from "tar-stream";
import { encodeTarHeader, type TarFile, tarEnd, tarPadding } from "../../dist/archive/tar_header.js";
import { readTar } from "../../dist/archive/tar_reader.js";
import { Scratch } from "./support.js";

const scratch = new Scratch();

/** What tar-stream writes before the bytes of a file. */
async function expectedHeader({ name, bytes, mode, modified }: TarFile): Promise<Buffer> {
  const pack = tar.pack();
  // What follows a file of many bytes is not waited for.
  pack.entry({ name, size: bytes, mode, mtime: modified, uid: 0, gid: 0 }).on("error", () => {});
  const pieces: Buffer[] = [];
  await new Promise<void>((resolve) => {
    pack.on("data", (piece: Buffer) => void pieces.push(piece)).on("error", () => {});
    setImmediate(() => setImmediate(resolve));
  });
  pack.destroy();
  const length = encodeTarHeader({ name, bytes, mode, modified }).length;
  return Buffer.concat(pieces).subarray(0, length);
}

const file: TarFile = { name: "m/x", bytes: 3, mode: 0o644, modified: new Date(Date.UTC(1980, 0, 1)) };
const long = (length: number) => "n".repeat(length);

describe("a tar header is what tar-stream writes, byte for byte", () => {
  const rows: [string, Partial<TarFile>][] = [
    ["a short name", {}],
    ["a name of 100 bytes", { name: long(100) }],
    ["a name of 101 bytes without a folder", { name: long(101) }],
    ["a name that is cut at a folder", { name: `${long(60)}/${long(60)}` }],
    ["one that is cut at the first of several", { name: `a/${long(50)}/${long(40)}/${long(8)}` }],
    ["folders of 155 bytes", { name: `${long(77)}/${long(77)}/${long(100)}` }],
    ["folders of 156 bytes", { name: `${long(78)}/${long(77)}/${long(100)}` }],
    ["a last part that is too long", { name: `a/${long(101)}` }],
    ["a name that is not ASCII", { name: "m/grüße-世界-\u{1f600}" }],
    ["a long one", { name: `m/${"ü".repeat(600)}` }],
    ["names around the lengths where a pax record's length gets a digit more", { name: `ü${long(84)}` }],
    ["a file of no bytes", { bytes: 0 }],
    ["a file of one byte less than 8 GiB", { bytes: 2 ** 33 - 1 }],
    ["a file of 8 GiB", { bytes: 2 ** 33 }],
    ["a file of 20 TiB with a long name", { bytes: 20 * 2 ** 40 + 12345, name: long(200) }],
    ["a program", { mode: 0o755 }],
    ["another time", { modified: new Date(1_700_000_000_123) }],
  ];
  for (const [name, more] of rows) {
    test(name, async () => {
      const entry = { ...file, ...more };
      const header = encodeTarHeader(entry);
      assert.equal(header.length % 512, 0);
      assert.deepEqual(header, await expectedHeader(entry));
    });
  }

  test("for any name", async () => {
    const part = fc.string({ unit: fc.constantFrom("a", "b", "/", "ü", "."), minLength: 1, maxLength: 300 });
    await fc.assert(
      fc.asyncProperty(part, fc.nat(2 ** 31 - 1), async (name, bytes) => {
        const entry = { ...file, name, bytes };
        assert.deepEqual(encodeTarHeader(entry), await expectedHeader(entry));
      }),
      { numRuns: 300 },
    );
  });
});

test("our own reader finds the name and size again, from names of every length", async () => {
  for (let length = 1; length < 1200; length += 7) {
    for (const letter of ["a", "ü"]) {
      const name = `m/${letter.repeat(length)}`;
      const data = Buffer.from("abc");
      const archive = [encodeTarHeader({ ...file, name }), data, tarPadding(data.length), tarEnd];
      const found: unknown[] = [];
      const pieces = async function* () {
        yield* archive;
      };
      for await (const entry of readTar(pieces())) found.push([entry.name, entry.type, entry.bytes]);
      assert.deepEqual(found, [[name, "0", 3]]);
    }
  }
});

test("what follows a file ends with its block, and nothing follows a whole one", () => {
  for (const [bytes, expected] of [
    [0, 0],
    [1, 511],
    [511, 1],
    [512, 0],
    [513, 511],
    [2 ** 33, 0],
    [2 ** 33 + 1, 511],
  ] as const) {
    assert.deepEqual(tarPadding(bytes), Buffer.alloc(expected), `${bytes}`);
  }
});

test("the system's tar reads a date after 2038, which tar-stream could not write", () => {
  const data = Buffer.from("abc");
  const modified = new Date(Date.UTC(2107, 11, 31));
  const target = path.join(scratch.make(), "x.tar");
  writeFileSync(target, Buffer.concat([encodeTarHeader({ ...file, modified }), data, tarPadding(3), tarEnd]));
  const listed = execFileSync("tar", ["tvf", target, "--utc", "--full-time"], { encoding: "utf8" });
  assert.match(listed, /^-rw-r--r-- 0\/0 +3 2107-12-31 00:00:00 m\/x\n$/);
});
