import { readFileSync, truncateSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { type ZipEntry, type ZipOptions, zipFile } from "../checkpoint/zip_writer.js";
import { archives, Scratch } from "./support.js";
import { header, tarBlocks, tarWithPaxSize } from "./tar_writer.js";

const scratch = new Scratch();

describe("damaged zip archives", () => {
  const files = ["a.txt", "b.txt"].map((name) => ({ name, data: name.repeat(50), deflate: true }));
  const damaged: [string, ZipEntry[], ZipOptions | undefined, RegExp][] = [
    [
      "a wrong checksum",
      [{ name: "f", data: "abc", crc: 1 }],
      undefined,
      /is damaged: the checksum of an entry is wrong/,
    ],
    [
      "a wrong checksum, compressed",
      [{ name: "f", data: "abc", deflate: true, crc: 1 }],
      undefined,
      /the checksum of an entry/,
    ],
    ["data that is no deflate stream", [{ name: "f", data: "abcdef", method: 8 }], undefined, /is damaged: /],
    ["an unknown method", [{ name: "f", data: "abc", method: 93 }], undefined, /is compressed by method 93, expected/],
    ["encryption", [{ name: "f", data: "abc", flags: 1, claimedBytes: 3 }], undefined, /is encrypted|size mismatch/],
    ["a place outside", [{ name: "f", data: "abc", offset: 1e6 }], undefined, /is damaged: /],
    [
      "a place that is none",
      [{ name: "f", data: "abc", offset: 5 }],
      undefined,
      /is damaged: invalid local file header/,
    ],
    ["fewer entries than there are", files, { count: 1 }, /its directory is not as long as/],
    ["more entries than there are", files, { count: 3 }, /is damaged: it points beyond its end/],
    ["a zip64 record outside", files, { zip64: { count: 2n, recordOffset: 1n << 60n } }, /is damaged: /],
    ["a folder with bytes", [{ name: "d/", data: "abc" }], undefined, /is a file without a name/],
  ];
  for (const [name, entries, options, message] of damaged) {
    test(name, () => scratch.refuses(scratch.write("x.mar", zipFile(entries, options)), message));
  }

  test("truncated at any byte, or with something behind it", async () => {
    const good = zipFile(files);
    const file = scratch.write("x.mar", good);
    for (let length = good.length - 1; length > 3; length -= 7) {
      truncateSync(file, length);
      await scratch.refuses(file, /is damaged: End of central directory record signature not found/);
    }
    await scratch.refuses(scratch.write("y.mar", Buffer.concat([good, Buffer.from("tail")])), /Invalid comment length/);
  });
});

describe("damaged tar archives", () => {
  const good = readFileSync(path.join(archives, "opt.tar.gz"));
  const tarball = gunzipSync(good);
  const pax = (text: string) =>
    tarBlocks([header({ type: "x", bytes: text.length }), Buffer.from(text), header({ name: "f" })]);
  const damaged: [string, Uint8Array, RegExp][] = [
    ["a gzip of nothing", gzipSync(""), /is damaged: holds no tar archive/],
    ["a gzip that is no tar", gzipSync("hello ".repeat(1000)), /is damaged: a tar header has a wrong checksum|number/],
    ["something behind the gzip", Buffer.concat([good, Buffer.from("tail")]), /is damaged: incorrect header check/],
    ["something behind the tar", gzipSync(Buffer.concat([tarball, Buffer.alloc(512, 1)])), /something behind the end/],
    ["a wrong checksum of the gzip", Buffer.concat([good.subarray(0, -8), Buffer.alloc(8)]), /incorrect data check/],
    ["half a tar in a whole gzip", gzipSync(tarball.subarray(0, 700)), /the tar archive is truncated/],
    ["a header cut", gzipSync(tarball.subarray(0, 1024 + 100)), /the tar archive is truncated/],
    ["a number that is none", gzipSync(header({ name: "f", size: "zzzzzzzzzzz" })), /a number that is none/],
    ["a negative number", gzipSync(header({ name: "f", size: "\u00ff".repeat(12) })), /a number that is none/],
    ["a name that is no UTF-8", gzipSync(header({ name: "\u00ff" })), /not valid UTF-8/],
    ["a pax record of no length", pax("x a=b\n"), /a pax header has a record that is none/],
    ["a pax record of length 0", pax("0 a=b\n"), /record that is none/],
    ["a pax record that runs backwards", pax("-5 ab"), /record that is none/],
    ["a pax record that is too long", pax("99 a=b\n"), /record that is none/],
    ["a pax record without a value", pax("5 ab\n"), /record that is none/],
    ["a pax size that is none", tarWithPaxSize("-1"), /a pax header has a size that is none/],
    ["a pax size that is too much", tarWithPaxSize("9999999999999999"), /size that is none/],
    ["a pax size beyond the end", tarWithPaxSize("5000"), /the tar archive is truncated/],
    ["a global pax size", tarWithPaxSize("5", "g"), /global pax header names a path or a size/],
    ["headers that nothing follows", tarBlocks([header({ type: "x", bytes: 6 }), Buffer.from("6 a=b\n")]), /truncated/],
  ];
  for (const [name, data, message] of damaged) {
    test(name, () => scratch.refuses(scratch.write("x.tar.gz", data), message));
  }

  test("truncated at any byte", async () => {
    const file = scratch.write("x.tar.gz", good);
    for (let length = good.length - 1; length > 1; length -= 7) {
      truncateSync(file, length);
      await scratch.refuses(file, /is damaged: /);
    }
  });
});
