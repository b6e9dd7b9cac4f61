import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { type Checkpoint, openCheckpoint } from "../../dist/checkpoint/index.js";
import { assertSound, fixtures, readElements } from "./support.js";

const forms = new URL("forms/", fixtures);

interface BaseTensor {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** A safetensors file read without the code under test. */
function readBase(name: string): Map<string, BaseTensor> {
  const bytes = readFileSync(new URL(`golden/${name}/model.safetensors`, fixtures));
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  delete header.__metadata__;
  return new Map(
    Object.entries(header).map(
      ([
        tensor,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [tensor, { dtype, shape, bytes: bytes.subarray(start + begin, start + end) }],
    ),
  );
}

function halfToFloat(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

function widen(halves: Buffer): Buffer {
  const values = Float32Array.from({ length: halves.length / 2 }, (_, i) => halfToFloat(halves.readUInt16LE(2 * i)));
  return Buffer.from(values.buffer);
}

/** How a form stores the base's weights, where it is not as they are. */
const differences: Record<string, { dtype?: string; rename?: (name: string) => string | undefined }> = {
  llama_fp32: { dtype: "float32" },
  opt_meta_prefixless: {
    rename: (name) => (name.startsWith("lm_head") ? undefined : name.replace(/^model\./, "")),
  },
};

describe("the storage forms", () => {
  const names = readdirSync(forms);
  it("are the ones known here", () => {
    assert.ok(names.length >= 8, names.join());
    for (const name of Object.keys(differences)) assert.ok(names.includes(name), name);
  });

  for (const form of names) {
    it(`${form} has the weights of its base`, async () => {
      const folder = fileURLToPath(new URL(form, forms));
      const { base } = JSON.parse(readFileSync(`${folder}/form.json`, "utf8")) as { base: string };
      const { dtype = "float16", rename = (name: string) => name } = differences[form] ?? {};
      const checkpoint = await openCheckpoint(folder);
      assert.equal(checkpoint.path, folder);
      assertSound(checkpoint);
      const expected = new Map<string, BaseTensor>();
      for (const [name, tensor] of readBase(base)) {
        const renamed = rename(name);
        if (renamed !== undefined) expected.set(renamed, tensor);
      }
      assert.deepEqual([...checkpoint.tensors.keys()].sort(), [...expected.keys()].sort());
      for (const [name, tensor] of expected) {
        assert.equal(tensor.dtype, "F16");
        const found = checkpoint.tensors.get(name);
        assert.deepEqual({ dtype: found?.dtype, shape: found?.shape }, { dtype, shape: tensor.shape }, name);
        const bytes = dtype === "float32" ? widen(tensor.bytes) : tensor.bytes;
        assert.ok(readElements(checkpoint, name).equals(bytes), `${name} has other values`);
      }
    });
  }

  it("opt_bin_views has tensors that share storage and one that is transposed", async () => {
    const { tensors } = await openCheckpoint(fileURLToPath(new URL("opt_bin_views", forms)));
    const transposed = tensors.get("model.decoder.layers.0.fc1.weight");
    assert.deepEqual(transposed?.strides, [1, transposed?.shape[0]]);
  });

  it("sharded ones list tensors by file, and in each file in its order", async () => {
    for (const form of ["opt_bin_sharded", "llama_safetensors_sharded"]) {
      const checkpoint: Checkpoint = await openCheckpoint(fileURLToPath(new URL(form, forms)));
      assert.equal(checkpoint.files.length, 2);
      const places = [...checkpoint.tensors.values()].map(({ file, byteOffset }) => file * 2 ** 40 + byteOffset);
      assert.deepEqual(
        places,
        [...places].sort((a, b) => a - b),
        form,
      );
    }
  });
});
