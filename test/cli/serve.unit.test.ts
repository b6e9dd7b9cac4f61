import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { variablesOf } from "../../dist/serving/settings/row.js";
import { settingNames, settingOf } from "../../dist/serving/settings/table.js";
import { run } from "./command.js";

let folder: string;
let file: string;
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "shardspeed-serve-"));
  file = path.join(folder, "config.properties");
  writeFileSync(
    file,
    "inference_address=http://127.0.0.1:18080\njob_queue_size=3\nmetrics_mode=prometheus\nvmargs=-Xmx1g\n",
  );
});
after(() => rmSync(folder, { recursive: true }));

const print = (args: string[], environment: NodeJS.ProcessEnv = {}) =>
  run(["serve", ...args, "--print-config"], "", environment);

describe("serve --print-config", () => {
  test("shows a model on one listener", async () => {
    const { status, stdout, stderr } = await print(["./opt-125m", "--host", "127.0.0.1", "--port", "8000"]);
    assert.deepEqual([status, stderr], [0, ""]);
    for (const line of [
      "modelFolder = ./opt-125m (MODEL)",
      "port = 8000 (--port)",
      "inference listener: http://127.0.0.1:8000",
      "management listener: none",
      "metrics listener: http://127.0.0.1:8000",
    ])
      assert.ok(stdout.includes(`${line}\n`), `${line}\n${stdout}`);
  });

  test("shows TorchServe's listeners, with flags, variables and the file", async () => {
    const { status, stdout, stderr } = await print(
      [
        ...[
          "--start",
          "--ncs",
          "--foreground",
          "--model-store",
          "store",
          "--models",
          "echo=echo.mar",
          "opt=opt.tar.gz",
        ],
        ...["--ts-config", file, "--disable-token-auth", "--enable-model-api", "--no-access-log-for", "health,metrics"],
        "--no-enable-prefix-caching",
        ...["--tensor-parallel-size", "2", "--override-generation-config", '{"temperature": 0.5, "top_k": 4}'],
      ],
      { SHARDSPEED_MAX_NUM_SEQS: "8", SHARDSPEED_API_KEY: "sk-secret" },
    );
    assert.equal(status, 0, stderr);
    assert.match(stderr, /warning: config\.properties:4: vmargs has no effect: there is no Java/);
    assert.doesNotMatch(stdout + stderr, /sk-secret/);
    for (const line of [
      "loadModels = echo=echo.mar, opt=opt.tar.gz (--models)",
      "inferenceAddress = http://127.0.0.1:18080 (config.properties:1)",
      "maxQueuedRequests = 3 (config.properties:2)",
      "maxNumSeqs = 8 (SHARDSPEED_MAX_NUM_SEQS)",
      "enableModelApi = true (--enable-model-api)",
      "noAccessLogFor = health, metrics (--no-access-log-for)",
      "noPrefixCache = true (--no-prefix-cache)",
      "tpSize = 2 (--tp-size)",
      'overrideGenerationConfig = {"temperature":0.5,"top_k":4} (--override-generation-config)',
      "management listener: http://127.0.0.1:8081",
    ])
      assert.ok(stdout.includes(`${line}\n`), `${line}\n${stdout}`);
  });
});

describe("serve refuses", () => {
  const wrong: [string[], RegExp][] = [
    [["--modle-store", "x"], /unknown option '--modle-store'.*Did you mean --model-store/s],
    [["m", "--port", "eighty"], /Expected --port to be an integer from 0 to 65535, found "eighty"/],
    [["m", "--queue-full-status", "500"], /--queue-full-status to be one of 503, 429/],
    [["m", "--body-limit", "lots"], /--body-limit to be a number of bytes/],
    [["m", "--override-generation-config", "{"], /--override-generation-config to be a JSON object/],
    [["m", "--root-path", "llm"], /--root-path to be a path such as \/llm/],
    [["m", "extra"], /too many arguments/],
    [[], /There is nothing to serve/],
  ];
  for (const [args, message] of wrong) {
    test(args.join(" ") || "nothing", async () => {
      const { status, stderr } = await run(["serve", ...args], "", { PWD: folder });
      assert.equal(status, 2, stderr);
      assert.match(stderr, message);
    });
  }

  test("a wrong file, with its line", async () => {
    const bad = path.join(folder, "bad.properties");
    writeFileSync(bad, "\njob_queue_size=-1\n");
    const { status, stderr } = await print(["--model-store", "s", "--ts-config", bad]);
    assert.equal(status, 1);
    assert.match(stderr, /bad\.properties:2: job_queue_size to be an integer from 1/);
  });
});

test("--help has every flag of the table, under its topic", async () => {
  const { stdout } = await run(["serve", "--help"]);
  for (const name of settingNames)
    for (const flag of settingOf(name).flags ?? []) assert.match(stdout, new RegExp(`--${flag}\\b`), flag);
  assert.match(stdout, /Requests and shutdown:\n {2}--max-queued-requests <n>/);
});

test("no variable of the server is one of the package's others", () => {
  const others = ["BINDING", "CPU", "SECRET", "LAUNCHER", "WATCHED_LAUNCHER", "CUDA_GRAPHS", "CUDA_PDL"];
  const own = settingNames.map((name) => variablesOf(name, settingOf(name)).own);
  assert.deepEqual(
    own.filter((name) => others.includes(name.replace("SHARDSPEED_", ""))),
    [],
  );
});
