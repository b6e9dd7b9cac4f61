import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeModel } from "../../dist/models/index.js";
import type { RotarySpec } from "../../dist/native/spec.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";
import { type Config, collectWarnings, smallest, traitsOf } from "./helpers.js";

interface Row {
  config: Config;
  inverseFrequencies: number[];
  amplitude: number;
  /** Dynamic only: frequencies at sequences of these lengths. */
  lengths?: Record<string, number[]>;
}

function assertClose(found: readonly number[], expected: readonly number[]): void {
  assert.equal(found.length, expected.length);
  for (const [i, value] of expected.entries()) {
    const error = Math.abs((found[i] as number) - value) / value;
    // Two steps of fp32: pow() is not the same to the last bit in every library.
    assert.ok(error <= 2.4e-7, `frequency ${i} is ${found[i]}, expected ${value}`);
  }
}

function rotaryOf(rope: Config) {
  const [rotary] = describeModel({ ...smallest.llama, ...rope }).spec.rotaryTables;
  assert.ok(rotary);
  return rotary;
}

describe("rotary frequencies equal those of transformers", () => {
  for (const { config, inverseFrequencies, amplitude, lengths } of readJson<Row[]>(fixture("models", "rope.json"))) {
    const { rope_scaling, rope_parameters, rope_theta, head_dim } = config;
    test(JSON.stringify({ rope_scaling, rope_parameters, rope_theta, head_dim }), () => {
      const { positions, rotary, headDim } = traitsOf(describeModel(config).spec);
      assert.equal(positions, "rotary");
      assert.ok(rotary);
      assertClose(rotary.inverseFrequencies, inverseFrequencies);
      assert.ok(Math.abs(rotary.amplitude - amplitude) <= 1e-12 * amplitude);
      assert.equal(rotary.dynamic !== undefined, lengths !== undefined);
      for (const [length, expected] of Object.entries(lengths ?? {})) {
        const dynamic: RotarySpec["dynamic"] = rotary.dynamic;
        assert.ok(dynamic);
        assert.equal(dynamic.originalPositions, config.max_position_embeddings);
        const stretch = (dynamic.factor * Number(length)) / dynamic.originalPositions - (dynamic.factor - 1);
        const grown = dynamic.base * stretch ** (headDim / (headDim - 2));
        const found = expected.map((_, i) => grown ** ((-2 * i) / headDim));
        // The reference computes this base in fp32.
        for (const [i, value] of expected.entries()) assert.ok(Math.abs((found[i] as number) / value - 1) < 1e-5);
      }
    });
  }
});

describe("longest sequence", () => {
  const positions = (rope: Config) => describeModel({ ...smallest.llama, head_dim: 16, ...rope }).spec.maxPositions;

  test("unscaled and llama3: what config.json says", () => {
    assert.equal(positions({ max_position_embeddings: 77 }), 77);
    const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
    assert.equal(positions({ max_position_embeddings: 77, rope_parameters: llama3 }), 77);
  });

  test("linear: stretched by the factor", () => {
    assert.equal(positions({ max_position_embeddings: 100, rope_scaling: { type: "linear", factor: 2.5 } }), 250);
  });

  test("yarn: stretched from the original length, or what config.json says where that is more", () => {
    const rope = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };
    assert.equal(positions({ max_position_embeddings: 32, rope_parameters: rope }), 128);
    assert.equal(positions({ max_position_embeddings: 160, rope_parameters: rope }), 160);
  });

  test("dynamic: far past the original length", () => {
    assert.equal(positions({ max_position_embeddings: 32, rope_scaling: { type: "dynamic", factor: 2 } }), 256);
    assert.equal(positions({ max_position_embeddings: 32, rope_scaling: { type: "dynamic", factor: 20 } }), 640);
  });
});

describe("rope settings that do not fit", () => {
  const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 8 };
  const llama3 = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8,
  };
  const cases: [string, Config, RegExp][] = [
    ["longrope without factors", { rope_scaling: { type: "longrope", factor: 2 } }, /no rope_scaling\.long_factor/],
    ["su", { rope_scaling: { type: "su" } }, /rope_scaling\.type = "su"/],
    ["proportional", { rope_parameters: { rope_type: "proportional" } }, /rope_parameters\.rope_type = "proportional"/],
    ["a name of Object", { rope_scaling: { type: "constructor" } }, /rope_scaling\.type = "constructor"/],
    ["no string", { rope_scaling: { type: 3 } }, /rope_scaling\.type = 3, expected a string/],
    ["null", { rope_scaling: { rope_type: null } }, /rope_scaling\.rope_type = null/],
    ["no object", { rope_scaling: "linear" }, /rope_scaling = "linear" \(string\), expected an object/],
    ["an array", { rope_parameters: [1] }, /rope_parameters = \[1\] \(array\), expected an object/],
    ["no factor", { rope_scaling: { type: "linear" } }, /no rope_scaling\.factor, expected a number above 0/],
    ["factor 0", { rope_scaling: { type: "linear", factor: 0 } }, /rope_scaling\.factor = 0/],
    ["factor as text", { rope_scaling: { type: "dynamic", factor: "2" } }, /rope_scaling\.factor = "2" \(string\)/],
    ["factor NaN", { rope_scaling: { type: "dynamic", factor: Number.NaN } }, /rope_scaling\.factor = NaN/],
    ["factor infinite", { rope_scaling: { type: "dynamic", factor: Number.POSITIVE_INFINITY } }, /= Infinity/],
    ["theta 0", { rope_theta: 0 }, /rope_theta = 0, expected a number above 0/],
    ["theta negative", { rope_parameters: { rope_theta: -1 } }, /rope_parameters\.rope_theta = -1/],
    ["theta as text", { rope_theta: "10000" }, /rope_theta = "10000" \(string\)/],
    ["theta null", { rope_theta: null }, /rope_theta = null/],
    ["yarn without factor", { rope_scaling: { ...yarn, factor: undefined } }, /rope_scaling\.factor/],
    ["yarn base 1", { rope_scaling: { ...yarn, rope_theta: 1 } }, /rope_theta = 1, expected a base above 1/],
    ["yarn original 0", { rope_scaling: { ...yarn, original_max_position_embeddings: 0 } }, /embeddings = 0/],
    ["yarn attention", { rope_scaling: { ...yarn, attention_factor: -1 } }, /attention_factor = -1/],
    ["yarn truncate", { rope_scaling: { ...yarn, truncate: "no" } }, /truncate = "no" \(string\), expected true or/],
    ["yarn beta", { rope_scaling: { ...yarn, beta_fast: "32" } }, /beta_fast = "32"/],
    ["llama3 without low", { rope_scaling: { ...llama3, low_freq_factor: undefined } }, /low_freq_factor/],
    [
      "llama3 high = low",
      { rope_scaling: { ...llama3, high_freq_factor: 1 } },
      /high_freq_factor = 1, .*above low_freq/,
    ],
    [
      "llama3 original",
      { rope_scaling: { ...llama3, original_max_position_embeddings: 8.5 } },
      /= 8\.5, expected an int/,
    ],
    [
      "for each kind of layer",
      { rope_parameters: { full_attention: { rope_theta: 1e4 } } },
      /rope_parameters\.full_attention/,
    ],
    [
      "partial and scaled",
      { partial_rotary_factor: 0.5, rope_scaling: { type: "linear", factor: 2 } },
      /partial_rotary/,
    ],
    ["dynamic, heads of 2", { head_dim: 2, rope_scaling: { type: "dynamic", factor: 2 } }, /head_dim - 2/],
  ];
  for (const [name, rope, message] of cases) {
    test(name, () => assert.throws(() => rotaryOf(rope), hasCode("ERR_UNSUPPORTED_MODEL", message)));
  }
});

describe("rope settings that are left aside get a warning", () => {
  const cases: [string, Config, RegExp][] = [
    ["partial_rotary_factor", { partial_rotary_factor: 0.5 }, /partial_rotary_factor = 0\.5 is without effect/],
    ["unknown parameter", { rope_scaling: { type: "linear", factor: 2, finetuned: true } }, /rope_scaling\.finetuned/],
    ["parameter of another type", { rope_parameters: { rope_type: "default", factor: 2 } }, /rope_parameters\.factor/],
    ["two thetas", { rope_theta: 5, rope_parameters: { rope_theta: 7 } }, /rope_theta = 5 gives way to 7/],
    ["two types", { rope_scaling: { rope_type: "default", type: "mrope" } }, /rope_scaling\.type/],
    ["two sections", { rope_scaling: { type: "default" }, rope_parameters: { rope_theta: 7 } }, /rope_parameters/],
  ];
  for (const [name, rope, message] of cases) {
    test(name, () => {
      const { warnings, logger } = collectWarnings();
      describeModel({ ...smallest.llama, ...rope }, { logger });
      assert.equal(warnings.length, 1);
      assert.match(warnings[0] as string, message);
    });
  }
});
