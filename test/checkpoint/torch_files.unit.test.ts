import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { assertSound, checkpointFailure, fixtures, readElements } from "./support.js";

interface Expected {
  tensors?: Record<string, { dtype: string; shape: number[]; bytes: string }>;
  error?: string;
}

const folder = new URL("checkpoints/", fixtures);
const cases = Object.entries(
  JSON.parse(readFileSync(new URL("expected.json", folder), "utf8")) as Record<string, Expected>,
);

describe("files that torch.save made", () => {
  for (const [name, { tensors, error }] of cases) {
    const file = fileURLToPath(new URL(name, folder));
    if (error !== undefined) {
      it(`${name} is refused: ${error}`, async () => {
        const { message } = await checkpointFailure(openCheckpoint(file));
        assert.match(message, new RegExp(error));
        assert.ok(message.startsWith(`${file}: `), message);
      });
      continue;
    }
    it(`${name} has what torch reads from it`, async () => {
      assert.ok(tensors);
      const checkpoint = await openCheckpoint(file);
      assertSound(checkpoint);
      assert.deepEqual([...checkpoint.tensors.keys()], Object.keys(tensors));
      for (const [tensor, { dtype, shape, bytes }] of Object.entries(tensors)) {
        const found = checkpoint.tensors.get(tensor);
        assert.deepEqual({ dtype: found?.dtype, shape: found?.shape }, { dtype, shape }, tensor);
        assert.equal(readElements(checkpoint, tensor).toString("hex"), bytes, tensor);
      }
    });
  }

  it("keep tied tensors and views on the same bytes", async () => {
    for (const suffix of ["", "_legacy"]) {
      const { tensors } = await openCheckpoint(fileURLToPath(new URL(`module${suffix}.bin`, folder)));
      assert.equal(tensors.get("head.weight")?.byteOffset, tensors.get("embed.weight")?.byteOffset);
      const views = await openCheckpoint(fileURLToPath(new URL(`views${suffix}.bin`, folder)));
      const start = views.tensors.get("whole")?.byteOffset as number;
      assert.equal(views.tensors.get("tail")?.byteOffset, start + 20 * 4);
      assert.deepEqual(views.tensors.get("expanded")?.strides, [0, 0]);
    }
  });
});
