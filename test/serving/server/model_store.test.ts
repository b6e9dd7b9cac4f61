import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { demo, type Running, run, start } from "../../cli/command.js";
import { fixture } from "../../support/fixtures.js";
import { makeModelStore } from "../../support/model_store.js";

let store: Awaited<ReturnType<typeof makeModelStore>>;
let folder: string;
/** The configuration that TorchServe was recorded with, on free ports. */
let config: string;
before(async () => {
  store = await makeModelStore();
  folder = mkdtempSync(path.join(tmpdir(), "shardspeed-server-"));
  config = path.join(folder, "config.properties");
  const text = readFileSync(fixture("torchserve", "config.properties"), "utf8");
  writeFileSync(config, text.replaceAll(/:1808\d/g, ":0"));
});
after(() => {
  store.remove();
  rmSync(folder, { recursive: true });
});

interface Log {
  running: Running;
  /** What it has logged so far. */
  text(): string;
  until(pattern: RegExp): Promise<RegExpExecArray>;
}

function serve(args: string[], environment: NodeJS.ProcessEnv = {}): Log {
  const running = start(["serve", ...args], environment);
  let text = "";
  running.child.stdout.on("data", (part: string) => {
    text += part;
  });
  return {
    running,
    text: () => text,
    until: async (pattern) => {
      for (let i = 0; i < 1000; i++) {
        const found = pattern.exec(text);
        if (found !== null) return found;
        await sleep(20);
      }
      assert.fail(`${pattern} is not in the log: ${text}`);
    },
  };
}

describe("serve --model-store store --models echo=echo.mar opt=opt.tar.gz --ts-config config.properties", () => {
  let log: Log;
  let inference: string;
  let management: string;
  const temporary = () => path.join(folder, "tmp");
  before(async () => {
    mkdirSync(temporary());
    log = serve(["--model-store", store.folder, "--models", "echo=echo.mar", "opt=opt.tar.gz", "--ts-config", config], {
      TMPDIR: temporary(),
    });
    [, inference = "", management = ""] = await log.until(/inference (\S+), management (\S+), metrics (\S+)"/);
    await log.until(/All models are ready/);
  });
  after(() => void log?.running.child.kill("SIGKILL"));

  const predict = async (text: string, model = "echo") => {
    const headers = { "content-type": "text/plain" };
    const response = await fetch(`${inference}/predictions/${model}`, { method: "POST", headers, body: text });
    return { status: response.status, text: await response.text() };
  };
  const manage = async (method: string, url: string) => {
    const response = await fetch(`${management}${url}`, { method });
    return { status: response.status, text: await response.text() };
  };

  test("serves both models on three listeners", async () => {
    assert.match((await predict("hello")).text, /"value": "hello"/);
    assert.equal(JSON.parse((await predict("hello", "opt")).text).device, 0);
    const { models } = JSON.parse((await manage("GET", "/models")).text);
    assert.deepEqual(
      models.map(({ modelName }: { modelName: string }) => modelName),
      ["echo", "opt"],
    );
    const big = await predict("x".repeat(70_000));
    assert.deepEqual([big.status, big.text], [413, ""], "max_request_size of the file");
  });

  test("answers what a model that is unregistered has begun, and 404 or 503 then", async () => {
    assert.equal((await manage("POST", "/models?url=echo2.mar")).status, 200);
    const answers = Array.from({ length: 3 }, () => predict("!sleep 0.3", "echo2"));
    await sleep(100);
    const [removed, ...all] = await Promise.all([manage("DELETE", "/models/echo2"), ...answers]);
    assert.equal(removed.status, 200);
    for (const { status } of all) assert.ok([200, 404, 503].includes(status), String(status));
    assert.ok(all.some(({ status }) => status === 200));
    assert.equal((await predict("a", "echo2")).status, 404);
  });

  test("stays when a worker dies again and again", async () => {
    for (let i = 0; i < 3; i++) {
      const { status, text } = await predict("!exit");
      assert.deepEqual([status, JSON.parse(text).message], [500, "Worker died."]);
    }
    assert.equal((await predict("!text")).text, "plain text");
  });

  test("ends with 0 on SIGTERM, and leaves nothing", async () => {
    const last = predict("!sleep 0.3");
    await sleep(100);
    log.running.child.kill("SIGTERM");
    assert.equal((await last).text, "slept");
    const { status, stderr } = await log.running.ended;
    assert.deepEqual([status, stderr], [0, ""]);
    assert.deepEqual(readdirSync(temporary()), []);
  });
});

describe("serve ends with a reason", () => {
  test("where the port is taken", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    const { status, stderr } = await run(["serve", store.folder, "--port", String(port)]);
    other.close();
    assert.notEqual(status, 0);
    assert.match(stderr, /another program listens there/);
  });

  test("where the model cannot be loaded", async () => {
    const half = path.join(folder, "half");
    mkdirSync(half);
    writeFileSync(path.join(half, "config.json"), "{");
    for (const [model, reason] of [
      [path.join(folder, "none"), /There is no model folder or archive/],
      [half, /config\.json/],
      [folder, /has neither config\.json, as a model folder, nor MAR-INF/],
      [path.join(store.folder, "failing.mar"), /failing_handler has no deepspeed config/],
    ] as const) {
      const { status, stdout, stderr } = await run(["serve", model, "--port", "0"]);
      assert.ok(status === 1 || status === 2, `${model}: ${status}`);
      assert.match(stderr, reason);
      assert.doesNotMatch(stderr + stdout, /\n {4}at /, "no stack trace");
    }
  });

  test("where there is no folder for temporary files", async () => {
    const { status, stderr } = await run(["serve", demo, "--port", "0"], "", { TMPDIR: path.join(folder, "gone") });
    assert.equal(status, 1);
    assert.match(stderr, /^shardspeed: The worker cannot be started: ENOENT.*gone.* \(ERR_HANDLER\)\n$/);
  });

  test("where it is interrupted while it loads", async () => {
    const log = serve(["--model-store", store.folder, "--models", "all", "--ts-config", config]);
    await log.until(/Listening/);
    log.running.child.kill("SIGINT");
    const { status, signal } = await log.running.ended;
    assert.deepEqual([status, signal], [0, null]);
  });

  test("where nobody reads its help", async () => {
    const { child, ended } = start(["serve", "--help"]);
    child.stdout.destroy();
    const { status, stderr } = await ended;
    assert.deepEqual([status, stderr], [0, ""]);
  });
});
