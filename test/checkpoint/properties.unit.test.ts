import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../dist/base/errors.js";
import { openCheckpoint, type StorageDtype } from "../../dist/checkpoint/index.js";
import { assemble, dict, int, orderedDict, pickle, str, tensor, tuple } from "./pickle_writer.js";
import { entry, safetensorsFile } from "./safetensors_writer.js";
import {
  assertSound,
  checkpointFailure,
  elementBytes,
  fixtures,
  openHandles,
  readElements,
  Scratch,
} from "./support.js";
import { floats, torchLegacy, torchZip } from "./torch_writer.js";

const scratch = new Scratch();

function fixture(name: string): Buffer {
  return readFileSync(new URL(name, fixtures));
}

const object = dict(
  ["a", tensor()],
  ["b", tensor({ offset: int(1), shape: tuple(int(3)), strides: tuple(int(1)) })],
  ["n", [orderedDict, dict(["_metadata", str("x")]), "b"]],
);

/** One good file of every format, small enough to break in every place. */
const goodFiles: Record<string, Buffer> = {
  "model.safetensors": safetensorsFile(
    { __metadata__: { format: "pt" }, a: entry([2, 2], 0, 16), b: entry([4], 16, 24, "BF16") },
    24,
  ),
  "archive.bin": torchZip({ object }),
  "stream.bin": torchLegacy(),
  "torch_archive.bin": fixture("checkpoints/views.bin"),
  "torch_stream.bin": fixture("checkpoints/views_legacy.bin"),
  "torch_protocol_4.bin": fixture("checkpoints/protocol4.bin"),
};

/** Opens what may be broken: right in all, or the one error that a broken file may give. */
async function openBroken(file: string): Promise<void> {
  try {
    assertSound(await openCheckpoint(file));
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
    assert.equal(error.code, "ERR_CHECKPOINT");
    assert.ok(error.message.startsWith(`${file}: `), error.message);
  }
}

describe("broken files", () => {
  for (const [name, good] of Object.entries(goodFiles)) {
    it(`${name} cut at any byte is refused`, async () => {
      const file = scratch.file(name, good);
      assertSound(await openCheckpoint(file));
      const before = openHandles();
      for (let length = good.length - 1; length >= 0; length--) {
        truncateSync(file, length);
        await checkpointFailure(openCheckpoint(file)).catch((error: Error) => {
          throw new Error(`cut to ${length} of ${good.length} bytes: ${error.message}`);
        });
      }
      assert.equal(openHandles(), before);
    });

    it(`${name} with changed bytes is right or refused`, async () => {
      const file = scratch.file(name, good);
      const before = openHandles();
      const change = fc.record({ at: fc.nat({ max: good.length - 1 }), to: fc.nat({ max: 255 }) });
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
          const bytes = Buffer.from(good);
          for (const { at, to } of changes) bytes[at] = to;
          writeFileSync(file, bytes);
          await openBroken(file);
        }),
        { numRuns: 400 },
      );
      assert.equal(openHandles(), before);
    });

    it(`${name} with a piece left out or put in is right or refused`, async () => {
      const file = scratch.file(name, good);
      const place = fc.nat({ max: good.length });
      await fc.assert(
        fc.asyncProperty(place, place, fc.uint8Array({ maxLength: 20 }), async (one, other, piece) => {
          writeFileSync(file, Buffer.concat([good.subarray(0, one), piece, good.subarray(other)]));
          await openBroken(file);
        }),
        { numRuns: 200 },
      );
    });
  }

  it("a pickle cut at any byte is refused, in an archive that is whole", async () => {
    const data = pickle(object);
    for (let length = 0; length < data.length; length++) {
      const { message } = await checkpointFailure(
        openCheckpoint(scratch.file("model.bin", torchZip({ data: data.subarray(0, length) }))),
      );
      assert.match(message, /model\.bin: its pickle /);
    }
  });

  it("pickles of random instructions are right or refused", async () => {
    const pieces = [
      "(",
      ")",
      "]",
      "}",
      "N",
      "0",
      "1",
      "2",
      "t",
      "l",
      "d",
      "a",
      "e",
      "s",
      "u",
      "b",
      "R",
      "Q",
      "o",
      ".",
      "\x81",
      "\x85",
      "\x86",
      "\x87",
      "\x8f",
      "\x90",
      "\x91",
      "\x92",
      "\x93",
      "\x94",
      "q\0",
      "h\0",
      "q\x01",
      "h\x01",
      "K\x02",
      "U\x01a",
      "I01\n",
    ]
      .map((code) => assemble(code))
      .concat([
        assemble(orderedDict),
        assemble(tensor()),
        assemble(str("w")),
        assemble("ctorch\nSize\n"),
        assemble("ctorch._utils\n_rebuild_tensor_v2\n"),
      ]);
    const file = scratch.file("model.bin", "");
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...pieces), { maxLength: 40 }), async (code) => {
        writeFileSync(file, torchZip({ data: assemble("\x80\x04", ...code, "0}", str("w"), tensor(), "s.") }));
        await openBroken(file);
      }),
      { numRuns: 1000 },
    );
  });

  it("random bytes are refused", async () => {
    const file = scratch.file("model.bin", "");
    const begin = fc.constantFrom("", "PK\x03\x04", "\x80\x02", "\x10\0\0\0\0\0\0\0{");
    await fc.assert(
      fc.asyncProperty(begin, fc.uint8Array({ maxLength: 300 }), async (head, bytes) => {
        writeFileSync(file, assemble(head, bytes));
        await checkpointFailure(openCheckpoint(file));
      }),
      { numRuns: 500 },
    );
  });
});

const names: Record<string, StorageDtype> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  U8: "uint8",
  BOOL: "bool",
  F8_E4M3: "float8_e4m3fn",
  F8_E4M3FNUZ: "float8_e4m3fnuz",
  F8_E5M2FNUZ: "float8_e5m2fnuz",
  F8_E8M0: "float8_e8m0fnu",
  C64: "complex64",
};

describe("good files of random tensors", () => {
  it("and of elements below a byte, which a quantized checkpoint has beside what is read", async () => {
    const header = {
      a: entry([3, 4], 0, 6, "F4"),
      b: entry([0], 6, 6, "F4"),
      c: entry([2, 4], 6, 12, "F6_E2M3"),
      d: entry([4], 12, 15, "F6_E3M2"),
      e: entry([2], 15, 23, "F32"),
    };
    const checkpoint = await openCheckpoint(scratch.file("packed.safetensors", safetensorsFile(header, 23)));
    const found = [...checkpoint.tensors.values()].map(({ name, dtype }) => [name, dtype]);
    assert.deepEqual(found, [
      ["a", "float4_e2m1"],
      ["b", "float4_e2m1"],
      ["c", "float6_e2m3"],
      ["d", "float6_e3m2"],
      ["e", "float32"],
    ]);
    assert.equal(checkpoint.tensors.get("e")?.byteOffset, (checkpoint.tensors.get("a")?.byteOffset ?? 0) + 15);
  });

  const shape = fc.array(fc.nat({ max: 4 }), { maxLength: 4 });

  it("in safetensors come back as they were written", async () => {
    const file = scratch.file("model.safetensors", "");
    const tensorOf = fc.record({ dtype: fc.constantFrom(...Object.keys(names)), shape });
    const tensors = fc.dictionary(fc.string({ minLength: 1 }), tensorOf, { minKeys: 1, maxKeys: 12 });
    await fc.assert(
      fc.asyncProperty(tensors, fc.integer(), async (wanted, seed) => {
        fc.pre(!Object.hasOwn(wanted, "__metadata__"));
        const header: [string, unknown][] = [];
        let end = 0;
        for (const [name, { dtype, shape }] of Object.entries(wanted)) {
          const begin = end;
          end += shape.reduce((product, size) => product * size, elementBytes[names[dtype] as StorageDtype]);
          header.push([name, entry(shape, begin, end, dtype)]);
        }
        const data = Buffer.from(Array.from({ length: end }, (_, i) => (i * 7 + seed) & 0xff));
        writeFileSync(file, safetensorsFile(Object.fromEntries(header), data));
        const checkpoint = await openCheckpoint(file);
        assertSound(checkpoint);
        assert.equal(checkpoint.tensors.size, header.length);
        for (const [name, info] of header) {
          const { shape, dtype, data_offsets } = info as ReturnType<typeof entry>;
          const found = checkpoint.tensors.get(name);
          assert.deepEqual([found?.shape, found?.dtype], [shape, names[dtype as string]]);
          const [begin, end] = data_offsets as [number, number];
          assert.ok(readElements(checkpoint, name).equals(data.subarray(begin, end)), name);
        }
      }),
      { numRuns: 150 },
    );
  });

  it("in torch files are refused just where they leave their storage", async () => {
    const file = scratch.file("model.bin", "");
    const stride = fc.nat({ max: 6 });
    const dims = fc.array(fc.tuple(fc.nat({ max: 4 }), stride), { maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(dims, fc.nat({ max: 12 }), fc.nat({ max: 30 }), async (dims, offset, elements) => {
        const parts = {
          elements,
          offset: int(offset),
          shape: tuple(...dims.map(([size]) => int(size))),
          strides: tuple(...dims.map(([, stride]) => int(stride))),
        };
        const storages = { 0: floats(elements) };
        writeFileSync(file, torchZip({ object: dict(["w", tensor(parts)]), storages }));
        const empty = dims.some(([size]) => size === 0);
        const last = offset + dims.reduce((sum, [size, stride]) => sum + (size - 1) * stride, 0);
        if (!empty && last >= elements) {
          const { message } = await checkpointFailure(openCheckpoint(file));
          assert.match(message, /tensor "w": reaches to byte/);
          return;
        }
        const checkpoint = await openCheckpoint(file);
        assertSound(checkpoint);
        const bytes = readElements(checkpoint, "w");
        const found = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
        let wanted = empty ? [] : [offset];
        for (const [size, stride] of dims) {
          wanted = wanted.flatMap((start) => Array.from({ length: size }, (_, i) => start + i * stride));
        }
        assert.deepEqual(found, wanted);
      }),
      { numRuns: 200 },
    );
  });
});
