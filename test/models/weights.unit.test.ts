import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import type { StorageDtype } from "../../dist/checkpoint/types.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { demoModel, fixture, readFloatTensors } from "../support/fixtures.js";
import { goldens, isTied, makeCheckpoint, readConfig, readView, rename, smallest } from "./helpers.js";
import { resolve, shapes } from "./stored_shapes.js";

describe("every role is filled, every tensor used", () => {
  for (const family of Object.keys(shapes) as (keyof typeof shapes)[]) {
    test(family, () => {
      const { weights, files, storedDtype, spec, warnings } = resolve(smallest[family], makeCheckpoint(shapes[family]));
      assert.deepEqual(warnings, []);
      assert.equal(storedDtype, "float16");
      assert.deepEqual(
        files.map(({ path }) => path),
        ["/models/test/weights.bin"],
      );
      const matrices = weights.filter(({ role }) => role.endsWith(".weight"));
      assert.equal(new Set(matrices.map(({ role }) => role)).size, matrices.length, "no role twice");
      assert.deepEqual(new Set(weights.map(({ tensor }) => tensor)), new Set(Object.keys(shapes[family])));
      assert.equal(isTied(spec), family !== "llama");
      for (const { shape, strides } of weights) assert.equal(shape.length, strides.length);
    });
  }

  for (const name of goldens) {
    test(name, async () => {
      const folder = fixture("golden", name);
      const config = readConfig(`${folder}/config.json`);
      const { weights, storedDtype, warnings } = resolve(config, await openCheckpoint(folder));
      assert.deepEqual(warnings, []);
      assert.equal(storedDtype, config.dtype);
      assert.ok(weights.length > 0);
    });
  }

  test("the demo model", async () => {
    const { warnings, roles } = resolve(readConfig(`${demoModel}/config.json`), await openCheckpoint(demoModel));
    assert.deepEqual(warnings, []);
    assert.deepEqual(roles.get("layers.3.mlp.up.weight")?.shape, [1024, 256]);
  });
});

describe("roles", () => {
  test("shapes are (out, in)", () => {
    const llama = resolve(
      { ...smallest.llama, num_key_value_heads: 1, head_dim: 6, attention_bias: true, mlp_bias: true },
      makeCheckpoint({
        ...shapes.llama,
        ...Object.fromEntries(
          [0, 1].flatMap((layer) => [
            [`model.layers.${layer}.self_attn.q_proj.weight`, [12, 8]],
            [`model.layers.${layer}.self_attn.k_proj.weight`, [6, 8]],
            [`model.layers.${layer}.self_attn.v_proj.weight`, [6, 8]],
            [`model.layers.${layer}.self_attn.o_proj.weight`, [8, 12]],
            [`model.layers.${layer}.self_attn.q_proj.bias`, [12]],
            [`model.layers.${layer}.self_attn.k_proj.bias`, [6]],
            [`model.layers.${layer}.self_attn.v_proj.bias`, [6]],
            [`model.layers.${layer}.self_attn.o_proj.bias`, [8]],
            [`model.layers.${layer}.mlp.gate_proj.bias`, [12]],
            [`model.layers.${layer}.mlp.up_proj.bias`, [12]],
            [`model.layers.${layer}.mlp.down_proj.bias`, [8]],
          ]),
        ),
      }),
    );
    const found = (role: string) => llama.roles.get(role)?.shape;
    assert.deepEqual(found("embed.tokens.weight"), [11, 8]);
    assert.deepEqual(found("layers.1.attn.q.weight"), [12, 8]);
    assert.deepEqual(found("layers.1.attn.q.bias"), [12]);
    assert.deepEqual(found("layers.1.attn.k.weight"), [6, 8]);
    assert.deepEqual(found("layers.1.attn.v.bias"), [6]);
    assert.deepEqual(found("layers.1.attn.o.weight"), [8, 12]);
    assert.deepEqual(found("layers.1.mlp.gate.bias"), [12]);
    assert.deepEqual(found("layers.1.mlp.down.weight"), [8, 12]);
    assert.deepEqual(found("layers.0.attn.norm.weight"), [8]);
    assert.equal(found("layers.0.attn.norm.bias"), undefined);
    assert.deepEqual(found("norm.weight"), [8]);
    assert.deepEqual(found("head.weight"), [11, 8]);
    assert.equal(llama.roles.get("layers.0.attn.q.weight")?.tensor, "model.layers.0.self_attn.q_proj.weight");
  });

  test("OPT with projections: in before the layers, out before the head", async () => {
    const folder = fixture("golden", "opt_350m");
    const { roles } = resolve(readConfig(`${folder}/config.json`), await openCheckpoint(folder));
    assert.deepEqual(roles.get("embed.tokens.weight")?.shape, [131, 20]);
    assert.deepEqual(roles.get("embed.positions.weight")?.shape, [50, 48]);
    assert.deepEqual(roles.get("embed.projection.weight")?.shape, [48, 20]);
    assert.deepEqual(roles.get("head.projection.weight")?.shape, [20, 48]);
    assert.ok(!roles.has("norm.weight") && !roles.has("head.weight") && !roles.has("embed.projection.bias"));
  });

  test("OPT without biases, without norm weights, without the final norm", async () => {
    const rolesOf = async (name: string) => {
      const folder = fixture("golden", name);
      return [...resolve(readConfig(`${folder}/config.json`), await openCheckpoint(folder)).roles.keys()];
    };
    const noBias = await rolesOf("opt_no_bias");
    assert.ok(
      noBias.includes("layers.0.mlp.norm.bias") &&
        !noBias.some((role) => /(attn\.[qkvo]|mlp\.\w+)\.bias/.test(role) && !role.includes("norm")),
    );
    assert.ok(!(await rolesOf("opt_no_affine")).some((role) => role.includes("norm")));
    const noFinal = await rolesOf("opt_no_final_norm");
    assert.ok(!noFinal.includes("norm.weight") && noFinal.includes("layers.1.mlp.norm.weight"));
  });
});

describe("views", () => {
  test("GPT-2's fused [in, out] matrix yields q, k, v and their biases, value by value", async () => {
    const folder = fixture("golden", "gpt2_fp32");
    const file = `${folder}/model.safetensors`;
    const config = readConfig(`${folder}/config.json`);
    const { roles } = resolve(config, await openCheckpoint(folder));
    const tensors = readFloatTensors(file);
    const weight = tensors.get("transformer.h.0.attn.c_attn.weight");
    const bias = tensors.get("transformer.h.0.attn.c_attn.bias");
    const up = tensors.get("transformer.h.0.mlp.c_fc.weight");
    assert.ok(weight && bias && up);
    const width = 48;
    for (const [part, name] of ["q", "k", "v"].entries()) {
      const view = roles.get(`layers.0.attn.${name}.weight`);
      const offsets = roles.get(`layers.0.attn.${name}.bias`);
      assert.ok(view && offsets);
      assert.deepEqual([view.shape, offsets.shape], [[width, width], [width]]);
      const expected: (number | undefined)[] = Array.from({ length: width * width }, (_, i) => {
        const [out, input] = [Math.floor(i / width), i % width];
        return weight.data[input * 3 * width + part * width + out];
      });
      assert.deepEqual(readView(file, view), expected);
      assert.deepEqual(readView(file, offsets), [...bias.data.subarray(part * width, (part + 1) * width)]);
    }
    const view = roles.get("layers.0.mlp.up.weight");
    assert.ok(view);
    assert.deepEqual(view.shape, [4 * width, width]);
    assert.equal(readView(file, view)[5 * width + 7], up.data[7 * 4 * width + 5]);
  });

  test("a Llama matrix is read as it lies, in fp16 and bf16", async () => {
    for (const name of ["llama_mha", "llama_bf16"]) {
      const folder = fixture("golden", name);
      const { roles } = resolve(readConfig(`${folder}/config.json`), await openCheckpoint(folder));
      const view = roles.get("norm.weight");
      assert.ok(view);
      const values = readView(`${folder}/model.safetensors`, view);
      assert.ok(
        values.every((value) => Math.abs(value - 1) < 0.6),
        `${name}: norm weights are close to 1`,
      );
      assert.ok(new Set(values).size > 10);
    }
  });

  test("steps compose with the strides and the offset that a tensor has in its file", () => {
    const name = "transformer.h.1.attn.c_attn.weight";
    const checkpoint = makeCheckpoint(shapes.gpt2);
    const entry = checkpoint.tensors.get(name);
    assert.ok(entry);
    // Stored column by column, in a storage of its own offset: (8, 24) with strides (1, 8).
    checkpoint.tensors.set(name, { ...entry, strides: [1, 8], byteOffset: 1000 });
    const view = resolve(smallest.gpt2, checkpoint).roles.get("layers.1.attn.k.weight");
    assert.deepEqual([view?.shape, view?.strides, view?.byteOffset], [[8, 8], [8, 1], 1000 + 2 * 8 * 8]);
  });

  test("offsets count bytes of the tensor's own type", () => {
    const of = (dtype: StorageDtype) => {
      const checkpoint = makeCheckpoint(shapes.gpt2, dtype);
      const start = checkpoint.tensors.get("transformer.h.0.attn.c_attn.bias")?.byteOffset ?? Number.NaN;
      return (resolve(smallest.gpt2, checkpoint).roles.get("layers.0.attn.v.bias")?.byteOffset ?? 0) - start;
    };
    assert.deepEqual([of("float32"), of("float16"), of("bfloat16")], [64, 32, 32]);
  });
});

describe("tied heads", () => {
  const tied = { ...smallest.llama, tie_word_embeddings: true };
  const { "lm_head.weight": _, ...headless } = shapes.llama;

  test("no head in the checkpoint", () => {
    const { roles, spec, warnings } = resolve(tied, makeCheckpoint(headless));
    assert.ok(!roles.has("head.weight"));
    assert.equal(isTied(spec), true);
    assert.deepEqual(warnings, []);
  });

  test("the head is the embedding's bytes, as pickles keep it", () => {
    const checkpoint = makeCheckpoint(headless);
    const embedding = checkpoint.tensors.get("model.embed_tokens.weight");
    assert.ok(embedding);
    checkpoint.tensors.set("lm_head.weight", { ...embedding, name: "lm_head.weight" });
    const { roles, spec, warnings } = resolve(tied, checkpoint);
    assert.ok(!roles.has("head.weight"));
    assert.equal(isTied(spec), true);
    assert.deepEqual(warnings, []);
  });

  test("a head of its own is used and named, as in transformers 5", () => {
    const { roles, spec, warnings } = resolve(tied, makeCheckpoint(shapes.llama));
    assert.equal(roles.get("head.weight")?.tensor, "lm_head.weight");
    assert.equal(isTied(spec), false);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] as string, /ties the head.*lm_head\.weight of its own/);
  });

  test("only the head is there: it is the embedding", () => {
    const checkpoint = rename(makeCheckpoint(shapes.llama), (name) =>
      name.includes("embed_tokens") ? undefined : name,
    );
    const { roles, spec, warnings } = resolve(tied, checkpoint);
    assert.equal(roles.get("embed.tokens.weight")?.tensor, "lm_head.weight");
    assert.ok(!roles.has("head.weight"));
    assert.equal(isTied(spec), true);
    assert.deepEqual(warnings, []);
  });

  test("the description is left as it was", () => {
    const description = describeModel(tied);
    resolveWeights(description, makeCheckpoint(shapes.llama));
    assert.equal(isTied(description.spec), true);
  });
});

test("the stored dtype is that of most bytes", () => {
  const checkpoint = makeCheckpoint(shapes.opt, "bfloat16");
  for (const entry of [...checkpoint.tensors.values()].filter(({ shape }) => shape.length === 1)) {
    checkpoint.tensors.set(entry.name, { ...entry, dtype: "float32" });
  }
  const { storedDtype, roles } = resolve(smallest.opt, checkpoint);
  assert.equal(storedDtype, "bfloat16");
  assert.equal(roles.get("norm.bias")?.dtype, "float32");
});
