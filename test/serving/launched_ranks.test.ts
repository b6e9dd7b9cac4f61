import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readGroup } from "../../dist/serving/launched_ranks.js";
import { demoModel, hasCode } from "../support/fixtures.js";

const program = path.resolve(import.meta.dirname, "../../dist/cli/main.js");

/** What a process has written so far. */
function collect(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => {
      text += chunk;
    });
  return () => text;
}

async function until<T>(what: () => T | undefined, described: () => string): Promise<T> {
  for (let i = 0; i < 600; i++) {
    const found = what();
    if (found !== undefined && found !== false) return found;
    await sleep(50);
  }
  assert.fail(described());
}

async function complete(url: string, maxTokens: number): Promise<string> {
  const body = JSON.stringify({ prompt: "The whale", max_tokens: maxTokens, temperature: 0, ignore_eos: true });
  const answer = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  assert.equal(answer.status, 200);
  return ((await answer.json()) as { choices: [{ text: string }] }).choices[0].text;
}

describe("ranks that a launcher has started", () => {
  test("serve one model together; told to end, they answer what was accepted and leave nothing", async () => {
    const args = ["run", "--nproc-per-node", "2", program, "serve", demoModel, "--port", "0", "--tp-size", "2"];
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    const written = collect(child);
    try {
      const [, url] = await until(() => /inference (http:\S+?),/.exec(written()) ?? undefined, written);
      await until(() => written().includes("All models are ready") || undefined, written);
      const text = await complete(url as string, 8);
      assert.ok(text.length > 8, text);
      const long = complete(url as string, 400);
      await sleep(100);
      child.kill("SIGTERM");
      assert.ok((await long).startsWith(text));
      const [code] = await once(child, "exit");
      assert.equal(code, 0, written());
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("open it with the settings that the key models has", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "ranks-"));
    const config = path.join(folder, "ds-config.json");
    writeFileSync(config, JSON.stringify({ dtype: "bf16", tensor_parallel: { tp_size: 2 } }));
    const model = { "1.0": { marName: demoModel, "deepspeed.config": config } };
    const properties = path.join(folder, "config.properties");
    const addresses = ["inference", "management", "metrics"].map((api) => `${api}_address=http://127.0.0.1:0`);
    writeFileSync(properties, [...addresses, `models=${JSON.stringify({ demo: model })}`].join("\n"));
    const args = ["run", "--nproc-per-node", "2", program, "serve", "--ts-config", properties, "--model-store", folder];
    const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    const written = collect(child);
    try {
      const [, url] = await until(() => /inference (http:\S+?),/.exec(written()) ?? undefined, written);
      await until(() => /All models are ready|cannot be served/.test(written()) || undefined, written);
      assert.ok((await complete(url as string, 8)).length > 8, written());
      child.kill("SIGTERM");
      const [code] = await once(child, "exit");
      assert.equal(code, 0, written());
    } finally {
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    }
  });

  test("need a secret; a process that was started alone is no rank", () => {
    const env = { RANK: "0", WORLD_SIZE: "2", LOCAL_RANK: "0", LOCAL_WORLD_SIZE: "1", MASTER_ADDR: "10.0.0.1" };
    assert.throws(() => readGroup(env), hasCode("ERR_CONFIG", /SHARDSPEED_SECRET/));
    assert.deepEqual(readGroup({ ...env, MASTER_PORT: "29600", SHARDSPEED_SECRET: "s" }), {
      worldSize: 2,
      masterAddr: "10.0.0.1",
      masterPort: 29600,
      secret: "s",
    });
    assert.equal(readGroup({}), undefined);
    assert.equal(readGroup({ RANK: "0", WORLD_SIZE: "1" }), undefined);
  });
});
