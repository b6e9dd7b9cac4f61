import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { DeepSpeedInferenceConfig } from "../../dist/deepspeed_config/inference_config.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";
import { deepFreeze, parse, upstreamDefault } from "./helpers.js";

interface RecordedCase {
  config: Record<string, unknown>;
  /** Resolved keys that differ from the default. */
  differs?: Record<string, unknown>;
  error?: string;
}

/** Where shardspeed answers otherwise than DeepSpeed, on purpose: what it resolves to, or why it refuses. */
const onPurpose = new Map<string, Record<string, unknown> | RegExp>([
  ['{"dtype":"torch.half"}', {}],
  ['{"dtype":"Float16"}', {}],
  ['{"use_triton":true}', { use_triton: true }],
  ['{"zero":{"stage":9}}', {}],
  ['{"tensor_parallel":{"tp_size":0}}', /tp_size: expected at least 1, found 0/],
  ['{"tensor_parallel":{"tp_size":1000000000000}}', /tp_size: expected at most 1024, found 1000000000000/],
  [
    '{"tensor_parallel":{"enabled":false,"tp_size":4}}',
    { tensor_parallel: { ...upstreamDefault.tensor_parallel, enabled: false } },
  ],
]);

describe("what DeepSpeed 0.19.8 makes of configs", () => {
  const cases = readJson<RecordedCase[]>(fixture("deepspeed", "config_cases.json"));
  const seen = new Set(cases.map(({ config }) => JSON.stringify(config)));
  for (const row of cases) {
    const text = JSON.stringify(row.config);
    test(text, () => {
      const expected = onPurpose.get(text) ?? row.differs ?? /./;
      deepFreeze(row.config);
      if (expected instanceof RegExp) assert.throws(() => parse(row.config), hasCode("ERR_CONFIG", expected));
      else assert.deepStrictEqual(parse(row.config).resolved, { ...upstreamDefault, ...expected });
    });
  }

  test("the differences on purpose are among them", () => {
    assert.deepEqual(
      [...onPurpose.keys()].filter((text) => !seen.has(text)),
      [],
    );
  });
});

describe("values of other types, as pydantic takes them", () => {
  const integers: [unknown, number][] = [
    ["2", 2],
    [" 2\n", 2],
    ["\u00a02", 2],
    ["+2", 2],
    ["-3", -3],
    ["-0", 0],
    [-0, 0],
    ["002", 2],
    ["1_000", 1000],
    ["2.0", 2],
    ["2.00", 2],
    ["1_0.0", 10],
    [2.0, 2],
    [true, 1],
    [false, 0],
    [1e15, 1e15],
  ];
  for (const [value, expected] of integers) {
    test(`integer ${JSON.stringify(value)}`, () =>
      assert.deepStrictEqual(parse({ min_out_tokens: value }).resolved.min_out_tokens, expected));
  }
  const noIntegers = [
    ...["two", "", " ", "2.", ".0", "2.5", "0x2", "1e3", "1__0", "_1", "+_2", "+ 2", "--2", "2.0_0", "２"],
    ...[2.5, null, [2], {}, Number.NaN, Number.POSITIVE_INFINITY, 2n, Symbol("2"), () => 2],
  ];
  for (const value of noIntegers) {
    test(`no integer ${typeof value} ${String(value)}`, () =>
      assert.throws(
        () => parse({ min_out_tokens: value }),
        hasCode("ERR_CONFIG", /min_out_tokens: expected an integer, found /),
      ));
  }
  test("integers that a number cannot hold exactly", () => {
    for (const value of [2 ** 53, -(2 ** 53), 1e300, "9".repeat(30)])
      assert.throws(() => parse({ min_out_tokens: value }), hasCode("ERR_CONFIG", /an integer within 2\^53/));
  });

  const yes = [true, 1, 1.0, "1", "on", "t", "true", "y", "yes", "TRUE", "Yes", "oN"];
  const no = [false, 0, -0, "0", "off", "f", "false", "n", "no", "OFF", "N"];
  for (const value of [...yes, ...no]) {
    test(`boolean ${JSON.stringify(value)}`, () =>
      assert.equal(parse({ triangular_masking: value }).resolved.triangular_masking, yes.includes(value)));
  }
  for (const value of [2, 0.5, "maybe", "", " yes", "yes ", "1.0", "00", null, [], {}]) {
    test(`no boolean ${JSON.stringify(value)}`, () =>
      assert.throws(
        () => parse({ triangular_masking: value }),
        hasCode("ERR_CONFIG", /expected true or false, found/),
      ));
  }

  test("a boolean for moe is moe.enabled", () => {
    for (const value of [true, "yes", 1]) assert.equal(parse({ moe: value }).resolved.moe.enabled, true);
    for (const value of [false, "off", 0]) assert.equal(parse({ moe: value }).resolved.moe.enabled, false);
    for (const value of ["maybe", 2, null, []])
      assert.throws(() => parse({ moe: value }), hasCode("ERR_CONFIG", /moe: expected true, false or an object/));
  });

  test("dtype in every spelling", () => {
    const names = {
      "torch.float16": ["fp16", "half", "float16", "torch.float16", "torch.half", "torch.fp16", "FP16", "Torch.Half"],
      "torch.bfloat16": ["bf16", "bfloat16", "torch.bfloat16", "bfloat", "BF16"],
      "torch.float32": ["fp32", "float", "float32", "torch.float32", "torch.float"],
      "torch.int8": ["int8", "torch.int8", "INT8"],
    };
    for (const [dtype, spellings] of Object.entries(names))
      for (const spelling of spellings) assert.equal(parse({ dtype: spelling }).resolved.dtype, dtype, spelling);
    for (const found of ["fp8", "", " fp16", "torch.", "torch.torch.fp16", "float64", null, 16, true, ["fp16"]])
      assert.throws(() => parse({ dtype: found }), hasCode("ERR_CONFIG", /dtype: expected "fp16", "bf16", "fp32"/));
  });

  test('"auto" is the default, in nested objects too, and not within values', () => {
    const config = { dtype: "auto", tp: { tp_size: "auto" }, quant: { weight: "auto" }, moe: "auto", zero: "auto" };
    assert.deepStrictEqual(parse(config).resolved, upstreamDefault);
    assert.deepStrictEqual(parse({ checkpoint: { type: "auto" } }).resolved.checkpoint, { type: "auto" });
    assert.equal(parse({ mp_size: 2, tp: { tp_size: "auto" } }).resolved.tensor_parallel.tp_size, 2);
    assert.equal(parse({ tp: "auto", tensor_parallel: { tp_size: 2 } }).resolved.tensor_parallel.tp_size, 2);
    assert.throws(() => parse({ nonsense: 1, dtype: "auto" }), hasCode("ERR_CONFIG"));
  });
});

describe("input and result", () => {
  test("the result shares nothing with the input or with other results", () => {
    const config = deepFreeze({ checkpoint: { checkpoints: ["a"] }, injection_policy: { Layer: ["x"] } });
    const { resolved } = parse(config);
    const checkpoint = resolved.checkpoint as { checkpoints: string[] };
    checkpoint.checkpoints.push("b");
    resolved.moe.moe_experts.push(2);
    resolved.quant.weight.post_init_quant.a = 1;
    resolved.tensor_parallel.tp_size = 9;
    assert.deepEqual(config.checkpoint.checkpoints, ["a"]);
    assert.deepStrictEqual(parse({}).resolved, upstreamDefault);
  });

  test("nothing, undefined values and instances of classes", () => {
    assert.deepStrictEqual(parse(undefined).resolved, upstreamDefault);
    assert.deepStrictEqual(parse({ dtype: undefined, tp: undefined, tensor_parallel: {} }).resolved, upstreamDefault);
    assert.deepStrictEqual(DeepSpeedInferenceConfig.parse({}), upstreamDefault);
    class Config {
      max_tokens = 7;
    }
    assert.equal(parse(new Config()).resolved.max_out_tokens, 7);
    assert.equal(parse(Object.assign(Object.create(null), { max_tokens: 7 })).resolved.max_out_tokens, 7);
  });

  test("what is no config", () => {
    for (const found of [null, 3, true, [], [{}], new Map(), new URL("file:///x"), Promise.resolve({}), () => ({})])
      assert.throws(() => parse(found), hasCode("ERR_CONFIG", /expected an object of DeepSpeed inference keys/));
    assert.throws(() => parse(Promise.resolve({})), /found \[object Promise\]/);
  });

  test("objects that contain themselves, are too deep or throw", () => {
    const loop: Record<string, unknown> = {};
    loop.mpu = { loop };
    assert.throws(() => parse(loop), hasCode("ERR_CONFIG", /mpu\.loop contains itself/));
    const deep = JSON.parse(`${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`);
    assert.throws(() => parse({ checkpoint: deep }), hasCode("ERR_CONFIG", /levels deep/));
    const throwing = {
      get dtype(): string {
        throw new Error("not today");
      },
    };
    assert.throws(() => parse(throwing), hasCode("ERR_CONFIG", /not today/));
    let shared: unknown = 1;
    for (let level = 0; level < 60; level++) shared = [shared, shared];
    assert.throws(() => parse({ mpu: shared }), hasCode("ERR_CONFIG", /more than 100000 values/));
    assert.throws(() => parse({ mpu: new Array(2 ** 32 - 1) }), hasCode("ERR_CONFIG", /more than 100000 values/));
    const twice = { a: 1 };
    assert.deepStrictEqual(parse({ mpu: [twice, twice] }).resolved.tensor_parallel.mpu, [twice, twice]);
  });

  test("a logger that is none", () => {
    assert.throws(
      () => DeepSpeedInferenceConfig.parse({}, { logger: 3 as never }),
      hasCode("ERR_INVALID_ARGUMENT", /logger/),
    );
  });
});

describe("errors name key, found and expected", () => {
  const wrong: [unknown, RegExp][] = [
    [{ tensr_parallel: {} }, /unknown key tensr_parallel\. Did you mean tensor_parallel\?/],
    [{ Dtype: "fp16" }, /unknown key Dtype\. Did you mean dtype\?/],
    [{ kernelInject: true }, /unknown key kernelInject\. Did you mean kernel_inject\?/],
    [{ tensor_parallel: { tpsize: 1 } }, /unknown key tensor_parallel\.tpsize\. Did you mean tp_size\?/],
    [{ tp: { size: 1 } }, /unknown key tp\.size\. Did you mean tp_size\?/],
    [{ tp_size: 1 }, /Did you mean tensor_parallel\.tp_size\?/],
    [{ quantization_setting: 1 }, /unknown key quantization_setting\. Did you mean quant\?/],
    [{ max_new_tokens: 1 }, /unknown key max_new_tokens/],
    [{ ["x".repeat(1e5)]: 1 }, /unknown key x{128}\.\.\.\. Remove it\.$/],
    [{ "a\u001b[2J": 1 }, /unknown key "a\\u001b\[2J"/],
    [JSON.parse('{"__proto__": {"dtype": "fp16"}}'), /unknown key __proto__/],
    [{ constructor: 1 }, /unknown key constructor/],
    [{ quant: { weight: { bits: 1 } } }, /unknown key quant\.weight\.bits. Did you mean num_bits\?/],
    [{ tp: {}, tensor_parallel: {} }, /both tp and tensor_parallel/],
    [{ mp_size: 1, tp: { tp_size: 1 } }, /both mp_size and tp\.tp_size/],
    [{ moe: { num_experts: [1], moe_experts: [1] } }, /both moe\.num_experts and moe\.moe_experts/],
    [{ tensor_parallel: { tp_size: 1.5 } }, /tensor_parallel\.tp_size: expected an integer, found 1\.5/],
    [{ tp: { tp_size: "x" } }, /: tp\.tp_size: expected an integer, found "x"/],
    [{ mp_size: 0 }, /mp_size: expected at least 1, found 0/],
    [{ max_tokens: 0 }, /max_tokens: expected more than 0, found 0/],
    [{ max_out_tokens: -1 }, /max_out_tokens: expected more than 0, found -1/],
    [{ enable_cuda_graph: "maybe" }, /enable_cuda_graph: expected true or false, found "maybe"/],
    [{ checkpoint: ["a"] }, /checkpoint: expected a path, an object or null, found \["a"\]/],
    [{ moe: { moe_experts: 4 } }, /moe\.moe_experts: expected a list, found 4/],
    [{ moe_type: "Residual" }, /moe_type: expected "residual" or "standard", found "Residual"/],
    [{ quant: { activation: { q_type: "sym" } } }, /quant\.activation\.q_type: expected "symmetric" or "asymmetric"/],
    [{ zero: 3 }, /zero: expected an object, found 3/],
    [{ replace_method: null }, /replace_method: expected a string, found null/],
    [{ injection_policy: [] }, /injection_policy: expected an object, found \[\]/],
    [{ checkpoint_config: null }, /checkpoint_config: expected an object, found null/],
  ];
  for (const [config, message] of wrong) {
    test(message.source, () => assert.throws(() => parse(config), hasCode("ERR_CONFIG", message)));
  }
});

describe("files", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-config-"));
  });
  after(() => rm(folder, { recursive: true }));

  test("a file is read, and named in errors with the place", async () => {
    const file = path.join(folder, "ds-config.json");
    await writeFile(file, '{"dtype": "fp32"}');
    assert.deepStrictEqual(parse(file).resolved, { ...upstreamDefault, dtype: "torch.float32" });
    const broken: [string, RegExp][] = [
      ['{\n  "dtype": fp16\n}', /line 2, column 1[23]/],
      ['{"dtype": "fp16",}', /line 1, column 18/],
      ["", /line 1, column 1/],
      ['{"dtype": "fp16"', /line 1, column 17/],
      ["// comment\n{}", /line 1, column 1/],
      ['{"a": 1} x', /line 1, column 10/],
    ];
    for (const [text, place] of broken) {
      await writeFile(file, text);
      assert.throws(
        () => parse(file),
        (error: Error) => {
          assert.ok(error.message.startsWith(`${file} is not JSON`), error.message);
          return hasCode("ERR_CONFIG", place)(error);
        },
      );
    }
    await writeFile(file, "[1]");
    assert.throws(() => parse(file), hasCode("ERR_CONFIG", /ds-config\.json: expected an object/));
    await writeFile(file, '{"Dtype": 1}');
    assert.throws(() => parse(file), hasCode("ERR_CONFIG", /ds-config\.json has an unknown key Dtype/));
  });

  test("a path that leads nowhere", () => {
    for (const file of [path.join(folder, "none.json"), folder, "", "a\0b"])
      assert.throws(
        () => parse(file),
        hasCode(
          "ERR_CONFIG",
          /Cannot read the DeepSpeed config: there is no file \/|: is a folder, expected a regular file$|: the path holds a null character/,
        ),
      );
  });
});
