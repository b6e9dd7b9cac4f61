import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hasCode } from "../support/fixtures.js";
import { makeCheckpoint, rename, smallest } from "./helpers.js";
import { changed, resolve, shapes } from "./stored_shapes.js";

// Checkpoints whose tensors are not those of config.json.

describe("missing tensors", () => {
  for (const family of Object.keys(shapes) as (keyof typeof shapes)[]) {
    test(`${family}: each one is named when it alone is missing`, () => {
      for (const missing of Object.keys(shapes[family])) {
        const checkpoint = rename(makeCheckpoint(shapes[family]), (name) => (name === missing ? undefined : name));
        assert.throws(
          () => resolve(smallest[family], checkpoint),
          (error: Error & { code?: string }) => {
            assert.equal(error.code, "ERR_CHECKPOINT");
            assert.ok(error.message.includes(`lacks 1 tensor of the ${family} model`), error.message);
            assert.ok(error.message.includes(missing), error.message);
            return true;
          },
        );
      }
    });
  }

  test("all are listed at once, with the checkpoint", () => {
    const gone = ["model.layers.0.mlp.gate_proj.weight", "model.layers.1.self_attn.q_proj.weight", "lm_head.weight"];
    const checkpoint = rename(makeCheckpoint(shapes.llama), (name) => (gone.includes(name) ? undefined : name));
    assert.throws(
      () => resolve(smallest.llama, checkpoint),
      hasCode("ERR_CHECKPOINT", new RegExp(`/models/test lacks 3 tensors.*18 of 21 were found.*${gone.join(", ")}`)),
    );
  });

  test("an empty checkpoint lacks everything", () => {
    assert.throws(
      () => resolve(smallest.opt, makeCheckpoint({})),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, "ERR_CHECKPOINT");
        for (const name of Object.keys(shapes.opt)) assert.ok(error.message.includes(name), name);
        return true;
      },
    );
  });

  test("a checkpoint of another architecture", () => {
    assert.throws(
      () => resolve(smallest.gpt2, makeCheckpoint(shapes.llama)),
      hasCode(
        "ERR_CHECKPOINT",
        /none of its tensors has a name that this architecture knows.*transformer\.wte\.weight/,
      ),
    );
  });

  test("a model with more layers than the checkpoint", () => {
    assert.throws(
      () => resolve({ ...smallest.opt, num_hidden_layers: 3 }, makeCheckpoint(shapes.opt)),
      hasCode("ERR_CHECKPOINT", /lacks 16 tensors.*model\.decoder\.layers\.2\.fc2\.bias/),
    );
  });
});

describe("unexpected tensors", () => {
  test("are listed in one warning", () => {
    const extra = { ...shapes.llama, "model.layers.0.self_attn.q_proj.bias": [8], "score.weight": [2, 8] };
    const { warnings } = resolve(smallest.llama, makeCheckpoint(extra));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] as string, /holds 2 tensors .*q_proj\.bias, score\.weight$/);
  });

  test("a layer more than config.json says", () => {
    const { warnings } = resolve({ ...smallest.llama, num_hidden_layers: 1 }, makeCheckpoint(shapes.llama));
    assert.match(warnings.join(), /holds 9 tensors .*model\.layers\.1\.mlp\.down_proj\.weight/);
  });

  test("buffers that older versions stored are not", () => {
    const gpt2 = { "transformer.h.0.attn.bias": [1, 1, 16, 16], "transformer.h.1.attn.masked_bias": [] };
    assert.deepEqual(resolve(smallest.gpt2, makeCheckpoint({ ...shapes.gpt2, ...gpt2 })).warnings, []);
    const llama = { "model.layers.0.self_attn.rotary_emb.inv_freq": [2], "model.rotary_emb.inv_freq": [2] };
    assert.deepEqual(resolve(smallest.llama, makeCheckpoint({ ...shapes.llama, ...llama })).warnings, []);
    assert.deepEqual(resolve(smallest.opt, makeCheckpoint({ ...shapes.opt, "decoder.version": [1] })).warnings, []);
  });

  test("a buffer's name elsewhere is", () => {
    const { warnings } = resolve(smallest.gpt2, makeCheckpoint({ ...shapes.gpt2, "transformer.attn.bias": [3] }));
    assert.match(warnings.join(), /holds 1 tensor .*transformer\.attn\.bias$/);
  });
});

describe("wrong tensors", () => {
  const wrongShapes: [keyof typeof smallest, string, number[], string][] = [
    ["opt", "model.decoder.embed_tokens.weight", [12, 8], "[12, 8], expected [11, 8]"],
    ["opt", "model.decoder.embed_positions.weight", [2048, 8], "[2048, 8], expected [2050, 8]"],
    ["opt", "model.decoder.layers.1.fc1.weight", [8, 12], "[8, 12], expected [12, 8]"],
    ["gpt2", "transformer.h.0.attn.c_attn.weight", [24, 8], "[24, 8], expected [8, 24]"],
    ["gpt2", "transformer.h.0.attn.c_attn.bias", [8], "[8], expected [24]"],
    ["llama", "model.layers.0.self_attn.k_proj.weight", [64], "[64], expected [8, 8]"],
    ["llama", "model.norm.weight", [], "[], expected [8]"],
    ["llama", "model.norm.weight", [1, 8], "[1, 8], expected [8]"],
    ["llama", "lm_head.weight", [11, 0], "[11, 0], expected [11, 8]"],
  ];
  for (const [family, name, shape, text] of wrongShapes) {
    test(`${name} of shape [${shape}]`, () => {
      assert.throws(
        () => resolve(smallest[family], changed(family, name, { shape })),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, "ERR_CHECKPOINT");
          assert.ok(
            error.message.includes(`/models/test/weights.bin: tensor ${name} has shape ${text}`),
            error.message,
          );
          return true;
        },
      );
    });
  }

  for (const dtype of ["int8", "int64", "uint8", "bool", "float8_e4m3fn", "complex64"] as const) {
    test(`a weight stored as ${dtype}`, () => {
      const name = "model.layers.1.mlp.up_proj.weight";
      assert.throws(
        () => resolve(smallest.llama, changed("llama", name, { dtype })),
        hasCode("ERR_CHECKPOINT", new RegExp(`weights\\.bin: tensor ${name} is stored as ${dtype}, expected float32`)),
      );
    });
  }

  test("float64 is read, and converted to what the engine holds", () => {
    const checkpoint = makeCheckpoint(shapes.llama);
    for (const [name, entry] of checkpoint.tensors) checkpoint.tensors.set(name, { ...entry, dtype: "float64" });
    const { storedDtype, weights } = resolve(smallest.llama, checkpoint);
    assert.equal(storedDtype, "float32");
    assert.ok(weights.every(({ dtype }) => dtype === "float64"));
  });

  test("a tensor that the index promises and no file holds is named with its file", () => {
    const { "model.norm.weight": _, ...others } = shapes.llama;
    const promised = new Map([["model.norm.weight", "two.safetensors"]]);
    assert.throws(
      () => resolve(smallest.llama, { ...makeCheckpoint(others), promised }),
      hasCode("ERR_CHECKPOINT", /Its index names model\.norm\.weight in two\.safetensors, which does not hold it\./),
    );
  });

  test("the type of a tensor that is not used does not matter", () => {
    const checkpoint = makeCheckpoint({ ...shapes.gpt2, "transformer.h.0.attn.bias": [1, 1, 16, 16] });
    const mask = checkpoint.tensors.get("transformer.h.0.attn.bias");
    assert.ok(mask);
    checkpoint.tensors.set(mask.name, { ...mask, dtype: "uint8" });
    assert.equal(resolve(smallest.gpt2, checkpoint).storedDtype, "float16");
  });

  test("all are listed at once, a fused tensor once", () => {
    const checkpoint = changed("gpt2", "transformer.h.0.attn.c_attn.weight", { shape: [1, 1] });
    const entry = checkpoint.tensors.get("transformer.wpe.weight");
    assert.ok(entry);
    checkpoint.tensors.set(entry.name, { ...entry, shape: [1] });
    assert.throws(
      () => resolve(smallest.gpt2, checkpoint),
      (error: Error) => {
        assert.equal(error.message.split("c_attn.weight has shape").length, 2);
        assert.ok(error.message.includes("wpe.weight has shape [1], expected [16, 8]"));
        return true;
      },
    );
  });
});
