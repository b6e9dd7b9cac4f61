import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeModel } from "../../dist/models/index.js";
import { alibiSlopes } from "../../dist/models/parts/alibi.js";
import { hasCode } from "../support/fixtures.js";
import { type Config, collectWarnings, smallest, traitsOf } from "./helpers.js";

describe("slopes of ALiBi", () => {
  // transformers 5.24, build_alibi_tensor, in fp32.
  const expected: Record<number, number[]> = {
    1: [2 ** -8],
    2: [2 ** -4, 2 ** -8],
    4: [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8],
    3: [2 ** -4, 2 ** -8, 2 ** -2],
    6: [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3],
    12: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => 2 ** -n).concat([0.5, 1.5, 2.5, 3.5].map((n) => 2 ** -n)),
  };
  for (const [heads, slopes] of Object.entries(expected)) {
    test(`${heads} heads`, () => {
      const found = alibiSlopes(Number(heads));
      assert.equal(found.length, slopes.length);
      for (const [i, slope] of slopes.entries())
        assert.ok(Math.abs((found[i] as number) / slope - 1) < 1e-6, `head ${i}: ${found[i]}, expected ${slope}`);
    });
  }
});

describe("BLOOM", () => {
  const bloom = (config: Config = {}) => describeModel({ ...smallest.bloom, ...config });

  test("the longest sequence is what the model was trained with", () => {
    assert.equal(bloom().spec.maxPositions, 2048);
    assert.equal(bloom({ seq_length: 512 }).spec.maxPositions, 512);
    assert.equal(bloom({ seq_length: null }).spec.maxPositions, 2048);
  });

  test("the config of bloom-560m as it was published", () => {
    const { warnings, logger } = collectWarnings();
    const { spec } = describeModel(
      {
        apply_residual_connection_post_layernorm: false,
        attention_dropout: 0.0,
        attention_softmax_in_fp32: true,
        bias_dropout_fusion: true,
        bos_token_id: 1,
        eos_token_id: 2,
        hidden_dropout: 0.0,
        initializer_range: 0.02,
        layer_norm_epsilon: 1e-5,
        masked_softmax_fusion: true,
        model_type: "bloom",
        n_embed: 1024,
        n_inner: null,
        n_layer: 24,
        num_attention_heads: 16,
        offset_alibi: 100,
        pad_token_id: 3,
        pretraining_tp: 1,
        seq_length: 2048,
        skip_bias_add: true,
        skip_bias_add_qkv: false,
        transformers_version: "4.20.0",
        unk_token_id: 0,
        use_cache: true,
        vocab_size: 250880,
      },
      { logger },
    );
    const { heads, headDim, ffnSize, layers, tiedHead } = traitsOf(spec);
    assert.deepEqual([heads, headDim, ffnSize, layers, tiedHead], [16, 64, 4096, 24, true]);
    assert.deepEqual(warnings, []);
  });

  test("a residual behind the norm, and products without their biases, are refused", () => {
    for (const key of ["apply_residual_connection_post_layernorm", "slow_but_exact"])
      assert.throws(() => bloom({ [key]: true }), hasCode("ERR_UNSUPPORTED_MODEL", new RegExp(`${key} = true`)));
    bloom({ slow_but_exact: false, pretraining_tp: 4 });
  });
});

describe("Falcon", () => {
  const falcon = (config: Config = {}) => describeModel({ ...smallest.falcon, ...config });
  const traits = (config: Config) => {
    const { kvHeads, residual, positions } = traitsOf(falcon(config).spec);
    return [kvHeads, residual, positions];
  };

  test("its styles", () => {
    const grouped = { new_decoder_architecture: true };
    assert.deepEqual(traits({}), [1, "shared-norm parallel", "rotary"]);
    assert.deepEqual(traits({ num_kv_heads: 2 }), [1, "shared-norm parallel", "rotary"]);
    assert.deepEqual(traits({ multi_query: false }), [2, "shared-norm parallel", "rotary"]);
    assert.deepEqual(traits({ ...grouped, num_kv_heads: 2 }), [2, "parallel", "rotary"]);
    assert.deepEqual(traits({ ...grouped, num_kv_heads: 1 }), [1, "parallel", "rotary"]);
    assert.deepEqual(traits({ ...grouped, num_ln_in_parallel_attn: 1 }), [2, "shared-norm parallel", "rotary"]);
    const rw = { multi_query: false, parallel_attn: false, alibi: true, bias: true };
    assert.deepEqual(traits(rw), [2, "sequential", "alibi"]);
    assert.deepEqual(falcon(rw).spec.rotaryTables, []);
  });

  test("slopes are rounded to bfloat16 and scaled with the scores, as in the reference", () => {
    const { spec } = falcon({ alibi: true, hidden_size: 24, num_attention_heads: 12, multi_query: false });
    const { slopes } = traitsOf(spec);
    // Of the ninth of twelve heads: 2^-0.5 in the 8 bits of bfloat16, twice, and heads of two elements.
    assert.equal((slopes as number[])[8], 2 * (181 / 256) * 2 ** -0.5);
  });

  const refused: [config: Config, key: RegExp][] = [
    [{ new_decoder_architecture: true, parallel_attn: false }, /parallel_attn = false/],
    [{ num_ln_in_parallel_attn: 2 }, /num_ln_in_parallel_attn = 2/],
    [{ num_ln_in_parallel_attn: 3 }, /num_ln_in_parallel_attn = 3/],
    [{ multi_query: false, num_kv_heads: 1 }, /num_kv_heads = 1, expected the number of attention heads, 2/],
    [
      { new_decoder_architecture: true, num_attention_heads: 4, num_kv_heads: 3 },
      /num_kv_heads = 3, expected a divisor/,
    ],
    [{ hidden_size: 6 }, /heads of even width/],
    [{ apply_residual_connection_post_layernorm: true }, /apply_residual_connection_post_layernorm/],
    [{ activation: "telepathy" }, /activation/],
    [{ alibi: "yes" }, /alibi/],
  ];
  for (const [config, key] of refused) {
    test(JSON.stringify(config), () => assert.throws(() => falcon(config), hasCode("ERR_UNSUPPORTED_MODEL", key)));
  }
});
