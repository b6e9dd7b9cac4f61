import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statfsSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { resolveOpenOptions } from "../../dist/archive/open_options.js";
import { type OpenArchiveOptions, openArchive } from "../../dist/index.js";
import { zipFile } from "../checkpoint/zip_writer.js";
import { listTree, Scratch, type TarHeaders, tarGz } from "./support.js";
import { header, paxRecord, tarBlocks } from "./tar_writer.js";

const scratch = new Scratch();

/** Names that lead out, here or on another system. */
const badNames: [string, RegExp][] = [
  ["../out.txt", /leads to another folder by "\.\."/],
  ["m/../../out.txt", /leads to another folder/],
  ["a/b/../c.txt", /leads to another folder/],
  ["..", /leads to another folder/],
  ["/tmp/out.txt", /is an absolute path/],
  ["//host/share/out.txt", /is an absolute path/],
  ["..\\out.txt", /holds a backslash/],
  ["\\\\host\\share\\out.txt", /holds a backslash/],
  ["C:/out.txt", /begins with the letter of a drive/],
  ["c:out.txt", /begins with the letter of a drive/],
  [".", /is a file without a name/],
  [`${`${"d".repeat(250)}/`.repeat(20)}x`, /name or path is too long/],
  ["n".repeat(300), /name or path is too long/],
];

describe("names that lead out of the folder", () => {
  for (const [name, message] of badNames) {
    test(JSON.stringify(name.slice(0, 40)), async () => {
      const entries = [
        { name: "first.txt", data: "1" },
        { name, data: "2" },
      ];
      await scratch.refuses(scratch.write("x.mar", zipFile(entries)), message);
      const tarball = await tarGz(entries.map(({ name, data }) => [name, data] as const));
      await scratch.refuses(scratch.write("x.tar.gz", tarball), message);
    });
  }

  test("a null character, which a tar archive keeps in a pax header only", async () => {
    await scratch.refuses(scratch.write("x.mar", zipFile([{ name: "a\0b", data: "" }])), /holds a null character/);
    const pax = paxRecord("path", "a\0b");
    const tarball = tarBlocks([header({ type: "x", bytes: pax.length }), pax, header({ name: "c" })]);
    await scratch.refuses(scratch.write("x.tar.gz", tarball), /holds a null character/);
  });

  test("no name", async () => {
    await scratch.refuses(scratch.write("x.mar", zipFile([{ name: "", data: "" }])), /has no name/);
    await scratch.refuses(scratch.write("x.tar.gz", tarBlocks([header({ name: "" })])), /has no name/);
  });

  test("folders too", async () => {
    for (const name of ["../", "/", "a/../../b/", "..\\"]) {
      await scratch.refuses(scratch.write("x.mar", zipFile([{ name, data: "" }])), /leads|absolute|backslash/);
      const tarball = await tarGz([[{ name, type: "directory" }]]);
      await scratch.refuses(scratch.write("x.tar.gz", tarball), /leads|absolute|backslash/);
    }
  });

  test("names that only look so are taken", async () => {
    const names = ["..a/b..", "a/.../b", "ab:c", "ab:/c", "…/d", "-rf", " ", "~", "$HOME", "a\nb"];
    for (const [file, data] of [
      ["x.mar", zipFile(names.map((name) => ({ name, data: "", flags: 0x800 })))],
      ["x.tar.gz", await tarGz(names.map((name) => [name] as const))],
    ] as const) {
      const archive = await openArchive(scratch.write(file, data));
      const found = listTree(archive.folder).filter((name) => !name.endsWith("/"));
      assert.deepEqual(found, names.sort());
      await archive.close();
    }
  });
});

describe("what is neither a file nor a folder", () => {
  const tarKinds: [TarHeaders["type"], RegExp][] = [
    ["symlink", /the entry "l" is a symbolic link, expected a file or a folder/],
    ["link", /is a hard link/],
    ["fifo", /is a pipe/],
    ["character-device", /is a device/],
    ["block-device", /is a device/],
  ];
  for (const [type, message] of tarKinds) {
    test(`${type} in a tar archive`, async () => {
      for (const linkname of ["/etc/passwd", "..", "inside.txt"]) {
        const tarball = await tarGz([["inside.txt", "x"], [{ name: "l", type, linkname }], ["l/out.txt", "x"]]);
        await scratch.refuses(scratch.write("x.tar.gz", tarball), message);
      }
    });
  }

  for (const [mode, message] of [
    [0o120777, /the entry "l" is a symbolic link/],
    [0o010666, /is a pipe/],
    [0o020666, /is a device/],
    [0o060666, /is a device/],
    [0o140666, /is a socket/],
    [0o040777, /is a folder without a slash/],
    [0o150666, /is of an unknown kind/],
  ] as const) {
    test(`mode ${mode.toString(8)} in a zip archive`, async () => {
      const zip = zipFile([{ name: "l", data: "/etc/passwd", mode }]);
      await scratch.refuses(scratch.write("x.mar", zip), message);
    });
  }

  test("kinds of tar entries that nobody knows, and sparse files", async () => {
    for (const type of ["S", "V", "D", "M", "Z", "\u007f"]) {
      const tarball = tarBlocks([header({ name: "f", type })]);
      await scratch.refuses(scratch.write("x.tar.gz", tarball), /the entry "f" is (of the kind|a sparse file)/);
    }
    const pax = paxRecord("GNU.sparse.major", "1");
    const tarball = tarBlocks([header({ type: "x", bytes: pax.length }), pax, header({ name: "f" })]);
    await scratch.refuses(scratch.write("x.tar.gz", tarball), /is a sparse file/);
  });

  test("permissions of an archive are not taken over", async () => {
    const zip = zipFile([{ name: "f", data: "", mode: 0o106777 }]);
    const tarball = await tarGz([[{ name: "m/f", mode: 0o6777 }], [{ name: "m/d", mode: 0o7777, type: "directory" }]]);
    for (const data of [zip, tarball]) {
      const archive = await openArchive(scratch.write("x", data));
      const modes = execFileSync("find", [archive.folder, "-mindepth", "1", "-perm", "/7077"], { encoding: "utf8" });
      assert.equal(modes, "");
      await archive.close();
    }
  });
});

describe("entries that would overwrite each other", () => {
  const same = /the entry "[^"]+" has the name of another entry, or of a folder of one/;
  for (const names of [
    ["a", "a"],
    ["a", "./a"],
    ["a/b", "a//b"],
    ["a", "a/b"],
    ["a/b", "a"],
    ["MAR-INF/MANIFEST.json", "x", "MAR-INF/MANIFEST.json"],
  ]) {
    test(names.join(", "), async () => {
      const zip = zipFile(names.map((name) => ({ name, data: name })));
      await scratch.refuses(scratch.write("x.mar", zip), same);
      const tarball = await tarGz(names.map((name) => [name, name] as const));
      await scratch.refuses(scratch.write("x.tar.gz", tarball), same);
    });
  }

  test("a folder may be named again", async () => {
    for (const data of [
      zipFile(["a/", "a/b/", "a/", "a/b/c"].map((name) => ({ name, data: "" }))),
      await tarGz([[{ name: "a", type: "directory" }], [{ name: "a/", type: "directory" }], ["a/b/c"]]),
    ]) {
      await (await openArchive(scratch.write("x", data))).close();
    }
  });
});

describe("limits count what is there, not what is claimed", () => {
  test("by default they leave half of the free disk space, and unpack 16 GiB at most", () => {
    const { maxBytes, maxFiles } = resolveOpenOptions(undefined).limits;
    const { bavail, bsize } = statfsSync(tmpdir());
    assert.ok(maxBytes > 0 && maxBytes <= 16 * 1024 ** 3, String(maxBytes));
    assert.ok(maxBytes <= (bavail * bsize) / 2 + 2 ** 30, `${maxBytes} of ${bavail * bsize}`); // others write meanwhile
    assert.equal(maxFiles, 10_000);
  });

  const bomb = Buffer.alloc(1e6);
  const cases: [string, OpenArchiveOptions["extractLimits"], () => Promise<Buffer>, RegExp][] = [
    ["bytes, zip", { maxBytes: 999_999 }, async () => zipFile([{ name: "f", data: bomb, deflate: true }]), /maxBytes/],
    [
      "bytes, tar",
      { maxBytes: 999_999 },
      () => tarGz([["f", bomb]]),
      /unpacks to more bytes than extractLimits\.maxBytes = 999999/,
    ],
    [
      "bytes of many",
      { maxBytes: 1_500_000 },
      () =>
        tarGz([
          ["f", bomb],
          ["g", bomb],
        ]),
      /maxBytes/,
    ],
    [
      "files, zip",
      { maxFiles: 2 },
      async () => zipFile("abc".split("").map((name) => ({ name, data: "" }))),
      /maxFiles = 2/,
    ],
    ["files, tar", { maxFiles: 2 }, () => tarGz([["a"], ["b"], ["c"]]), /holds more files and folders than .*maxFiles/],
    ["folders", { maxFiles: 5 }, () => tarGz([["a/b/c/d/e/f"]]), /maxFiles/],
    [
      "the same data for all entries",
      { maxBytes: 3_500_000 },
      async () =>
        zipFile(
          "abcd"
            .split("")
            .map((name) => ({ name, data: name === "a" ? bomb : "", offset: 0, claimedBytes: 1e6, crc: 0x12345678 })),
        ),
      /maxBytes|checksum/,
    ],
  ];
  for (const [name, extractLimits, make, message] of cases) {
    test(name, async () => {
      await scratch.refuses(
        scratch.write("x", await make()),
        message,
        extractLimits === undefined ? {} : { extractLimits },
      );
    });
  }

  test("just at the limit", async () => {
    for (const data of [zipFile([{ name: "f", data: bomb, deflate: true }]), await tarGz([["f", bomb]])]) {
      const archive = await openArchive(scratch.write("x", data), { extractLimits: { maxFiles: 1, maxBytes: 1e6 } });
      await archive.close();
    }
  });

  test("a size that is claimed too small", async () => {
    const zip = zipFile([{ name: "f", data: bomb, deflate: true }]);
    // Size of the uncompressed data in the directory.
    zip.writeUInt32LE(10, zip.indexOf("PK\x01\x02") + 24);
    await scratch.refuses(scratch.write("x.mar", zip), /the length of an entry is not what/);
  });

  test("zeros without end behind a tar archive", async () => {
    const tarball = gzipSync(Buffer.concat([header({ name: "f" }), Buffer.alloc(40e6)]));
    const extractLimits = { maxBytes: 1, maxFiles: 1 };
    await scratch.refuses(scratch.write("x.tar.gz", tarball), /more bytes than extractLimits/, { extractLimits });
  });

  test("a tar header of gigabytes is not read", async () => {
    for (const type of ["x", "g", "L", "K"]) {
      const tarball = tarBlocks([header({ type, bytes: 8e9 }), Buffer.alloc(1024)]);
      await scratch.refuses(scratch.write("x.tar.gz", tarball), /a tar header has 8000000000 bytes/);
    }
  });
});

test("what is no archive at all", async () => {
  await scratch.refuses(scratch.write("x.mar", ""), /is empty, expected a model archive/);
  await scratch.refuses(scratch.write("x.mar", zipFile([])), /holds no files, expected a model archive/);
  await scratch.refuses(scratch.write("x.mar", zipFile([{ name: "a/", data: "" }])), /holds no files/);
  await scratch.refuses(scratch.write("x.tar.gz", tarBlocks([])), /holds no files/);
  await scratch.refuses(scratch.write("x.mar", "P"), /is no model archive: expected a zip archive/);
  await scratch.refuses(scratch.write("x.mar", Buffer.from("%PDF-1.4")), /is no model archive/);
  await scratch.refuses(path.join(scratch.folder, "nowhere.mar"), /no such file or folder/);
  const link = path.join(scratch.make(), "link.mar");
  symlinkSync("gone.mar", link);
  await scratch
    .refuses(link, /no such file or folder \(or it is a link to one that is gone\)/)
    .catch((error: unknown) => {
      // The listing of the folder cannot look at such a link either.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    });
});

test("a terminal is not told to move its cursor", async () => {
  const zip = zipFile([{ name: "\u001b[2J/../x", data: "", flags: 0x800 }]);
  await scratch.refuses(scratch.write("x.mar", zip), /"\\u001b\[2J\/\.\.\/x"/);
});
