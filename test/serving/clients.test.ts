import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type RunningServer, startServer } from "../../dist/serving/server.js";
import { completeSettings } from "../../dist/serving/settings/resolve.js";
import { demoModel, fixture } from "../support/fixtures.js";

// Every route by the clients that people use, and schemathesis over the OpenAPI document. `node scripts/install_clients.mjs` installs them.

const root = fileURLToPath(new URL("../../", import.meta.url));
const clients = path.join(root, ".cache/clients");
const python = path.join(clients, "venv/bin/python");
const schemathesis = path.join(clients, "venv/bin/schemathesis");
const nodeOf22 = path.join(root, `.cache/node/22/node_modules/node-${process.platform}-${process.arch}/bin/node`);
const node = Number(process.versions.node.split(".")[0]) >= 22 ? process.execPath : nodeOf22;

/** Why a test with these files is skipped; false where it is not. */
function lacks(...files: string[]): string | false {
  const absent = files.filter((file) => !existsSync(file)).map((file) => path.relative(root, file));
  return absent.length > 0 && `${absent.join(", ")} is not there: node scripts/install_clients.mjs`;
}

/** Answers with what the user has said: all APIs have one prompt. */
const template = "{% for m in messages %}{{ m.content }}{% endfor %}{# <tool_call> #}";

let folder: string;
let generator: RunningServer;
let classifier: RunningServer;

function makeClassifier(to: string): void {
  for (const name of ["config.json", "model.safetensors"])
    copyFileSync(fixture("encoders", "bert_classifier", name), path.join(to, name));
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ...letters, ...letters.map((letter) => `##${letter}`)];
  const unused = Array.from({ length: 256 - words.length }, (_, i) => `[unused${i}]`);
  writeFileSync(path.join(to, "vocab.txt"), `${[...words, ...unused].join("\n")}\n`);
  writeFileSync(path.join(to, "tokenizer_config.json"), '{"tokenizer_class": "BertTokenizer"}');
}

async function serve(given: Parameters<typeof completeSettings>[0]): Promise<RunningServer> {
  const server = await startServer(completeSettings({ ...given, host: "127.0.0.1", port: 0, logLevel: "silent" }));
  await server.ready;
  return server;
}

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "clients-"));
  const chatTemplate = path.join(folder, "template.jinja");
  writeFileSync(chatTemplate, template);
  makeClassifier(folder);
  generator = await serve({ modelFolder: demoModel, chatTemplate });
  classifier = await serve({ modelFolder: folder, servedModelNames: ["classifier"] });
});
after(async () => {
  await generator?.stop();
  await classifier?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Outcome {
  status: number | null;
  output: string;
}

function run(program: string, args: readonly string[]): Promise<Outcome> {
  // Proxies of the environment are not for this machine's own addresses.
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, NO_PROXY: "127.0.0.1", no_proxy: "127.0.0.1" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("close", (status) => resolve({ status, output }));
  });
}

/** A test for each line of a script that says "ok NAME" or "failed NAME: REASON". */
async function report(t: TestContext, { status, output }: Outcome, atLeast: number): Promise<void> {
  const lines = output.split("\n").filter((line) => /^(ok|failed) /.test(line));
  assert.ok(lines.length >= atLeast, output);
  for (const line of lines) {
    const [, outcome, name = "", reason] = /^(ok|failed) ([^:]+)(?:: (.*))?$/.exec(line) ?? [];
    await t.test(name, () => assert.equal(outcome, "ok", reason));
  }
  assert.equal(status, 0, output);
}

describe("every route", () => {
  test("by clients from PyPI: openai, langchain-openai, anthropic", { skip: lacks(python) }, async (t) => {
    const script = path.join(root, "test/clients/conformance.py");
    await report(t, await run(python, [script, generator.urls.inference, classifier.urls.inference]), 30);
  });

  const modules = path.join(clients, "node_modules/@ai-sdk/openai-compatible");
  test("by @ai-sdk/openai-compatible", { skip: lacks(node, modules) }, async (t) => {
    const script = path.join(root, "test/clients/ai_sdk.mjs");
    await report(t, await run(node, [script, generator.urls.inference, clients]), 5);
  });

  test("gives no 5xx and nothing undeclared to schemathesis", { skip: lacks(schemathesis) }, async () => {
    const checks = [
      "not_a_server_error",
      "status_code_conformance",
      "content_type_conformance",
      "response_schema_conformance",
    ];
    // Handlers take any method: POST and GET stand for all.
    const methods = ["head", "put", "patch", "delete", "options", "trace"].flatMap((one) => ["--exclude-method", one]);
    const { status, output } = await run(schemathesis, [
      ...["--config-file", path.join(root, "test/clients/schemathesis.toml")],
      ...["run", `${generator.urls.inference}/openapi.json`, "--checks", checks.join(",")],
      ...["--phases", "fuzzing", "--max-examples", "8", "--seed", "1", "--generation-deterministic"],
      ...["--request-timeout", "30", "--suppress-health-check", "all", "--warnings", "off", "--no-color"],
      ...methods,
    ]);
    const cases = Number(/(\d+) generated/.exec(output)?.[1] ?? 0);
    assert.ok(cases > 300, output);
    assert.equal(status, 0, output);
  });
});
