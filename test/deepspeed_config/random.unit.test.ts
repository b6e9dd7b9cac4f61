import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../dist/base/errors.js";
import { rejectConflicts, resolveConfig } from "../../dist/deepspeed_config/engine_config.js";
import { DeepSpeedInferenceConfig } from "../../dist/deepspeed_config/inference_config.js";
import { configKeys } from "../../dist/deepspeed_config/keys.js";
import { deepFreeze, upstreamDefault } from "./helpers.js";

const keys = Object.keys(upstreamDefault);

/** Accepts or refuses as the contract says; returns whether it accepted. */
function check(config: unknown): boolean {
  let resolved: ReturnType<typeof DeepSpeedInferenceConfig.parse>;
  try {
    resolved = DeepSpeedInferenceConfig.parse(config as object);
  } catch (error) {
    assert.ok(error instanceof ShardspeedError, String(error));
    assert.equal(error.code, "ERR_CONFIG");
    assert.throws(() => resolveConfig(config as object), { code: "ERR_CONFIG" });
    return false;
  }
  assert.deepEqual(Object.keys(resolved), keys);
  for (const part of ["tensor_parallel", "moe", "quant", "checkpoint_config"] as const)
    assert.deepEqual(Object.keys(resolved[part]), Object.keys(upstreamDefault[part]));
  assert.deepStrictEqual(DeepSpeedInferenceConfig.parse(resolved), resolved);
  try {
    rejectConflicts(resolveConfig(config as object), { checkpoint: "x", baseDir: "y", dtype: "fp16" });
  } catch (error) {
    assert.ok(error instanceof ShardspeedError && error.code === "ERR_CONFIG", String(error));
  }
  return true;
}

const likely = fc.constantFrom<unknown>(
  ...[true, false, "true", "no", 0, 1, 2, 4, "2", " 3 ", "1_0", 2.5, -1, 1e12, 1e300, Number.NaN, null, undefined],
  ...["auto", "fp16", "torch.half", "BF16", "int8", "residual", "standard", "symmetric", "a.json", "", [], [1], {}],
  ...[{ stage: 3 }, { type: "ds_model", checkpoints: ["a"] }, 10n, Symbol("s"), () => 1, new Map(), new Date(0)],
);
const value = fc.oneof({ weight: 4, arbitrary: likely }, { weight: 1, arbitrary: fc.anything({ maxDepth: 2 }) });

/** Objects of known keys and their aliases, nested ones included, now and then with another key. */
function objectOf(parent: string): fc.Arbitrary<Record<string, unknown>> {
  const names = configKeys
    .filter(({ name }) => name.replace(/\.?[^.]+$/, "") === parent)
    .flatMap(({ name, alias }) => [[name, name.replace(/^.*\./, "")], ...(alias ? [[name, alias]] : [])] as const);
  const entries = names.map(([name, written]) => {
    const inner = configKeys.some((other) => other.name.startsWith(`${name}.`));
    const any = inner ? fc.oneof({ weight: 3, arbitrary: objectOf(name as string) }, value) : value;
    return any.map((item): [string, unknown] => [written as string, item]);
  });
  const entry = fc.oneof(...entries.map((arbitrary) => ({ weight: 8, arbitrary })), fc.tuple(fc.string(), value));
  return fc.array(entry, { maxLength: 4 }).map((list) => Object.fromEntries(list));
}

describe("random configs are resolved or refused with ERR_CONFIG, and left as they are", () => {
  test("objects of known keys", () => {
    let accepted = 0;
    fc.assert(
      fc.property(objectOf(""), (config) => {
        if (check(deepFreeze(config))) accepted++;
      }),
      { numRuns: 14_000 },
    );
    assert.ok(accepted > 1000, `only ${accepted} were accepted`);
  });

  test("anything", () => {
    const anything = fc.anything({ withBigInt: true, withMap: true, withDate: true, withNullPrototype: true });
    const notPaths = anything.filter((config) => typeof config !== "string");
    fc.assert(
      fc.property(notPaths, (config) => void check(config)),
      { numRuns: 4000 },
    );
  });

  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-config-"));
  });
  after(() => rm(folder, { recursive: true }));

  test("files", async () => {
    const file = path.join(folder, "ds-config.json");
    const json = fc.oneof(
      fc.json({ maxDepth: 3 }),
      objectOf("").map((config) => stringify(config)),
    );
    const damaged = fc
      .tuple(json, fc.nat(200), fc.string({ unit: "binary", maxLength: 3 }))
      .map(([text, at, insert]) => text.slice(0, at) + insert + text.slice(at + 1));
    const text = fc.oneof(json, damaged, fc.string({ unit: "binary" }));
    const bytes = fc.oneof(
      text.map((of) => Buffer.from(of)),
      fc.uint8Array(),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (content) => {
        await writeFile(file, content);
        check(file);
      }),
      { numRuns: 2000 },
    );
  });
});

function stringify(config: object): string {
  return JSON.stringify(config, (_, item) => (typeof item === "bigint" ? Number(item) : item));
}
