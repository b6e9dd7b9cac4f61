import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { ShardspeedError } from "../../dist/base/errors.js";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { dict, int, tensor, tuple } from "./pickle_writer.js";
import { entry, safetensorsFile } from "./safetensors_writer.js";
import { assertSound, Messages, openHandles, readElements, Scratch } from "./support.js";
import { floats, legacyStorage, torchLegacy, torchZip, torchZipEntries } from "./torch_writer.js";
import { zipFile } from "./zip_writer.js";

const scratch = new Scratch();

/** A safetensors file with one tensor of this name. */
function weights(name: string): Buffer {
  return safetensorsFile({ [name]: entry([4], 0, 16) }, floats(4));
}

function torch(name: string): Buffer {
  return torchZip({ object: dict([name, tensor()]) });
}

const optimizer = "not weights at all";

describe("a folder's weights", () => {
  // What a folder holds, and the tensors that are taken from it.
  const choices: [what: string, files: Record<string, Uint8Array | string>, tensors: string[]][] = [
    [
      "are safetensors before torch files",
      {
        "model.safetensors": weights("st"),
        "pytorch_model.bin": torch("bin"),
        "consolidated.safetensors": weights("c"),
      },
      ["st"],
    ],
    [
      "are one safetensors file before an index",
      {
        "model.safetensors": weights("one"),
        "model-00001-of-00001.safetensors": weights("shard"),
        "model.safetensors.index.json": '{"weight_map":{"shard":"model-00001-of-00001.safetensors"}}',
      },
      ["one"],
    ],
    [
      "are what the index of safetensors names, and no more",
      {
        "x.safetensors": weights("x"),
        "y.safetensors": weights("y"),
        "z.safetensors": weights("z"),
        "pytorch_model.bin": torch("bin"),
        "model.safetensors.index.json": '{"weight_map":{"y":"y.safetensors","x":"./x.safetensors"}}',
      },
      ["x", "y"],
    ],
    [
      "may be fewer than the index names: a tied head that was left out",
      {
        "x.safetensors": weights("x"),
        "model.safetensors.index.json": '{"weight_map":{"x":"x.safetensors","y":"x.safetensors"}}',
      },
      ["x"],
    ],
    [
      "may lie in a folder inside",
      { "sub/x.safetensors": weights("x"), "model.safetensors.index.json": '{"weight_map":{"x":"sub/x.safetensors"}}' },
      ["x"],
    ],
    [
      "are shards without an index",
      { "model-00002-of-00002.safetensors": weights("b"), "model-00001-of-00002.safetensors": weights("a") },
      ["a", "b"],
    ],
    [
      "are shards that count from 0",
      { "model-00000-of-00002.safetensors": weights("a"), "model-00001-of-00002.safetensors": weights("b") },
      ["a", "b"],
    ],
    [
      "are shards as BLOOM names them",
      { "pytorch_model_00001-of-00002.bin": torch("a"), "pytorch_model_00002-of-00002.bin": torch("b") },
      ["a", "b"],
    ],
    [
      "are torch files before safetensors of another name",
      { "pytorch_model.bin": torch("bin"), "extra.safetensors": weights("extra"), "optimizer.bin": optimizer },
      ["bin"],
    ],
    [
      "are the only file of any name, beside what training leaves",
      {
        "my-model.pt": torch("mine"),
        "optimizer.pt": optimizer,
        "scheduler.pt": optimizer,
        "training_args.bin": optimizer,
        "rng_state_0.pth": optimizer,
        "adapter_model.bin": optimizer,
        ".hidden.bin": optimizer,
      },
      ["mine"],
    ],
    [
      "are not the original code's copy of them",
      { "weights.safetensors": weights("w"), "consolidated.safetensors": weights("c") },
      ["w"],
    ],
    ["are the original code's files where there are no others", { "consolidated.00.pth": torch("c") }, ["c"]],
    ["may be safetensors in a file that ends in .bin", { "pytorch_model.bin": weights("st") }, ["st"]],
    [
      "are one variant where there is no other file",
      { "model.fp16-00001-of-00001.safetensors": weights("v"), "config.json": "{}" },
      ["v"],
    ],
  ];
  for (const [what, files, tensors] of choices) {
    it(what, async () => {
      const checkpoint = await openCheckpoint(scratch.folder(files));
      assertSound(checkpoint);
      assert.deepEqual([...checkpoint.tensors.keys()], tensors);
    });
  }

  it("come from a whole set, with a warning, where another is not whole", async () => {
    const folder = scratch.folder({
      "model-00001-of-00002.safetensors": weights("a"),
      "pytorch_model.bin": torch("bin"),
    });
    const logger = new Messages();
    const { tensors } = await openCheckpoint(folder, { logger });
    assert.deepEqual([...tensors.keys()], ["bin"]);
    assert.match(logger.all.join("\n"), /^warn: .*lacks 1 of the 2 shards.*00002; took pytorch_model\.bin instead$/m);
  });

  it("may be links, as in the cache of Hugging Face", async () => {
    const cache = scratch.folder({ "blobs/1a2b": weights("a"), "blobs/3c4d": weights("b") });
    const snapshot = path.join(cache, "snapshots", "main");
    mkdirSync(snapshot, { recursive: true });
    symlinkSync("../../blobs/1a2b", path.join(snapshot, "model-00001-of-00002.safetensors"));
    symlinkSync("../../blobs/3c4d", path.join(snapshot, "model-00002-of-00002.safetensors"));
    writeFileSync(
      path.join(snapshot, "model.safetensors.index.json"),
      '{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}',
    );
    const checkpoint = await openCheckpoint(snapshot);
    assert.deepEqual([...checkpoint.tensors.keys()], ["a", "b"]);
    assert.ok(checkpoint.files.every((file) => file.bytes === weights("a").length));
  });

  it("that the index does not name are taken, with a warning", async () => {
    const folder = scratch.folder({
      "x.safetensors": safetensorsFile({ a: entry([2], 0, 8), b: entry([2], 8, 16) }, 16),
      "model.safetensors.index.json": '{"weight_map":{"a":"x.safetensors"}}',
    });
    const logger = new Messages();
    const { tensors } = await openCheckpoint(folder, { logger });
    assert.deepEqual([...tensors.keys()], ["a", "b"]);
    assert.deepEqual(logger.all.length, 1);
    assert.match(logger.all[0] as string, /^warn: .*index\.json: does not name "b"/);
  });
});

describe("openCheckpoint", () => {
  it("opens one file, an index, and paths that are relative", async () => {
    const folder = scratch.folder({
      "x.safetensors": weights("x"),
      "y.bin": torch("y"),
      "my.index.json": '{"weight_map":{"x":"x.safetensors","y":"y.bin"}}',
    });
    const names = async (file: string) => [...(await openCheckpoint(file)).tensors.keys()];
    assert.deepEqual(await names(path.join(folder, "x.safetensors")), ["x"]);
    assert.deepEqual(await names(path.join(folder, "y.bin")), ["y"]);
    assert.deepEqual(await names(path.join(folder, "my.index.json")), ["x", "y"]);
    const relative = path.relative(process.cwd(), path.join(folder, "y.bin"));
    const checkpoint = await openCheckpoint(relative);
    assert.equal(checkpoint.path, path.join(folder, "y.bin"));
    assert.deepEqual(checkpoint.files, [{ path: path.join(folder, "y.bin"), bytes: torch("y").length }]);
  });

  it("stops where its signal says so", async () => {
    const file = scratch.file("model.safetensors", weights("x"));
    const before = openHandles();
    await assert.rejects(openCheckpoint(file, { signal: AbortSignal.abort(new Error("enough")) }), (error) => {
      assert.ok(error instanceof ShardspeedError);
      assert.equal(error.code, "ERR_ABORTED");
      assert.equal((error.cause as Error).message, "enough");
      return true;
    });
    const controller = new AbortController();
    const opening = openCheckpoint(file, { signal: controller.signal });
    controller.abort();
    await assert.rejects(opening, { code: "ERR_ABORTED" });
    assert.equal(openHandles(), before);
  });

  it("refuses what is no path", async () => {
    for (const wrong of ["", undefined, null, 3, {}]) {
      await assert.rejects(openCheckpoint(wrong as string), { code: "ERR_INVALID_ARGUMENT" });
    }
  });

  it("leaves no file open, opened often", async () => {
    const folder = scratch.folder({ "model-00001-of-00002.bin": torch("a"), "model-00002-of-00002.bin": torch("b") });
    const before = openHandles();
    await Promise.all(Array.from({ length: 20 }, () => openCheckpoint(folder)));
    assert.equal(openHandles(), before);
  });
});

describe("safetensors headers may have", () => {
  const files: [what: string, file: Buffer, shapes: Record<string, number[]>][] = [
    ["white space around them", safetensorsFile(` \n${JSON.stringify({ a: entry([1], 0, 4) })}   `, 4), { a: [1] }],
    ["metadata", safetensorsFile({ __metadata__: { format: "pt" }, a: entry([1], 0, 4) }, 4), { a: [1] }],
    ["metadata of null", safetensorsFile({ __metadata__: null, a: entry([1], 0, 4) }, 4), { a: [1] }],
    ["fields that nobody knows", safetensorsFile({ a: { ...entry([1], 0, 4), note: [1] } }, 4), { a: [1] }],
    [
      "scalars and empty tensors",
      safetensorsFile({ s: entry([], 0, 4), e: entry([3, 0, 2], 4, 4) }, 4),
      { s: [], e: [3, 0, 2] },
    ],
    [
      "tensors in another order than their bytes, with names that look like numbers",
      safetensorsFile(
        '{"10":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"9":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}',
        12,
      ),
      { 9: [1], 10: [1], b: [1] },
    ],
    [
      "names that objects have already",
      safetensorsFile(
        '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"constructor":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        8,
      ),
      JSON.parse('{"__proto__":[1],"constructor":[1]}') as Record<string, number[]>,
    ],
    [
      "a length that begins as a pickle does",
      safetensorsFile(JSON.stringify({ a: entry([1], 0, 4) }).padEnd(0x280), 4),
      { a: [1] },
    ],
  ];
  for (const [what, file, shapes] of files) {
    it(what, async () => {
      const checkpoint = await openCheckpoint(scratch.file("model.safetensors", file));
      assertSound(checkpoint);
      const found = [...checkpoint.tensors.values()].map(({ name, shape }) => [name, shape]);
      assert.deepEqual(
        found.sort(([a], [b]) => String(a).localeCompare(String(b))),
        Object.entries(shapes).sort(([a], [b]) => a.localeCompare(b)),
      );
    });
  }

  it("tensors in the order of their bytes", async () => {
    const header = { b: entry([1], 4, 8), a: entry([1], 8, 12), 0: entry([1], 12, 16), c: entry([1], 0, 4) };
    const checkpoint = await openCheckpoint(scratch.file("model.safetensors", safetensorsFile(header, floats(4))));
    assert.deepEqual([...checkpoint.tensors.keys()], ["c", "b", "a", "0"]);
    assert.deepEqual(
      ["c", "b", "a", "0"].map((name) => readElements(checkpoint, name).readFloatLE()),
      [0, 1, 2, 3],
    );
  });
});

describe("torch files may have", () => {
  it("sizes and places in zip64 fields", async () => {
    const entries = torchZipEntries().map((record) => ({ ...record, zip64: true }));
    const file = zipFile(entries, { count: 0xffff, zip64: { count: BigInt(entries.length) } });
    const checkpoint = await openCheckpoint(scratch.file("model.bin", file));
    assert.deepEqual(readElements(checkpoint, "w"), floats(4));
  });

  it("sizes behind the data, and no byte order", async () => {
    const entries = torchZipEntries({ byteOrder: undefined }).map((record) => ({ ...record, flags: 8, localBytes: 0 }));
    const checkpoint = await openCheckpoint(scratch.file("model.bin", zipFile(entries)));
    assert.deepEqual(readElements(checkpoint, "w"), floats(4));
  });

  it("views into storages, in the old stream", async () => {
    const object = dict([
      "w",
      tensor({
        storage: legacyStorage("0", 4, tuple("N", int(1), int(3))),
        offset: int(1),
        shape: tuple(int(2)),
        strides: tuple(int(1)),
      }),
    ]);
    const checkpoint = await openCheckpoint(scratch.file("model.pt", torchLegacy({ object })));
    assert.deepEqual(readElements(checkpoint, "w"), floats(4).subarray(8));
  });

  it("more bytes behind the last storage, with a warning", async () => {
    const logger = new Messages();
    const file = Buffer.concat([torchLegacy(), Buffer.alloc(5)]);
    await openCheckpoint(scratch.file("model.pt", file), { logger });
    assert.match(logger.all.join("\n"), /^warn: .*5 bytes behind its last storage$/);
  });

  it("pickles larger than what is read first", async () => {
    const names = Array.from({ length: 5000 }, (_, i) => `layers.${i}.a_rather_long_name_of_a_weight`);
    const storage = legacyStorage("0", 4, "N");
    const object = dict(...names.map((name) => [name, tensor({ storage })] as const));
    const { tensors } = await openCheckpoint(scratch.file("model.pt", torchLegacy({ object })));
    assert.deepEqual([...tensors.keys()], names);
  });

  it("plain values of every protocol beside the weights", async () => {
    const values = [
      "I01\n",
      "I-5\n",
      "L123456789012345678901L\n",
      "F1.5e3\n",
      "Fnan\n",
      "S'a\\x41\\'\\n\\101'\n",
      'S"b"\n',
      "Vu\\u00e9\\U0001f600\n",
      "(I1\nI2\nl",
      "(S'k'\nI1\nd",
      "(I1\nI2\nt",
      "U\x01a",
      "T\x01\0\0\0a",
      "K\x01",
      "M\x01\x01",
      "J\xff\xff\xff\xff",
      "\x8a\x00",
      "\x8a\x01\xff",
      "\x8b\x01\0\0\0\x7f",
      "G\0\0\0\0\0\0\0\0",
      "\x8c\x01a",
      "\x8d\x01\0\0\0\0\0\0\0a",
      "B\x01\0\0\0a",
      "C\x01a",
      "\x8e\x01\0\0\0\0\0\0\0a",
      "\x96\x01\0\0\0\0\0\0\0a",
      "\x8f(K\x01K\x02\x90",
      "(K\x01\x91",
      "N0]2a",
      "(K\x01K\x021N",
      "\x95\0\0\0\0\0\0\0\0N",
      "]\x940h\0",
      "]p9\n0g9\n",
      "]r\x07\0\0\0" + "0j\x07\0\0\0",
      "(0N",
    ];
    for (const value of values) {
      const object = dict(["w", tensor()], ["x", value]);
      const { tensors } = await openCheckpoint(scratch.file("model.bin", torchZip({ object })));
      assert.deepEqual([...tensors.keys()], ["w"], JSON.stringify(value));
    }
  });
});
