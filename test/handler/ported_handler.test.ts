import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import ts from "typescript";
import { AutoTokenizer, Context, HandlerService, loadHandler } from "../../dist/index.js";
import { root } from "../package/programs.js";
import { demoModel, fixture, readJson } from "../support/fixtures.js";

// A handler ported from Python line by line, from its source to its answers.

const yaml = {
  deviceType: "cpu",
  deepspeed: { config: "ds-config.json", checkpoint: "checkpoints.json" },
  handler: { model_name: "model", model_path: "model", max_length: 50, max_new_tokens: 16, manual_seed: 40 },
};

/** A model folder as an archive is unpacked to, with the handler compiled and nothing of the package beside it. */
function makeModelFolder(t: TestContext, source: string, tpSize: number): string {
  const folder = mkdtempSync(join(tmpdir(), "shardspeed-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const config = { dtype: "torch.float32", replace_with_kernel_inject: true, tensor_parallel: { tp_size: tpSize } };
  writeFileSync(join(folder, "ds-config.json"), JSON.stringify(config));
  cpSync(demoModel, join(folder, "model"), { recursive: true });
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022, useDefineForClassFields: false },
  });
  writeFileSync(join(folder, "opt_handler.mjs"), outputText);
  return folder;
}

async function answers(folder: string, prompts: readonly string[]): Promise<string[]> {
  const context = new Context({ modelName: "opt", modelDir: folder, batchSize: prompts.length, modelYamlConfig: yaml });
  const service = new HandlerService(await loadHandler("opt_handler.mjs", folder), context);
  await service.initialize();
  const requests = prompts.map((prompt, i) => ({
    id: `${i}`,
    data: { [i % 2 ? "data" : "body"]: Buffer.from(prompt) },
  }));
  const { code, message, responses, error } = await service.predict(requests);
  assert.equal(code, 200, `${message}: ${(error as Error)?.stack}`);
  return responses.map(({ body }) => body.toString());
}

interface DemoRow {
  prompt: string;
  ids: number[];
  greedy: number[];
}
const demo = readJson<DemoRow[]>(join(demoModel, "golden.json")).slice(0, 3);

for (const tpSize of [1, 2]) {
  test(`the documented handler as it was ported, tp_size ${tpSize}: max_length counts the prompt`, async (t) => {
    const folder = makeModelFolder(t, readFileSync(fixture("handlers", "opt_handler.ts"), "utf8"), tpSize);
    const found = await answers(
      folder,
      demo.map(({ prompt }) => prompt),
    );
    const tokenizer = await AutoTokenizer.fromPretrained(demoModel);
    const expected = demo.map(({ ids, greedy }) => {
      const whole = [...ids, ...greedy].slice(0, yaml.handler.max_new_tokens);
      return tokenizer.decode(whole, { skipSpecialTokens: true });
    });
    assert.deepEqual(found, expected);
    const index = readJson<{ type: string; checkpoints: string[] }>(join(folder, "checkpoints.json"));
    assert.deepEqual(index.checkpoints, [join(folder, "model", "model.safetensors")]);
  });
}

test("the handler in README.md gives new tokens, as many as it says", async (t) => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const code = /^## Moving from TorchServe[\s\S]*?^```ts$\n([\s\S]*?)^```$/m.exec(readme)?.[1];
  // test/docs/snippets.test.ts checks its types.
  assert.ok(code, "README.md has a TypeScript block under ## Moving from TorchServe and DeepSpeed");
  const found = await answers(
    makeModelFolder(t, code, 2),
    demo.map(({ prompt }) => prompt),
  );
  const tokenizer = await AutoTokenizer.fromPretrained(demoModel);
  const expected = demo.map(({ ids, greedy }) =>
    tokenizer.decode([...ids, ...greedy.slice(0, yaml.handler.max_new_tokens)], { skipSpecialTokens: true }),
  );
  assert.deepEqual(found, expected);
});
