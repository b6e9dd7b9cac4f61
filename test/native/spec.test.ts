import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { limits } from "../../dist/models/limits.js";
import {
  type Activation,
  type AttentionMask,
  type AttentionPositions,
  activationKinds,
  type EmbeddingPositions,
  type FeedForwardSpec,
  type LayerSpec,
  type ModelSpec,
  normKinds,
  type OutputSpec,
  pickedRows,
  qkNormSpans,
  residualKinds,
  rotaryLayouts,
  routerScorings,
  weightDtypes,
} from "../../dist/native/spec.js";
import { hasCode } from "../support/fixtures.js";
import {
  ask,
  assertCrosses,
  assertRefused,
  binding,
  changed,
  encoder,
  llama,
  mixture,
  normed,
  planOf,
  qkNorm,
  tabled,
  temperature,
} from "./spec_border.js";

// The border to C++: every value of every union of the spec crosses it, and nothing else does. A union that grows without binding/spec.cpp
// fails here: its table below does not compile, or its value is refused.

describe("every value of every union crosses", () => {
  const layer = "kinds.0";
  const masks: Record<AttentionMask["kind"], AttentionMask> = {
    causal: { kind: "causal" },
    window: { kind: "window", size: 4 },
    chunk: { kind: "chunk", size: 4 },
    full: { kind: "full" },
    band: { kind: "band", size: 4 },
  };
  const positions: Record<AttentionPositions["kind"], AttentionPositions> = {
    none: { kind: "none" },
    rotary: { kind: "rotary", dims: 4, layout: "half", table: 0 },
    alibi: { kind: "alibi", slopes: [0.5, 0.25] },
    buckets: { kind: "buckets", buckets: 3, bucketOf: [2, 0, 1] },
    relative: { kind: "relative", queries: true, keys: false },
  };
  const feedForwards: Record<FeedForwardSpec["kind"], FeedForwardSpec> = {
    dense: { kind: "dense", size: 12, activation: "relu", gated: false },
    experts: mixture,
  };
  const embeddingPositions: Record<EmbeddingPositions["kind"], EmbeddingPositions> = {
    learned: { kind: "learned", offset: 2 },
    sinusoidal: { kind: "sinusoidal", offset: 2 },
  };
  const outputs: Record<OutputSpec["kind"], OutputSpec> = {
    logits: { kind: "logits", tied: true },
    hidden: { kind: "hidden" },
    classes: { kind: "classes", pick: "first", count: 3 },
    "token-classes": { kind: "token-classes", count: 3 },
  };
  const variants: [path: string, table: Record<string, object>][] = [
    [`${layer}.attention.mask`, masks],
    [`${layer}.attention.positions`, positions],
    [`${layer}.feedForward`, feedForwards],
    ["embedding.positions", embeddingPositions],
    ["output", outputs],
  ];
  for (const [path, table] of variants) {
    for (const [kind, value] of Object.entries(table)) {
      test(`${path} ${kind}`, () => {
        assertCrosses(path, value, tabled);
        for (const key of Object.keys(value).filter((name) => name !== "kind"))
          assertRefused(`${path}.${key}`, undefined, /is missing/, changed(tabled, path, value) as ModelSpec);
        assertRefused(`${path}.telepathy`, 1, /no such key/, changed(tabled, path, value) as ModelSpec);
      });
    }
    test(`${path} of no known kind`, () => {
      const base = changed(llama, path, Object.values(table)[0]) as ModelSpec;
      assertRefused(
        `${path}.kind`,
        "telepathy",
        new RegExp(`is "telepathy", expected one of ${Object.keys(table).join(", ")}`),
        base,
      );
      for (const kind of [undefined, null, 3, {}]) assertRefused(`${path}.kind`, kind, /a string/, base);
      for (const value of [3, "causal", [], ...(path === "embedding.positions" ? [] : [undefined, null])])
        assertRefused(path, value, /an object/);
    });
  }

  const names: [path: string, values: readonly string[], base?: ModelSpec][] = [
    [`${layer}.feedForward.activation`, activationKinds satisfies readonly Activation[]],
    [`${layer}.norms.norm.kind`, normKinds],
    [`${layer}.residual`, residualKinds satisfies readonly LayerSpec["residual"][]],
    [`${layer}.attention.positions.layout`, rotaryLayouts],
    [`${layer}.attention.qkNorm.span`, qkNormSpans, normed],
  ];
  const experts = changed(llama, `${layer}.feedForward`, mixture) as ModelSpec;
  names.push([`${layer}.feedForward.router.scoring`, routerScorings, experts]);
  names.push([`${layer}.feedForward.activation`, activationKinds, experts]);
  const shared = changed(llama, `${layer}.feedForward`, { ...mixture, shared: { size: 8 } }) as ModelSpec;
  names.push([`${layer}.feedForward.shared.gate`, ["sigmoid"], shared]);
  for (const [path, values, base] of names) {
    for (const value of values) test(`${path} ${value}`, () => assertCrosses(path, value, base));
    test(`${path} of no known name`, () => {
      assertRefused(path, "telepathy", new RegExp(`is "telepathy", expected one of ${values.join(", ")}`), base);
      assertRefused(path, 3, /a string/, base);
    });
  }

  test("what experts may say", () => {
    const place = `${layer}.feedForward`;
    const values: [path: string, value: unknown][] = [
      ["router.scale", 2.5],
      ["router.correction", true],
      ["router.groups", { count: 2, chosen: 1, best: 2 }],
      ["router.jitter", 0.01],
      ["router.weighsInput", true],
      ["shared", { size: 20 }],
      ["clamped", { limit: 7, alpha: 1.702 }],
    ];
    for (const [path, value] of values) {
      assert.equal(ask(`${place}.${path}`, value, experts), null, path);
      assertRefused(`${place}.${path}`, "telepathy", /expected/, experts);
      const at = path.lastIndexOf(".");
      const unknown = typeof value === "object" ? `${path}.telepathy` : `${path.slice(0, Math.max(at, 0))}.telepathy`;
      assertRefused(`${place}.${unknown}`, 1, /no such key/, changed(experts, `${place}.${path}`, value) as ModelSpec);
    }
    assertRefused(`${place}.count`, 4097, /an integer from 1 to 4096/, experts);
    assertRefused(`${place}.perToken`, 5, /an integer from 1 to 4/, experts);
    const groups = (count: number, chosen: number, best: number) =>
      changed(experts, `${place}.router.groups`, { count, chosen, best }) as ModelSpec;
    assertRefused(`${place}.router.groups.count`, 3, /a divisor of the number of experts, which is 4/, groups(2, 1, 1));
    assertRefused(`${place}.router.groups.chosen`, 1, /an integer from 2 to 4/, groups(4, 2, 1));
    assertRefused(`${place}.router.groups.best`, 3, /an integer from 1 to 2/, groups(2, 1, 1));
    const sparse = changed(experts, `${place}.router.scoring`, "sparsemixer") as ModelSpec;
    assertRefused(`${place}.router.correction`, true, /no correction where the scoring is sparsemixer/, sparse);
    assertRefused(`${place}.router.groups`, { count: 2, chosen: 1, best: 1 }, /no groups where/, sparse);
    const plain = changed(experts, `${place}.gated`, false) as ModelSpec;
    assertRefused(`${place}.clamped`, { limit: 7, alpha: 1 }, /nothing where experts have no gate/, plain);
  });

  test("latent attention", () => {
    const place = `${layer}.attention.latent`;
    const norm = { kind: "rms", epsilon: 1e-6 };
    const latent = { rank: 6, positionDims: 2, valueDim: 3, norm };
    const still = changed(llama, `${layer}.attention.positions`, { kind: "none" }) as ModelSpec;
    assertCrosses(place, latent, still);
    assertCrosses(place, { ...latent, queryRank: 5 }, still);
    const base = changed(still, place, { ...latent, queryRank: 5 }) as ModelSpec;
    for (const key of ["rank", "positionDims", "valueDim", "norm"])
      assertRefused(`${place}.${key}`, undefined, /is missing/, base);
    for (const key of ["rank", "queryRank", "positionDims", "valueDim"])
      for (const value of [0, 1.5, 1e9]) assertRefused(`${place}.${key}`, value, /an integer from 1 to/, base);
    assertRefused(`${place}.positionDims`, 4, /an integer from 1 to 3/, base);
    assertRefused(`${place}.telepathy`, 1, /no such key/, base);
    assertRefused(`${place}.positionDims`, 2, /expected 4, the elements that turn/, {
      ...(changed(llama, place, { ...latent, positionDims: 2 }) as ModelSpec),
    });
    const shared = changed(still, `${layer}.attention.kvHeads`, 1) as ModelSpec;
    assertRefused(place, latent, /nothing where heads share keys and values/, shared);
    const normed = changed(still, `${layer}.attention.qkNorm`, { span: "head", norm }) as ModelSpec;
    assertRefused(place, latent, /nothing where queries and keys have norms/, normed);
  });

  test("devices", () => {
    for (const device of ["", "cpu:0", "cuda", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "telepathy"]) {
      assert.throws(
        () => binding.unsupported({ ...planOf(llama), devices: [device] }),
        hasCode("ERR_NATIVE", new RegExp(`^plan\\.devices\\[0\\] is "${device}", expected "cpu", or "cuda:"`)),
      );
    }
  });

  test("element types", () => {
    for (const dtype of weightDtypes) assert.equal(binding.unsupported({ ...planOf(llama), dtype }), null);
    assert.throws(
      () => binding.unsupported({ ...planOf(llama), dtype: "float8" as "float16" }),
      hasCode("ERR_NATIVE", /plan\.dtype is "float8", expected one of float32, float16, bfloat16/),
    );
  });
});

describe("numbers and flags", () => {
  const sizes: [path: string, most: number][] = [
    ["vocabSize", limits.vocabulary],
    ["hiddenSize", limits.width],
    ["maxPositions", limits.positions],
    ["embedding.width", limits.width],
    ["kinds.0.feedForward.size", limits.ffn],
  ];
  for (const [path, most] of sizes) {
    test(path, () => {
      if (path !== "maxPositions") assertCrosses(path, 1);
      assertCrosses(path, most);
      for (const value of [
        0,
        -1,
        most + 1,
        1.5,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        "8",
        null,
        undefined,
        8n,
        true,
        [8],
      ])
        assertRefused(path, value, /an integer from 1 to/);
    });
  }

  test("heads", () => {
    for (const key of ["heads", "kvHeads", "headDim"])
      for (const value of [0, -2, 1e9, 1.5, "2", undefined])
        assertRefused(`kinds.0.attention.${key}`, value, /expected/);
    assertRefused("kinds.0.attention.kvHeads", 3, /an integer from 1 to 2/);
    assertRefused(
      "kinds.0.attention.kvHeads",
      2,
      /a divisor of heads, which is 3/,
      changed(llama, "kinds.0.attention.heads", 3) as ModelSpec,
    );
  });

  test("real numbers", () => {
    for (const path of ["kinds.0.attention.scale", "kinds.0.norms.norm.epsilon", "rotaryTables.0.amplitude"]) {
      assertCrosses(path, 0.5);
      for (const value of [Number.NaN, Number.NEGATIVE_INFINITY, 1e300, "1", undefined, null])
        assertRefused(path, value, /a finite number/);
    }
    assertRefused("kinds.0.norms.norm.epsilon", -1e-5, /of at least 0/);
    for (const key of ["softCap", "clamp"]) assertRefused(`kinds.0.attention.${key}`, -1, /of at least 0/);
    for (const path of [
      "kinds.0.norms.norm.weightOffset",
      "kinds.0.residualScale",
      "embedding.scale",
      "output.scale",
      "output.softCap",
      "kinds.0.attention.temperature.scale",
      "rotaryTables.0.long.amplitude",
    ]) {
      assertCrosses(path, 0.5, normed);
      for (const value of [Number.NaN, 1e300, "1"]) assertRefused(path, value, /a finite number/, normed);
    }
  });

  test("flags", () => {
    for (const path of ["kinds.0.feedForward.gated", "kinds.0.norms.input", "kinds.0.norms.output", "output.tied"])
      for (const value of [undefined, null, 0, "true"]) assertRefused(path, value, /true or false/);
    for (const key of ["sinks", "qkNorm.headWeights", "qkNorm.afterPositions"]) {
      assertCrosses(`kinds.0.attention.${key}`, true, normed);
      assertRefused(`kinds.0.attention.${key}`, 1, /true or false/, normed);
    }
  });

  test("of encoders", () => {
    const counts = changed(llama, "embedding.tokenTypes", { count: 2 }) as ModelSpec;
    assertCrosses("embedding.tokenTypes.count", 1, counts);
    for (const value of [0, -1, 1.5, "2", undefined])
      assertRefused("embedding.tokenTypes.count", value, /an integer from 1 to/, counts);
    for (const path of ["embedding.projectsLast", "kinds.0.norms.skipsAttention"]) {
      assertCrosses(path, true);
      assertRefused(path, 1, /true or false/);
    }
    const buckets = { kind: "buckets", buckets: 3, bucketOf: [2, 0, 1] };
    const scored = changed(llama, "kinds.0.attention.positions", buckets) as ModelSpec;
    assertRefused("kinds.0.attention.positions.bucketOf", [0, 1], /an odd number of buckets/, scored);
    assertRefused("kinds.0.attention.positions.bucketOf.1", 3, /an integer from 0 to 2/, scored);
    assertRefused("kinds.0.attention.positions.buckets", 0, /an integer from 1 to/, scored);
    const other = { ...scored, kinds: [...scored.kinds, ...structuredClone(scored.kinds)] } as ModelSpec;
    assert.throws(() => ask("kinds.1.attention.positions.bucketOf", [2, 1, 0], other), /buckets as those of the other/);
    assert.throws(() => ask("maxPositions", limits.positions, scored), /kinds\[0\].*fewer heads or positions/);
    const row = changed(tabled, "relativeTable.norm", { kind: "layer", epsilon: 1e-5 }) as ModelSpec;
    assertCrosses("relativeTable.norm.epsilon", 1e-7, row);
    assertRefused("relativeTable.rowOf", [0, 1], /an odd number of rows/, tabled);
    assertRefused("relativeTable.rowOf.1", 4, /an integer from 0 to 3/, tabled);
    for (const rows of [0, 1 << 19, "4", undefined])
      assertRefused("relativeTable.rows", rows, /an integer from 1 to/, tabled);
    assertRefused("relativeTable.telepathy", 1, /no such key/, tabled);
    const relative = changed(tabled, "kinds.0.attention.positions", {
      ...{ kind: "relative", queries: true, keys: true },
    }) as ModelSpec;
    assertCrosses("kinds.0.attention.positions.separate", true, relative);
    for (const key of ["queries", "keys", "separate"])
      assertRefused(`kinds.0.attention.positions.${key}`, 1, /true or false/, relative);
    assert.throws(() => ask("relativeTable", undefined, relative), /kinds\[0\].*no relative positions without/);
    for (const [key, value] of [
      ["kvHeads", 1],
      ["clamp", 2],
      ["qkNorm", qkNorm],
      ["temperature", temperature],
    ] as const)
      assert.throws(() => ask(`kinds.0.attention.${key}`, value, relative), /positions.*more than products/, key);
    for (const output of [
      { kind: "logits", tied: true },
      { kind: "classes", pick: "mean", count: 2 },
      { kind: "token-classes", count: 2 },
    ]) {
      const transform = { activation: "tanh", norm: { kind: "layer", epsilon: 1e-5 } };
      assertCrosses("output.transform", transform, changed(encoder, "output", output) as ModelSpec);
      const base = changed(encoder, "output", { ...output, transform }) as ModelSpec;
      assertRefused("output.transform.activation", "telepathy", /one of none, relu/, base);
      assertRefused("output.transform.norm.kind", "telepathy", /one of layer, rms/, base);
    }
    const pooled = changed(llama, "output", { kind: "hidden", pooler: { activation: "tanh" } }) as ModelSpec;
    assertCrosses("output.pooler.activation", "relu", pooled);
    assertRefused("output.pooler.activation", 1, /a string/, pooled);
    const classes = changed(encoder, "output", { kind: "classes", pick: "first", count: 2 }) as ModelSpec;
    for (const pick of pickedRows) assertCrosses("output.pick", pick, classes);
    assertRefused("output.pick", "telepathy", /one of first, last, mean/, classes);
    assertRefused("output.count", 0, /an integer from 1 to/, classes);
    const narrow = changed(encoder, "embedding.width", 4) as ModelSpec;
    assert.throws(() => ask("embedding.projectsLast", true, narrow), /plan\.spec\.output.*a transform, where/);
    const causal = changed(classes, "kinds.0.attention.mask", { kind: "causal" }) as ModelSpec;
    assertRefused("output.pick", "mean", /first or last, where no token sees later ones/, causal);
  });

  test("layers that share weights", () => {
    assertCrosses("weightLayers", [0, 0]);
    assertRefused("weightLayers", [0], /2 numbers, one for each layer/);
    assertRefused("weightLayers.0", 1, /an integer from 0 to 0/, changed(llama, "weightLayers", [0, 0]) as ModelSpec);
    const three = { ...llama, layers: [0, 0, 0], weightLayers: [0, 0, 1] } as ModelSpec;
    assertRefused("weightLayers.2", 1, /a layer of the same kind, which has weights of its own/, three);
  });

  test("what must fit together", () => {
    assertRefused("layers.1", 1, /an integer from 0 to 0/);
    assertRefused("layers", [], /1 to 4096 layers/);
    assertRefused("kinds", [], /1 to 4096 kinds/);
    assertRefused("kinds.0.attention.positions.table", 1, /an integer from 0 to 0/);
    assertRefused("kinds.0.attention.positions.dims", 2, /is 2, expected 4, two for each frequency/);
    assertRefused("kinds.0.attention.positions", { kind: "alibi", slopes: [1] }, /2 numbers, one for each head/);
    assertRefused(
      "kinds.0.attention.positions.table",
      0,
      /no rotary positions without/,
      changed(llama, "rotaryTables", []) as ModelSpec,
    );
    assertRefused("rotaryTables.0.long.inverseFrequencies", [1], /2 numbers, as many as/, normed);
    assertRefused(
      "rotaryTables.0.dynamic",
      { base: 10, factor: 2, originalPositions: 8 },
      /nothing beside long/,
      normed,
    );
    for (const value of [0, 1.5, undefined]) {
      assertRefused("kinds.0.attention.temperature.period", value, /an integer from 1/, normed);
      assertRefused("rotaryTables.0.long.originalPositions", value, /an integer from 1/, normed);
    }
    const rows = changed(normed, "kinds.0.attention.qkNorm.span", "row") as ModelSpec;
    assertRefused("kinds.0.attention.qkNorm.headWeights", true, /false where the span is a row/, rows);
    assertRefused("rotaryTables.0.inverseFrequencies", [], /numbers/);
    assertRefused("rotaryTables.0.inverseFrequencies", [1, "2"], /a finite number/);
  });
});

test("what the layer loop does not compute is named before anything is loaded", () => {
  const answers: [path: string, value: unknown, answer: RegExp][] = [
    ["kinds.0.residual", "post-norm", /both ahead of a part and behind/],
    ["kinds.0.feedForward.activation", "xielu", /xIELU with a gate/],
  ];
  for (const [path, value, answer] of answers) assert.match(ask(path, value) ?? "nothing", answer, path);
  for (const residual of ["post-norm", "shared-norm parallel"]) {
    const base = changed(changed(llama, "kinds.0.residual", residual), "kinds.0.norms.input", residual !== "post-norm");
    assert.equal(binding.unsupported(planOf(base)), null);
    const answer = ask("kinds.0.norms.skipsAttention", true, base as ModelSpec);
    assert.match(answer ?? "nothing", /attention without the norm/, residual);
  }
  const wider = {
    ...(llama.kinds[0] as LayerSpec),
    attention: { ...(llama.kinds[0] as LayerSpec).attention, kvHeads: 1 },
  };
  const spec = { ...llama, kinds: [...llama.kinds, wider], layers: [0, 1] };
  assert.match(binding.unsupported(planOf(spec)) ?? "nothing", /heads differ/);
  assert.equal(binding.unsupported(planOf(llama)), null);
});
