import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import yauzl from "yauzl";
import type { Entry } from "../../dist/archive/content.js";
import { readZip } from "../../dist/archive/zip_reader.js";
import { writeZip, type ZipFile } from "../../dist/archive/zip_writer.js";
import { Scratch } from "./support.js";

const scratch = new Scratch();

/** Writes an archive whose zeros are holes, so that it takes no space. */
async function write(entries: Iterable<Entry>): Promise<string> {
  const target = path.join(scratch.make(), "big.mar");
  const handle = await open(target, "wx");
  let position = 0;
  const file: ZipFile = {
    get position() {
      return position;
    },
    async write(piece) {
      if (piece !== zeros) await handle.write(piece, 0, piece.length, position);
      position += piece.length;
    },
    async writeAt(piece, at) {
      await handle.write(piece, 0, piece.length, at);
    },
  };
  try {
    await writeZip(file, entries, { store: true, date: new Date(0), signal: undefined });
  } finally {
    await handle.close();
  }
  return target;
}

const zeros = Buffer.alloc(1 << 24);

/** An entry of some times that many zeros. */
function holes(name: string, times: number): Entry {
  const content = async function* () {
    for (let i = 0; i < times; i++) yield zeros;
  };
  return { name, bytes: times * zeros.length, content };
}

function small(name: string): Entry {
  const content = async function* () {
    yield Buffer.from(name);
  };
  return { name, bytes: name.length, content };
}

test("a file of more than 4 GiB, and one behind it", async () => {
  const archive = await write([holes("big", 257), small("small")]);
  const seen: [string, number, string][] = [];
  for await (const { name, bytes, content } of readZip(archive)) {
    for await (const piece of content()) {
      seen.push([name, bytes, piece.toString("latin1", 0, 5)]);
      break;
    }
  }
  assert.deepEqual(seen, [
    ["big", 257 * zeros.length, "\0".repeat(5)],
    ["small", 5, "small"],
  ]);
});

test("files that lie beyond 4 GiB, none of which is as large", async () => {
  const archive = await write([holes("one", 129), holes("two", 129), small("small")]);
  const names: string[] = [];
  for await (const { name } of readZip(archive)) names.push(name);
  assert.deepEqual(names, ["one", "two", "small"]);
});

test("more files than a number of 16 bits counts", async () => {
  const count = 66_000;
  const parts = new Map<number, Uint8Array>();
  let position = 0;
  const file: ZipFile = {
    get position() {
      return position;
    },
    async write(piece) {
      parts.set(position, piece);
      position += piece.length;
    },
    async writeAt(piece, at) {
      parts.set(at, piece);
    },
  };
  const entries = Array.from({ length: count }, (_, i) => small(`f${i}`));
  await writeZip(file, entries, { store: true, date: new Date(0), signal: undefined });
  const bytes = Buffer.concat([...parts.values()]);
  assert.equal((await yauzl.fromBufferPromise(bytes)).entryCount, count);
  const message = /more files and folders than extractLimits\.maxFiles = 100 allows/;
  await scratch.refuses(scratch.write("many.mar", bytes), message, { extractLimits: { maxFiles: 100 } });
});
