import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type RunningServer, startServer } from "../../dist/serving/server.js";
import { completeSettings } from "../../dist/serving/settings/resolve.js";
import { fixture, readFloatTensors } from "../support/fixtures.js";
import { readGolden } from "../support/golden.js";

// What evaluation harnesses make of an echoed prompt's log-probabilities, against the logits of transformers: the model is a golden one, whose
// tokens get names. lm-evaluation-harness itself runs where `node scripts/install_clients.mjs` has installed it.

const root = fileURLToPath(new URL("../../", import.meta.url));
const harness = path.join(root, ".cache/clients/lm_eval/bin/lm_eval");
const golden = readGolden("opt");
const tensors = readFloatTensors(fixture("golden", "opt", "golden.safetensors"));

/** How likely the tokens behind a context are, and whether each is the likeliest. */
interface Scored {
  context: number[];
  continuation: number[];
  logprob: number;
  isGreedy: boolean;
}

/** Cuts golden prompts in two; behind each first part also comes what is likeliest there. */
function expectedScores(): Scored[] {
  const scored: Scored[] = [];
  for (const [n, { ids }] of golden.prompts.entries()) {
    const logits = tensors.get(`prompt${n}.logits`);
    assert.ok(logits);
    const vocab = logits.shape.at(-1) as number;
    const rows = ids.map((_, i) => Array.from(logits.data.subarray(i * vocab, (i + 1) * vocab)));
    for (let cut = 1; cut < ids.length; cut += 3) {
      const context = ids.slice(0, cut);
      const best = (row: number[]) => row.indexOf(Math.max(...row));
      for (const continuation of [ids.slice(cut), [best(rows[cut - 1] as number[])]]) {
        const parts = continuation.map((id, i) => ({ id, row: rows[cut - 1 + i] as number[] }));
        const logprob = parts.reduce((sum, { id, row }) => sum + toLogprob(row, id), 0);
        scored.push({ context, continuation, logprob, isGreedy: parts.every(({ id, row }) => id === best(row)) });
      }
    }
  }
  return scored;
}

function toLogprob(row: readonly number[], id: number): number {
  const largest = Math.max(...row);
  return (row[id] as number) - largest - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
}

const expected = expectedScores();
let folder: string;
let server: RunningServer;

/** Of token 17 it is w17; that of the special token is the beginning of no other. */
const nameOf = (id: number) => (id === 2 ? "</s>" : `w${id}`);

function writeTokenizer(): void {
  const vocab = Object.fromEntries(Array.from({ length: 256 }, (_, id) => [nameOf(id), id]));
  const tokenizer = {
    ...{ version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null },
    ...{ pre_tokenizer: { type: "WhitespaceSplit" }, post_processor: null, decoder: null },
    model: { type: "WordLevel", vocab, unk_token: "w3" },
  };
  writeFileSync(path.join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  const names = { tokenizer_class: "PreTrainedTokenizerFast", bos_token: "</s>", eos_token: "</s>" };
  writeFileSync(path.join(folder, "tokenizer_config.json"), JSON.stringify(names));
}

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "evaluation-"));
  for (const name of ["config.json", "model.safetensors"])
    copyFileSync(fixture("golden", "opt", name), path.join(folder, name));
  writeTokenizer();
  const settings = { modelFolder: folder, servedModelNames: ["opt"], dtype: "fp32" } as const;
  server = await startServer(completeSettings({ ...settings, host: "127.0.0.1", port: 0, logLevel: "silent" }));
  await server.ready;
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function checkScore(found: { logprob: number; isGreedy: boolean }, { logprob, isGreedy, ...one }: Scored): void {
  const what = JSON.stringify(one);
  assert.ok(Math.abs(found.logprob - logprob) <= 1e-4 * one.continuation.length, `${found.logprob}: ${what}`);
  assert.equal(found.isGreedy, isGreedy, what);
}

describe("log-likelihoods of continuations", () => {
  test("by the requests of evaluation harnesses, many prompts at once", async () => {
    const prompt = expected.map(({ context, continuation }) => [...context, ...continuation]);
    const body = { model: "opt", prompt, temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true };
    const response = await fetch(`${server.urls.inference}/v1/completions`, {
      ...{ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
    });
    const { choices, usage } = (await response.json()) as {
      choices: { logprobs: { token_logprobs: number[]; top_logprobs: Record<string, number>[] } }[];
      usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
    };
    assert.equal(choices.length, expected.length);
    for (const [i, { logprobs }] of choices.entries()) {
      const one = expected[i] as Scored;
      const own = logprobs.token_logprobs.slice(one.context.length, -1);
      const top = logprobs.top_logprobs.slice(one.context.length, -1);
      assert.equal(own.length, one.continuation.length);
      const logprob = own.reduce((sum, value) => sum + value, 0);
      checkScore(
        { logprob, isGreedy: own.every((value, k) => value === Math.max(...Object.values(top[k] ?? {}))) },
        one,
      );
    }
    assert.equal(usage.prompt_tokens_details.cached_tokens, 0, "however alike the prompts are");
  });

  const skip = !existsSync(harness) && `${path.relative(root, harness)} is not there: node scripts/install_clients.mjs`;
  test("by lm-evaluation-harness", { skip }, async () => {
    const toText = (ids: number[]) => ids.map(nameOf).join(" ");
    const documents = expected.map(({ context, continuation }) => ({
      ...{ context: toText(context), continuation: toText(continuation) },
    }));
    const data = path.join(folder, "documents.jsonl");
    writeFileSync(data, documents.map((one) => JSON.stringify(one)).join("\n"));
    const task = {
      ...{ task: "continuations", dataset_path: "json", dataset_kwargs: { data_files: { test: data } } },
      ...{ test_split: "test", output_type: "loglikelihood", doc_to_text: "{{context}}" },
      ...{
        doc_to_target: "{{' ' + continuation}}",

        metric_list: [{ metric: "perplexity" }, { metric: "acc" }],
      },
    };
    // JSON is YAML.
    writeFileSync(path.join(folder, "continuations.yaml"), JSON.stringify(task));
    const url = `base_url=${server.urls.inference}/v1/completions`;
    await run([
      ...["run", "--model", "local-completions", "--model_args", `model=opt,${url},tokenizer_backend=remote`],
      ...[
        "--include_path",
        folder,
        "--tasks",
        "continuations",
        "--log_samples",
        "--output_path",
        path.join(folder, "out"),
      ],
    ]);
    const out = path.join(folder, "out");
    const file = readdirSync(out, { recursive: true }).find((name) =>
      /samples_continuations_.*\.jsonl$/.test(`${name}`),
    );
    assert.ok(file !== undefined);
    const lines = readFileSync(path.join(out, `${file}`), "utf8")
      .trim()
      .split("\n");
    assert.equal(lines.length, expected.length);
    for (const line of lines) {
      const { doc_id, resps } = JSON.parse(line) as { doc_id: number; resps: [string, string][][] };
      const [logprob, isGreedy] = (resps[0]?.[0] ?? []) as [string | number, string | boolean];
      const found = { logprob: Number(logprob), isGreedy: /true/i.test(String(isGreedy)) };
      checkScore(found, expected[doc_id] as Scored);
    }
  });
});

/** Runs the harness, which must not look for anything on the network. */
function run(args: readonly string[]): Promise<void> {
  const offline = { HF_HUB_OFFLINE: "1", HF_DATASETS_OFFLINE: "1", HF_HOME: path.join(folder, "hub") };
  const local = { NO_PROXY: "127.0.0.1", no_proxy: "127.0.0.1", OPENAI_API_KEY: "none" };
  const child = spawn(harness, args, { cwd: folder, env: { ...process.env, ...offline, ...local } });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("close", (status) => {
      if (status === 0) resolve();
      else reject(new Error(output));
    });
  });
}
