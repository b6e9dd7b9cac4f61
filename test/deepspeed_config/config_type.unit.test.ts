import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { configKeys, defaultOf } from "../../dist/deepspeed_config/keys.js";
import type { DeepSpeedConfig, InitOptions } from "../../dist/index.js";
import { DeepSpeedInferenceConfig } from "../../dist/index.js";
import { root } from "../package/programs.js";
import { keysOf, readDeclarations } from "../support/declarations.js";

// The compiler reads this file: a line below @ts-expect-error that compiles is an error of the build.

const accepted: InitOptions["config"][] = [
  "ds-config.json",
  {},
  { dtype: "fp16", tensor_parallel: { tp_size: 2 }, replace_with_kernel_inject: true },
  { tp: { tp_size: "2" }, kernel_inject: "yes", max_tokens: 100, dtype: "torch.half" },
  { checkpoint: "checkpoints.json", base_dir: "models", save_mp_checkpoint_path: null },
  { checkpoint: { type: "ds_model", version: 0, checkpoints: ["model.bin"] } },
  { quant: { enabled: false, weight: { num_bits: 4, post_init_quant: {} } }, moe: false },
  { moe: { num_experts: [4] }, injection_policy: new Map(), zero: { stage: 3 }, mp_size: 2 },
];

// As it comes from a JSON module or a variable: literal types are widened.
const widened = { dtype: "fp16", tensor_parallel: { tp_size: 1 }, moe: { type: "standard" } };
const parsed: unknown[] = [
  widened satisfies InitOptions["config"],
  JSON.parse("{}") satisfies InitOptions["config"],
  {} as Record<string, unknown> satisfies InitOptions["config"],
];

// @ts-expect-error: misspelled
const misspelled: DeepSpeedConfig = { tensor_paralell: { tp_size: 2 } };
const rejected: InitOptions[] = [
  // @ts-expect-error: misspelled
  { config: { tensor_paralell: { tp_size: 2 } } },
  // @ts-expect-error: misspelled within a section
  { config: { tensor_parallel: { tp_sise: 2 } } },
  // @ts-expect-error: no number
  { config: { tensor_parallel: { tp_size: [2] } } },
  // @ts-expect-error: neither an object nor a path
  { config: 3 },
  // @ts-expect-error: no name
  { dtype: 16 },
];

test("the type of config takes all forms of a config, and refuses misspelled keys", () => {
  for (const config of accepted.slice(1)) DeepSpeedInferenceConfig.parse(config);
  DeepSpeedInferenceConfig.parse(widened);
  assert.equal(parsed.length, 3);
  assert.throws(() => DeepSpeedInferenceConfig.parse(misspelled), { code: "ERR_CONFIG" });
  for (const { config } of rejected.slice(0, 3))
    assert.throws(() => DeepSpeedInferenceConfig.parse(config), { code: "ERR_CONFIG" });
});

test("DeepSpeedConfig has the keys and the other names of lib/deepspeed_config/keys.ts", () => {
  const known = configKeys.flatMap(({ name, alias }) => {
    const other = alias && name.slice(0, name.lastIndexOf(".") + 1) + alias;
    const hasAliasedParent = configKeys.find((key) => key.alias !== undefined && name.startsWith(`${key.name}.`));
    const own = other === undefined ? [name] : [name, other];
    const { name: parent, alias: parentAlias } = hasAliasedParent ?? {};
    return [...own, ...(parent ? own.map((key) => key.replace(parent, parentAlias as string)) : [])];
  });
  assert.deepEqual(keysOf(readDeclarations(), "DeepSpeedConfig").sort(), [...new Set(known)].sort());
});

/** The part of a config that each interface of config_input.ts describes. */
const parents = new Map([
  ["DeepSpeedConfig", ""],
  ["TensorParallelConfig", "tensor_parallel."],
  ["ExpertsConfig", "moe."],
  ["QuantConfig", "quant."],
  ["QuantTargetConfig", "quant.activation."],
  ["QuantWeightConfig", "quant.weight."],
  ["QkvQuantConfig", "quant.qkv."],
  ["CheckpointConfig", "checkpoint_config."],
]);

/** Names of keys with their comments, which editors show. */
function readComments(): [name: string, comment: string][] {
  const file = path.join(root, "lib/deepspeed_config/config_input.ts");
  const { statements } = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2023, true);
  return statements.filter(ts.isInterfaceDeclaration).flatMap(({ name, members }) =>
    members.map((member): [string, string] => {
      const [comment] = ts.getJSDocCommentsAndTags(member).filter(ts.isJSDoc);
      const tags = (comment?.tags ?? []).map((tag) => tag.comment);
      return [`${parents.get(name.text)}${member.name?.getText()}`, [comment?.comment, ...tags].join(" ").trim()];
    }),
  );
}

/** With its dot: "moe." of "moe.type". */
function parentOf(name: string): string {
  return name.slice(0, name.lastIndexOf(".") + 1);
}

test("the comments of DeepSpeedConfig say the effects, defaults and other names of lib/deepspeed_config/keys.ts", () => {
  const comments = readComments();
  assert.ok(comments.length > 60, `found ${comments.length}`);
  for (const [name, comment] of comments) {
    const parent = parentOf(name);
    const key = configKeys.find((one) => one.name === name);
    const aliased = configKeys.find((one) => parentOf(one.name) + one.alias === name);
    const renamed = (key ?? aliased)?.renamedTo;
    if (renamed !== undefined) assert.equal(comment, `Write ${renamed}.`, name);
    else if (key === undefined) assert.equal(comment, `Other name of ${aliased?.name.slice(parent.length)}.`, name);
    else {
      assert.equal(comment.startsWith("No effect"), key.effect === "none", `${name}: ${comment}`);
      const [, value] = /Default ("[^"]*"|[^\s.:]+)/.exec(comment) ?? [];
      if (value !== undefined) assert.deepEqual(JSON.parse(value), defaultOf(key), name);
    }
  }
});
