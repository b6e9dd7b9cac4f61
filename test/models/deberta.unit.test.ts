import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeModel } from "../../dist/models/index.js";
import { relativeRows } from "../../dist/models/parts/relative_positions.js";
import { hasCode } from "../support/fixtures.js";

// Rows of distances as transformers' make_log_bucket_position has them, and what config.json says of them.

/** As DeBERTa-v3's configs are written. */
const v3 = {
  ...{ model_type: "deberta-v2", architectures: ["DebertaV2ForSequenceClassification"], hidden_act: "gelu" },
  ...{ hidden_size: 64, num_attention_heads: 4, num_hidden_layers: 2, intermediate_size: 96, vocab_size: 100 },
  ...{ max_position_embeddings: 40, max_relative_positions: -1, position_buckets: 8, type_vocab_size: 0 },
  ...{ relative_attention: true, share_att_key: true, pos_att_type: "p2c|c2p", norm_rel_ebd: "layer_norm" },
  ...{ position_biased_input: false, layer_norm_eps: 1e-7, pooler_hidden_size: 64, pooler_hidden_act: "gelu" },
};
const specOf = (changes: object) => describeModel({ ...v3, ...changes }).spec;

describe("rows of distances", () => {
  const rows = (buckets: number | undefined, maxDistance: number, first: number, last: number) => {
    const { rowOf } = relativeRows({ buckets, maxDistance }, 60);
    const reach = (rowOf.length - 1) / 2;
    return rowOf.slice(first + reach, last + reach + 1).join(" ");
  };

  test("in logarithmic steps", () => {
    assert.equal(rows(16, 128, 0, 24), "16 15 14 13 12 11 10 9 8 7 7 7 6 6 6 6 6 6 5 5 5 5 5 5 5");
    assert.equal(rows(16, 128, -16, -1), "26 26 26 26 26 25 25 25 24 23 22 21 20 19 18 17");
    assert.equal(rows(8, 16, -12, 12), "15 15 15 14 14 14 13 13 12 11 10 9 8 7 6 5 4 3 3 2 2 2 1 1 1");
    assert.equal(rows(8, 16, 13, 18), "1 1 1 0 0 0");
  });

  test("one a distance, where there are no buckets", () => {
    assert.equal(rows(undefined, 3, -3, 3), "5 5 4 3 2 1 0");
    assert.equal(relativeRows({ buckets: undefined, maxDistance: 30 }, 20).rowOf.length, 41);
  });
});

describe("configs of DeBERTa", () => {
  test("types of products are a list or a text", () => {
    assert.deepEqual(specOf({ pos_att_type: ["c2p", "p2c"] }), specOf({}));
    const [kind] = specOf({ pos_att_type: "c2p" }).kinds;
    assert.deepEqual(kind?.attention.positions, { kind: "relative", queries: true, keys: false });
    assert.equal(kind?.attention.scale, Math.fround(32 ** -0.5));
    assert.throws(() => specOf({ pos_att_type: ["p2p"] }), hasCode("ERR_UNSUPPORTED_MODEL", /pos_att_type/));
  });

  test("rows of distances may have matrices of their own", () => {
    const spec = specOf({ share_att_key: false, pos_att_type: "c2p" });
    const positions = { kind: "relative", queries: true, keys: false, separate: true };
    assert.deepEqual(spec.kinds[0]?.attention.positions, positions);
    assert.deepEqual(specOf({ share_att_key: undefined, pos_att_type: "c2p" }), spec);
  });

  test("what is absent is as transformers has it", () => {
    const { embedding, kinds, relativeTable } = describeModel({ model_type: "deberta-v2" }).spec;
    assert.equal(relativeTable, undefined);
    assert.deepEqual(embedding.positions, { kind: "learned", offset: 0 });
    assert.deepEqual(kinds[0]?.attention.positions, { kind: "none" });
    assert.equal(kinds[0]?.norms.norm.epsilon, 1e-7);
    // Types count for the scale although nothing is added.
    const still = specOf({ relative_attention: false, share_att_key: false });
    assert.equal(still.kinds[0]?.attention.scale, Math.fround(48 ** -0.5));
    assert.equal(specOf({ norm_rel_ebd: undefined }).relativeTable?.norm, undefined);
    assert.deepEqual(specOf({}).relativeTable?.norm, { kind: "layer", epsilon: 1e-7 });
    assert.equal(specOf({ position_buckets: -1 }).relativeTable?.rows, 80);
  });

  test("what is not computed is refused by name", () => {
    const refused: [key: string, value: unknown][] = [
      ["conv_kernel_size", 3],
      ["embedding_size", 32],
      ["pooler_hidden_size", 32],
      ["attention_head_size", 8],
      ["position_buckets", 1],
      ["position_buckets", 80],
      ["position_buckets", 1.5],
      ["max_relative_positions", 1e6],
      ["max_position_embeddings", 1e6],
      ["pos_att_type", 3],
    ];
    for (const [key, value] of refused)
      assert.throws(() => specOf({ [key]: value }), hasCode("ERR_UNSUPPORTED_MODEL", new RegExp(`\\b${key}\\b`)), key);
  });

  test("the newer head of masked language models is the embedding", () => {
    const masked = { architectures: ["DebertaV2ForMaskedLM"], tie_word_embeddings: false };
    assert.equal((specOf({ ...masked, legacy: true }).output as { tied: boolean }).tied, false);
    assert.equal((specOf({ ...masked, legacy: false }).output as { tied: boolean }).tied, true);
  });
});
