import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ConfigKey, configKeys, defaultOf } from "../../dist/deepspeed_config/keys.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";
import { nested, parse, upstreamDefault } from "./helpers.js";

/** A value of each type that is no key's default: as it may be written, and what it resolves to. */
const samples: Record<string, [written: unknown, resolved: unknown]> = {
  integer: ["7", 7],
  "integer above 0": ["7", 7],
  "data type": ["bf16", "torch.bfloat16"],
  anything: [{ group: [1] }, { group: [1] }],
  list: [
    [4, "x"],
    [4, "x"],
  ],
  "list or null": [
    [4, "x"],
    [4, "x"],
  ],
  object: [{ a: 1 }, { a: 1 }],
  "object or null": [{ a: 1 }, { a: 1 }],
  "path, object or null": ["a.json", "a.json"],
  "path or null": ["folder", "folder"],
  "string or null": ["folder", "folder"],
  string: ["folder", "folder"],
  '"standard" or "residual"': ["residual", "residual"],
  '"symmetric" or "asymmetric"': ["asymmetric", "asymmetric"],
};

function sampleOf(key: ConfigKey): [unknown, unknown] {
  if (key.type !== "boolean") return samples[key.type] as [unknown, unknown];
  const other = defaultOf(key) !== true;
  return [other ? "yes" : "no", other];
}

function valueAt(config: object, name: string): unknown {
  return name.split(".").reduce<unknown>((value, part) => (value as Record<string, unknown>)[part], config);
}

function leaves(config: object, parent = ""): string[] {
  return Object.entries(config).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0
      ? [`${parent}${key}`, ...leaves(value, `${parent}${key}.`)]
      : [`${parent}${key}`],
  );
}

test("the table has every key of the resolved config, the deprecated ones and zero", () => {
  const current = configKeys.filter(({ effect, name }) => effect !== "renamed" && name !== "zero");
  assert.deepEqual(current.map(({ name }) => name).sort(), leaves(upstreamDefault).sort());
  assert.deepEqual(
    configKeys.filter(({ effect }) => effect === "renamed").map(({ name, renamedTo }) => [name, renamedTo]),
    [
      ["mp_size", "tensor_parallel.tp_size"],
      ["mpu", "tensor_parallel.mpu"],
      ["ep_size", "moe.ep_size"],
      ["ep_group", "moe.ep_group"],
      ["ep_mp_group", "moe.ep_mp_group"],
      ["moe_experts", "moe.moe_experts"],
      ["moe_type", "moe.type"],
    ],
  );
  const aliases = configKeys.flatMap(({ name, alias }) => (alias ? [`${alias} ${name}`] : []));
  assert.deepEqual(aliases, readJson(fixture("deepspeed", "aliases.json")));
});

describe("every key", () => {
  const parents = new Set(configKeys.flatMap(({ name }) => (name.includes(".") ? [name.replace(/\.[^.]+$/, "")] : [])));
  for (const key of configKeys.filter(({ name }) => !parents.has(name))) {
    test(`${key.name}: resolved, ${key.effect}`, () => {
      const [written, expected] = sampleOf(key);
      const { resolved, warnings, infos } = parse(nested(key.name, written));
      if (key.name !== "zero") assert.deepStrictEqual(valueAt(resolved, key.renamedTo ?? key.name), expected);
      const target = configKeys.find(({ name }) => name === (key.renamedTo ?? key.name)) as ConfigKey;
      const idle = warnings.filter((line) => line.includes("no effect here"));
      const old = warnings.filter((line) => line.includes("deprecated"));
      assert.equal(idle.length, target.effect === "none" ? 1 : 0, warnings.join("\n"));
      if (idle[0]) assert.ok(idle[0].includes(`: ${target.name} (${target.meaning})`), idle[0]);
      assert.equal(old.length, key.effect === "renamed" ? 1 : 0, warnings.join("\n"));
      if (old[0]) assert.ok(old[0].includes(`${key.name} (write ${key.renamedTo})`), old[0]);
      assert.equal(infos.length, key.name === "enable_cuda_graph" || key.name === "replace_with_kernel_inject" ? 1 : 0);
    });

    test(`${key.name}: its default says nothing, unless it is deprecated`, () => {
      const { resolved, warnings } = parse(nested(key.name, defaultOf(key)));
      assert.deepStrictEqual(resolved, upstreamDefault);
      assert.equal(warnings.length, key.effect === "renamed" ? 1 : 0);
    });

    if (!/anything/.test(key.type)) {
      test(`${key.name}: no value of another type`, () => {
        for (const wrong of [[Symbol("x")], 0.5, () => 0])
          if (!(key.type.startsWith("list") && Array.isArray(wrong)))
            assert.throws(
              () => parse(nested(key.name, wrong)),
              hasCode("ERR_CONFIG", new RegExp(`: ${key.name}: expected .*, found `)),
            );
      });
    }
  }

  for (const key of configKeys) {
    const { name, alias } = key;
    if (alias === undefined) continue;
    const other = name.replace(/[^.]+$/, alias);
    test(`${other} is ${name}, and not both`, () => {
      const value = parents.has(name) ? {} : sampleOf(key)[0];
      assert.deepStrictEqual(parse(nested(other, value)).resolved, parse(nested(name, value)).resolved);
      const [top = "", last] = [name.replace(/\.?[^.]+$/, ""), name.replace(/^.*\./, "")];
      const both = { [last]: value, [alias]: value };
      assert.throws(
        () => parse(top === "" ? both : nested(top, both)),
        hasCode("ERR_CONFIG", new RegExp(`both ${name} and ${other}, which are one key`)),
      );
    });
  }

  for (const key of configKeys.filter(({ renamedTo }) => renamedTo !== undefined)) {
    test(`${key.name} and ${key.renamedTo}, not both`, () => {
      const [value] = sampleOf(key);
      const both = { ...nested(key.renamedTo as string, value), [key.name]: value };
      assert.throws(
        () => parse(both),
        hasCode("ERR_CONFIG", new RegExp(`both ${key.name} and ${key.renamedTo}, which are one key`)),
      );
    });
  }
});

describe("warnings", () => {
  test("one line names all keys without effect, by reason and as they are written", () => {
    const { warnings, infos } = parse({
      use_triton: true,
      triton_autotune: "yes",
      zero: { stage: 3 },
      return_tuple: true,
      tm: false,
      tp: { tp_grain_size: 32 },
    });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] as string, /^The DeepSpeed config: no effect here: tp\.tp_grain_size \([^)]+\); /);
    assert.match(warnings[0] as string, /; use_triton, triton_autotune \([^)]+\); zero \([^)]+\); tm \([^)]+\)$/);
    assert.deepEqual(infos, []);
  });

  test("what is empty or the default asks for nothing", () => {
    const { warnings } = parse({
      ...{
        replace_with_kernel_inject: false,
        replace_method: "auto",
        checkpoint: null,
        moe: true,
        quant: {},
        zero: {},
      },
      ...{ injection_policy: {}, injection_policy_tuple: [], config: {}, ckpt_config: { base_dir: null } },
    });
    assert.deepEqual(warnings, []);
    assert.deepEqual(parse({ injection_policy: new Map() }).warnings, []);
    assert.equal(parse({ injection_policy: new Map([[class Layer {}, ["o_proj"]]]) }).warnings.length, 1);
  });

  test("deprecated keys share a line, under the names that they are written with", () => {
    const { warnings } = parse({ mp_size: 2, expert_group: null });
    assert.deepEqual(warnings, [
      "The DeepSpeed config: deprecated: mp_size (write tensor_parallel.tp_size), expert_group (write moe.ep_group)",
    ]);
  });

  test("tensor_parallel that is not enabled is one rank, with a warning", () => {
    for (const config of [{ tp: { enabled: false, tp_size: 4 } }, { tp: { enabled: "no" }, mp_size: 4 }]) {
      const { resolved, warnings } = parse(config);
      assert.equal(resolved.tensor_parallel.tp_size, 1);
      assert.equal(warnings.filter((line) => /tp\.enabled is false, so \S+ 4 is taken as 1/.test(line)).length, 1);
    }
    assert.deepEqual(parse({ tp: { enabled: false } }).warnings, []);
  });
});
