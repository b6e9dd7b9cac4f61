import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { root } from "../package/programs.js";

// bench/native/model_step.mjs, against the figures of the design that it computes again.

interface Result {
  device: string;
  model: string;
  variant: string;
  stepUs: number;
  tokensPerSecond: number;
  share: number;
}

function run(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["bench/native/model_step.mjs", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

// Tokens a second, computed when the ring was designed, by the same law and by hand: good for 8 %.
const designed: [device: string, model: string, ...tokensPerSecond: number[]][] = [
  ["H200", "Llama-3-8B", 219, 252, 275, 281],
  ["H200", "Llama-2-7B", 245, 282, 311, 318],
  ["H200", "OPT-13B", 135, 153, 163, 166],
  ["H200", "OPT-30B", 62, 68, 71, 72],
  ["H100", "Llama-3-8B", 167, 178, 190, 192],
];

test("computed steps agree with those of the design", () => {
  const { computed, results } = JSON.parse(run("--json")) as { computed: boolean; results: Result[] };
  assert.equal(computed, true);
  const variants = [...new Set(results.map(({ variant }) => variant))];
  for (const [device, model, ...expected] of designed)
    for (const [place, tokens] of expected.entries()) {
      const found = results.find(
        (result) => result.device === device && result.model === model && result.variant === variants[place],
      );
      assert.ok(found, `${device} ${model}`);
      const error = found.tokensPerSecond / tokens - 1;
      assert.ok(Math.abs(error) < 0.08, `${device} ${model} ${found.variant}: ${found.tokensPerSecond}, not ${tokens}`);
      assert.ok(found.share > 0 && found.share < 1);
    }
});

test("as many slots are under way as the machine code was found to have", async () => {
  const { readModel } = await import(`${root}bench/native/model_step.mjs`);
  const { kernels } = JSON.parse(readFileSync(`${root}test/native/sass.json`, "utf8"));
  // Of the kernels of one tile of tokens, those for devices whose shared memory holds the deepest rings.
  const slotsOf = (input: RegExp) =>
    Object.entries<Record<string, { groups: number }>>(kernels["projection_few.cu"])
      .filter(([name]) => /^fewTokensKernel<\w+, 1, /.test(name) && input.test(name))
      .flatMap(([, architectures]) => Object.values(architectures).map(({ groups }) => groups));
  const { slotsUnderWay } = readModel().kernels.ring;
  assert.deepEqual(slotsUnderWay, {
    normalized: Math.max(...slotsOf(/\(Input\)[1-9]/)),
    elements: Math.max(...slotsOf(/\(Input\)0/)),
  });
});

test("a small matrix reaches less of the bandwidth than a large one, and all of it with the ring", async () => {
  const { readModel, shareOfRead } = await import(`${root}bench/native/model_step.mjs`);
  const { devices, kernels } = readModel();
  const share = (kernel: string, rows: number) =>
    shareOfRead(devices.H200, kernels[kernel], rows, rows === 4096 ? "elements" : "normalized") as number;
  // The output projection, q, k and v, and gate and up of Llama-3-8B.
  for (const [rows, expected] of [
    [4096, 0.72],
    [6144, 0.84],
    [28672, 0.87],
  ] as const)
    assert.ok(Math.abs(share("registers", rows) - expected) < 0.02, `${rows}: ${share("registers", rows)}`);
  for (const rows of [4096, 6144, 28672]) assert.ok(share("ring", rows) > 0.92, String(rows));
});

// Milliseconds, computed by hand for the kernel with registers, whose groups of 32 weight rows read all tokens again.
test("steps of some dozen rows are bound by what comes from the L2 cache", async () => {
  const { readModel, ownUs } = await import(`${root}bench/native/model_step.mjs`);
  const { devices, models, kernels, products } = readModel();
  const { hidden, qkvRows, ffn, vocabulary, layers } = models["Llama-3-8B"];
  const layer = [
    [qkvRows, hidden, "normalized"],
    [hidden, hidden, "elements"],
    [2 * ffn, hidden, "normalized"],
    [hidden, ffn, "elements"],
  ];
  for (const [tokens, expected] of [
    [16, 5.1],
    [32, 6],
    [64, 8.5],
  ] as const) {
    const us = (matrix: unknown) => ownUs(devices.H200, kernels.registers, products, matrix, tokens) as number;
    const layerUs = layer.reduce((sum, matrix) => sum + us(matrix), 13.3);
    const ms = (layers * layerUs + us([vocabulary, hidden, "normalized"])) / 1000;
    assert.ok(Math.abs(ms / expected - 1) < 0.08, `${tokens} tokens: ${ms} ms`);
  }
});

test("prompts have the classes that they have in the code", async () => {
  const { readModel } = await import(`${root}bench/native/model_step.mjs`);
  const [, table] = /kPromptClasses\[\] = \{(.*)\};/.exec(readFileSync(`${root}cuda/prompt_classes.h`, "utf8")) ?? [];
  const classes = [...(table ?? "").matchAll(/\{(\w+), (\d+)\}/g)].map(([, most, planned]) => [
    most === "INT64_MAX" ? null : Number(most),
    planned === "0" ? null : `library${planned}`,
  ]);
  assert.equal(classes.length, 3);
  assert.deepEqual(readModel().prompts, classes.reverse());
});

test("a short prompt beside generated rows reads each matrix once, and no prompt takes longer than by one algorithm", () => {
  const { mixed } = JSON.parse(run("--json")) as {
    mixed: Record<"generated" | "prompt", number>[] & Record<"before" | "now", { stepUs: number; reads: number }>[];
  };
  assert.ok(mixed.length > 30);
  for (const { generated, prompt, before, now } of mixed) {
    assert.equal(before.reads, generated > 0 ? 2 : 1);
    assert.equal(now.reads, generated > 0 && prompt > 64 ? 2 : 1);
    // The limits are the same for all models, and suit some better than others.
    assert.ok(now.stepUs < 1.01 * before.stepUs, `${generated} and ${prompt}`);
    if (prompt <= 200) assert.ok(now.stepUs < 0.95 * before.stepUs, `${generated} and ${prompt}`);
    if (prompt > 512) assert.equal(now.stepUs, before.stepUs);
  }
});

test("the tables say that they are computed, and have a line a model", () => {
  const [steps, mixed] = run()
    .trimEnd()
    .split("\n\n")
    .map((table) => table.split("\n"));
  for (const table of [steps, mixed]) assert.match(table?.[0] ?? "", /^Computed, not measured/);
  assert.equal(steps?.length, 8);
  assert.match(steps?.[2] ?? "", /^H200 Llama-3-8B +\d\.\d\d +\d+ +\d+ %/);
  assert.equal(mixed?.length, 2 + 6 * 7);
  assert.match(mixed?.[2] ?? "", /^H200 Llama-3-8B +0 +40 +\d+\.\d\d {2}1 x +\d\.\d\d {2}1 x$/);
});
