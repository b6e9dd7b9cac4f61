import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type InitOptions, initInference } from "../../dist/index.js";
import { fixture } from "../support/fixtures.js";

// Adapters of PEFT, merged while a model is loaded, against what transformers computes with them (fixtures/adapters/make_adapters.py).

interface Golden {
  base: string;
  prompts: { ids: number[]; logits: number[]; greedy?: number[] }[];
}

const folder = fixture("adapters");
const names = readdirSync(folder).filter((name) => !name.includes("."));
const readGolden = (name: string) => JSON.parse(readFileSync(join(folder, name, "golden.json"), "utf8")) as Golden;
const baseOf = ({ base }: Golden) => fixture("golden", base);

async function compare(name: string, options: InitOptions, tolerance: number): Promise<void> {
  const golden = readGolden(name);
  const engine = await initInference(baseOf(golden), { device: "cpu", adapter: join(folder, name), ...options });
  try {
    for (const { ids, logits, greedy } of golden.prompts) {
      const { data, dims } = (await engine.forward({ inputIds: [ids] })).logits ?? assert.fail("no logits");
      const last = data.slice(-(dims.at(-1) as number));
      const largest = Math.max(...logits.map(Math.abs));
      assert.equal(last.length, logits.length);
      for (const [i, value] of logits.entries()) {
        const difference = Math.abs(value - (last[i] as number)) / largest;
        assert.ok(difference <= tolerance, `${name}: logit ${i} is ${last[i]}, expected ${value}`);
      }
      if (!greedy) continue;
      const result = await engine.generate(ids, { maxNewTokens: greedy.length, ignoreEos: true });
      assert.deepEqual(result.ids, greedy);
    }
  } finally {
    await engine.dispose();
  }
}

describe("adapters of PEFT, merged in fp32", () => {
  test("there are fixtures of every kind", () => assert.ok(names.length >= 15, names.join()));
  for (const name of names) test(name, () => compare(name, { dtype: "fp32" }, 1e-5));
});

describe("adapters on two ranks", () => {
  for (const name of names) test(name, () => compare(name, { dtype: "fp32", tpSize: 2 }, 1e-5));
});
