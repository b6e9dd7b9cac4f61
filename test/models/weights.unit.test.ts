import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import type { Checkpoint, StorageDtype } from "../../dist/checkpoint/types.js";
import { describeModel, resolveWeights, type WeightView } from "../../dist/models/index.js";
import { demoModel, fixture, hasCode, readFloatTensors } from "../support/fixtures.js";
import {
  type Config,
  collectWarnings,
  goldens,
  isTied,
  makeCheckpoint,
  readConfig,
  readView,
  rename,
  smallest,
} from "./helpers.js";

/** Names and shapes as the checkpoints of transformers have them, written down here apart from the descriptors. */
const shapes: Record<keyof typeof smallest, Record<string, number[]>> = {
  opt: {
    "model.decoder.embed_tokens.weight": [11, 8],
    "model.decoder.embed_positions.weight": [2050, 8],
    ...optLayer(0),
    ...optLayer(1),
    "model.decoder.final_layer_norm.weight": [8],
    "model.decoder.final_layer_norm.bias": [8],
  },
  gpt2: {
    "transformer.wte.weight": [11, 8],
    "transformer.wpe.weight": [16, 8],
    ...gpt2Layer(0),
    ...gpt2Layer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
  llama: {
    "model.embed_tokens.weight": [11, 8],
    ...llamaLayer(0),
    ...llamaLayer(1),
    "model.norm.weight": [8],
    "lm_head.weight": [11, 8],
  },
  bloom: {
    "transformer.word_embeddings.weight": [11, 8],
    "transformer.word_embeddings_layernorm.weight": [8],
    "transformer.word_embeddings_layernorm.bias": [8],
    ...bloomLayer(0),
    ...bloomLayer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
  falcon: {
    "transformer.word_embeddings.weight": [11, 8],
    ...falconLayer(0),
    ...falconLayer(1),
    "transformer.ln_f.weight": [8],
    "transformer.ln_f.bias": [8],
  },
};

function underLayer(start: string, parts: Record<string, number[]>): Record<string, number[]> {
  return Object.fromEntries(Object.entries(parts).map(([name, shape]) => [start + name, shape]));
}

function optLayer(layer: number): Record<string, number[]> {
  return underLayer(`model.decoder.layers.${layer}.`, {
    "self_attn.q_proj.weight": [8, 8],
    "self_attn.q_proj.bias": [8],
    "self_attn.k_proj.weight": [8, 8],
    "self_attn.k_proj.bias": [8],
    "self_attn.v_proj.weight": [8, 8],
    "self_attn.v_proj.bias": [8],
    "self_attn.out_proj.weight": [8, 8],
    "self_attn.out_proj.bias": [8],
    "self_attn_layer_norm.weight": [8],
    "self_attn_layer_norm.bias": [8],
    "fc1.weight": [12, 8],
    "fc1.bias": [12],
    "fc2.weight": [8, 12],
    "fc2.bias": [8],
    "final_layer_norm.weight": [8],
    "final_layer_norm.bias": [8],
  });
}

function gpt2Layer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "ln_1.weight": [8],
    "ln_1.bias": [8],
    "attn.c_attn.weight": [8, 24],
    "attn.c_attn.bias": [24],
    "attn.c_proj.weight": [8, 8],
    "attn.c_proj.bias": [8],
    "ln_2.weight": [8],
    "ln_2.bias": [8],
    "mlp.c_fc.weight": [8, 32],
    "mlp.c_fc.bias": [32],
    "mlp.c_proj.weight": [32, 8],
    "mlp.c_proj.bias": [8],
  });
}

function llamaLayer(layer: number): Record<string, number[]> {
  return underLayer(`model.layers.${layer}.`, {
    "input_layernorm.weight": [8],
    "self_attn.q_proj.weight": [8, 8],
    "self_attn.k_proj.weight": [8, 8],
    "self_attn.v_proj.weight": [8, 8],
    "self_attn.o_proj.weight": [8, 8],
    "post_attention_layernorm.weight": [8],
    "mlp.gate_proj.weight": [12, 8],
    "mlp.up_proj.weight": [12, 8],
    "mlp.down_proj.weight": [8, 12],
  });
}

function bloomLayer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "input_layernorm.weight": [8],
    "input_layernorm.bias": [8],
    "self_attention.query_key_value.weight": [24, 8],
    "self_attention.query_key_value.bias": [24],
    "self_attention.dense.weight": [8, 8],
    "self_attention.dense.bias": [8],
    "post_attention_layernorm.weight": [8],
    "post_attention_layernorm.bias": [8],
    "mlp.dense_h_to_4h.weight": [32, 8],
    "mlp.dense_h_to_4h.bias": [32],
    "mlp.dense_4h_to_h.weight": [8, 32],
    "mlp.dense_4h_to_h.bias": [8],
  });
}

function falconLayer(layer: number): Record<string, number[]> {
  return underLayer(`transformer.h.${layer}.`, {
    "input_layernorm.weight": [8],
    "input_layernorm.bias": [8],
    "self_attention.query_key_value.weight": [16, 8],
    "self_attention.dense.weight": [8, 8],
    "mlp.dense_h_to_4h.weight": [32, 8],
    "mlp.dense_4h_to_h.weight": [8, 32],
  });
}

function resolve(config: Config, checkpoint: Checkpoint) {
  const { warnings, logger } = collectWarnings();
  const resolved = resolveWeights(describeModel(config), checkpoint, { logger });
  return { ...resolved, warnings, roles: new Map(resolved.weights.map((view) => [view.role, view])) };
}

/** The roles with nothing of the names: what must be the same whatever the names are. */
function places(weights: readonly WeightView[]): Omit<WeightView, "tensor">[] {
  return weights.map(({ tensor: _, ...place }) => place);
}

/** The same tensors, one of them changed. */
function changed(family: keyof typeof smallest, name: string, change: { shape?: number[]; dtype?: StorageDtype }) {
  const checkpoint = makeCheckpoint(shapes[family]);
  const entry = checkpoint.tensors.get(name);
  assert.ok(entry);
  checkpoint.tensors.set(name, { ...entry, ...change });
  return checkpoint;
}

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

describe("prefixes", () => {
  const canonical = {
    ...{ opt: "model.decoder.", gpt2: "transformer.", llama: "model." },
    ...{ bloom: "transformer.", falcon: "transformer." },
  };
  const variants: [keyof typeof smallest, string][] = [
    ["opt", "decoder."],
    ["opt", ""],
    ["opt", "model.model.decoder."],
    ["opt", "module.model.decoder."],
    ["opt", "module.decoder."],
    ["gpt2", ""],
    ["gpt2", "module.transformer."],
    ["gpt2", "_orig_mod.transformer."],
    ["gpt2", "module."],
    ["llama", ""],
    ["llama", "model.model."],
    ["llama", "module.module.model."],
    ["llama", "_orig_mod.model."],
    ["bloom", ""],
    ["falcon", "module.transformer."],
  ];
  for (const [family, prefix] of variants) {
    test(`${family} behind ${JSON.stringify(prefix)}`, () => {
      const usual = makeCheckpoint(shapes[family]);
      const renamed = rename(usual, (name) =>
        name.startsWith(canonical[family]) ? prefix + name.slice(canonical[family].length) : name,
      );
      const found = resolve(smallest[family], renamed);
      assert.deepEqual(places(found.weights), places(resolve(smallest[family], usual).weights));
      assert.deepEqual(found.warnings, []);
    });
  }

  test("the head stands behind the wrapper alone", () => {
    const usual = makeCheckpoint(shapes.llama);
    const found = resolve(
      smallest.llama,
      rename(usual, (name) => `module.${name}`),
    );
    assert.equal(found.roles.get("head.weight")?.tensor, "module.lm_head.weight");
    assert.deepEqual(found.warnings, []);
  });

  test("a prefix that no wrapper makes is named", () => {
    const foreign = rename(makeCheckpoint(shapes.llama), (name) => `language_model.${name}`);
    assert.throws(
      () => resolve(smallest.llama, foreign),
      hasCode("ERR_CHECKPOINT", /stand behind "language_model\.model\.", expected one of "model\.", ""/),
    );
  });

  test("it is one prefix for all: tensors under another one are missing", () => {
    const mixed = rename(makeCheckpoint(shapes.opt), (name) =>
      name.includes("layers.1.fc1") ? name.replace("model.", "") : name,
    );
    assert.throws(
      () => resolve(smallest.opt, mixed),
      hasCode(
        "ERR_CHECKPOINT",
        /lacks 2 tensors.*model\.decoder\.layers\.1\.fc1\.weight, model\.decoder\.layers\.1\.fc1\.bias/,
      ),
    );
  });

  test("two models in one checkpoint are refused, a whole one beside a part of one is found", () => {
    const usual = makeCheckpoint(shapes.gpt2);
    const twice = {
      ...usual,
      tensors: new Map([...usual.tensors, ...rename(usual, (name) => `module.${name}`).tensors]),
    };
    assert.throws(
      () => resolve(smallest.gpt2, twice),
      hasCode("ERR_CHECKPOINT", /more than one model: .*"transformer\." and "module\.transformer\."/),
    );
    const part = rename(usual, (name) => (name.includes("h.1.") ? undefined : `module.${name}`));
    const both = resolve(smallest.gpt2, { ...usual, tensors: new Map([...part.tensors, ...usual.tensors]) });
    assert.equal(both.roles.get("norm.weight")?.tensor, "transformer.ln_f.weight");
    assert.equal(both.warnings.length, 1);
  });
});

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
