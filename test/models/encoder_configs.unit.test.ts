import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeModel } from "../../dist/models/index.js";
import { hasCode } from "../support/fixtures.js";
import { collectWarnings } from "./helpers.js";

// What configs of encoders say that the golden ones do not.

const common = {
  ...{ hidden_size: 8, num_attention_heads: 2, num_hidden_layers: 4, intermediate_size: 12, vocab_size: 11 },
  max_position_embeddings: 16,
};
/** The second frequency of heads of four elements is the base to the power of -1/2. */
const basesOf = (config: object) => {
  const { warnings, logger } = collectWarnings();
  const { rotaryTables } = describeModel({ ...common, ...config }, { logger }).spec;
  assert.deepEqual(warnings, []);
  return rotaryTables.map(({ inverseFrequencies: [, second = 0] }) => Math.round(second ** -2));
};
const refuses = (config: object, message: RegExp) =>
  assert.throws(() => describeModel({ ...common, ...config }), hasCode("ERR_UNSUPPORTED_MODEL", message));

describe("rotary bases", () => {
  const nomic = { model_type: "nomic_bert" };
  const modern = { model_type: "modernbert" };

  test("Nomic BERT has 1000, or rope_theta outside or inside the rope parameters", () => {
    assert.deepEqual(basesOf(nomic), [1000]);
    assert.deepEqual(basesOf({ ...nomic, rope_theta: 77 }), [77]);
    assert.deepEqual(basesOf({ ...nomic, rope_parameters: { rope_type: "default", rope_theta: 55 } }), [55]);
    assert.deepEqual(basesOf({ ...nomic, rope_theta: 77, rope_scaling: { rope_type: "default" } }), [77]);
    refuses({ ...nomic, rope_scaling: { rope_type: "linear", factor: 2 } }, /rope_scaling\.rope_type = "linear"/);
  });

  test("ModernBERT has one of layers that see all and one of the others, in the form of transformers 4 or 5", () => {
    assert.deepEqual(basesOf(modern), [160_000, 10_000]);
    assert.deepEqual(basesOf({ ...modern, global_rope_theta: 55, local_rope_theta: 77 }), [55, 77]);
    const sections = { full_attention: { rope_theta: 33 }, sliding_attention: { rope_type: "default" } };
    assert.deepEqual(basesOf({ ...modern, rope_parameters: sections }), [33, 10_000]);
    refuses({ ...modern, rope_scaling: { rope_type: "default" } }, /rope_scaling/);
    refuses({ ...modern, local_rope_theta: null }, /local_rope_theta = null/);
    const yarn = { sliding_attention: { rope_type: "yarn", factor: 2 } };
    refuses({ ...modern, rope_parameters: yarn }, /rope_parameters\.sliding_attention\.rope_type = "yarn"/);
  });
});

test("ModernBERT's layers see all or a band, by layer_types or each third", () => {
  const masksOf = (config: object) => {
    const { kinds, layers } = describeModel({ ...common, model_type: "modernbert", ...config }).spec;
    return layers.map((kind) => kinds[kind]?.attention.mask.kind).join(" ");
  };
  assert.equal(masksOf({}), "full band band full");
  assert.equal(masksOf({ global_attn_every_n_layers: 2 }), "full band full band");
  const [all, some] = ["full_attention", "sliding_attention"];
  assert.equal(masksOf({ layer_types: [some, all, all, some] }), "band full full band");
  refuses({ model_type: "modernbert", layer_types: [some, all] }, /layer_types/);
  refuses({ model_type: "modernbert", layer_types: [some, all, all, "chunked_attention"] }, /layer_types/);
});

test("ModernBERT's local_attention is the width of the band on both sides", () => {
  const modern = { model_type: "modernbert", local_attention: 5 };
  assert.deepEqual(describeModel({ ...common, ...modern }).spec.kinds[1]?.attention.mask, { kind: "band", size: 2 });
  refuses({ ...modern, local_attention: 1 }, /local_attention = 1/);
});

test("MPNet's buckets are as many as leave steps up to the largest distance", () => {
  const mpnet = { ...common, model_type: "mpnet" };
  for (const buckets of [4, 32, 511]) {
    const [kind] = describeModel({ ...mpnet, relative_attention_num_buckets: buckets }).spec.kinds;
    const positions = kind?.attention.positions;
    assert.ok(positions?.kind === "buckets");
    assert.ok(positions.bucketOf.every((bucket) => bucket >= 0 && bucket < buckets));
  }
  refuses({ ...mpnet, relative_attention_num_buckets: 512 }, /relative_attention_num_buckets = 512/);
});

test("id2label is used where it says how many classes there are, and ignored elsewhere", () => {
  const keysOf = (name: string) =>
    describeModel({ ...common, model_type: "bert", architectures: [name], id2label: { 0: "a", 1: "b", 2: "c" } }).keys;
  assert.ok(keysOf("BertForSequenceClassification").used.includes("id2label"));
  assert.ok(keysOf("BertForTokenClassification").used.includes("id2label"));
  assert.ok(keysOf("BertForMaskedLM").ignored.includes("id2label"));
});
