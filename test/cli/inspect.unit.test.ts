import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { packArchive } from "../../dist/index.js";
import { demo, run } from "./command.js";

const golden = (family: string) => fileURLToPath(new URL(`../../test/fixtures/golden/${family}`, import.meta.url));

describe("inspect", () => {
  test("the demo model, in numbers that its card has", async () => {
    const { status, stdout, stderr } = await run(["inspect", demo, "--json"]);
    assert.equal(status, 0, stderr);
    assert.equal(stderr, "");
    const report = JSON.parse(stdout);
    assert.equal(report.parameters, 4_339_712);
    assert.equal(report.spec.family, "opt");
    assert.equal(report.spec.layers, 4);
    assert.equal(report.storedDtype, "float16");
    assert.ok(report.ignoredKeys.includes("attention_dropout") && !report.ignoredKeys.includes("ffn_dim"));
    assert.equal(report.files.length, 1);
    assert.deepEqual(report.warnings, []);
    assert.deepEqual(report.endTokenIds, [2]);
    assert.deepEqual(report.tokenizer, {
      vocabSize: 4096,
      modelMaxLength: null,
      bosToken: "</s>",
      eosToken: "</s>",
      padToken: "<pad>",
      chatTemplate: false,
    });
    const whole = report.memory.find(
      (row: { dtype: string; tpSize: number }) => row.dtype === "float16" && row.tpSize === 1,
    );
    assert.equal(whole.weightBytes, 2 * report.parameters);
    assert.equal(whole.kvBytesPerToken, 2 * 4 * 256 * 4);
    assert.equal(whole.kvBytesPerSequence, 512 * whole.kvBytesPerToken);
    assert.equal(whole.cudaKvBytesPerToken, 2 * 4 * 256 * 2);
    assert.equal(whole.cudaKvBytesPerSequence, 512 * whole.cudaKvBytesPerToken);
    const half = report.memory.find(
      (row: { dtype: string; tpSize: number }) => row.dtype === "float32" && row.tpSize === 2,
    );
    assert.ok(half.weightBytes > 2 * report.parameters && half.weightBytes < 2.3 * report.parameters);
    assert.equal(half.kvBytesPerToken, 2 * 4 * 128 * 4);
    assert.equal(half.cudaKvBytesPerToken, null);
  });

  test("as text, with the tensors of the first layer or of all", async () => {
    const some = await run(["inspect", demo]);
    assert.equal(some.status, 0, some.stderr);
    assert.match(some.stdout, /parameters +4,339,712 in float16/);
    assert.match(some.stdout, /without effect .*attention_dropout/);
    assert.match(some.stdout, /float32 +1 +17\.\d MB +8\.19 kB +4\.19 MB +not in fp32\n/);
    assert.match(some.stdout, /float16 +1 +8\.68 MB +8\.19 kB +4\.19 MB +2\.10 MB\n/);
    assert.match(some.stdout, /layers\.0\.attn\.q\.weight +\S+ +float16 +\[256, 256\]/);
    assert.doesNotMatch(some.stdout, /layers\.1\.attn/);
    const all = await run(["inspect", demo, "--tensors"]);
    assert.match(all.stdout, /layers\.3\.mlp\.down\.weight/);
    for (const line of all.stdout.split("\n")) assert.equal(line, line.trimEnd());
  });

  test("it needs no addon", async () => {
    const { status, stderr } = await run(["inspect", demo], "", { SHARDSPEED_BINDING: "/nowhere/shardspeed.node" });
    assert.equal(status, 0, stderr);
  });

  test("a mixture of experts, and latent attention", async () => {
    const { stdout } = await run(["inspect", golden("deepseek_v3")]);
    assert.match(stdout, /attention +4 heads of 24, keys and values from rows of 24\n/);
    assert.match(stdout, /80, gated silu; 2 of 8 experts of 24, gated silu, one of 24 for all tokens\n/);
  });

  for (const family of ["opt", "gpt2", "llama"]) {
    test(`the tiny ${family} of the golden data, which has no tokenizer`, async () => {
      const { status, stdout, stderr } = await run(["inspect", golden(family), "--json"]);
      assert.equal(status, 0, stderr);
      const report = JSON.parse(stdout);
      assert.equal(report.spec.family, family);
      assert.equal(report.tokenizer, null);
      assert.ok(report.tensors.length > 0);
      assert.match((await run(["inspect", golden(family)])).stdout, /none: prompts must be token ids/);
    });
  }

  describe("folders with faults", () => {
    let folder: string;
    before(async () => {
      folder = await mkdtemp(path.join(tmpdir(), "shardspeed-inspect-"));
      await cp(golden("opt"), folder, { recursive: true });
    });
    after(() => rm(folder, { recursive: true }));

    test("a broken tokenizer is a warning", async () => {
      await writeFile(path.join(folder, "tokenizer.json"), "{");
      const { status, stdout, stderr } = await run(["inspect", folder, "--json"]);
      assert.equal(status, 0, stderr);
      const report = JSON.parse(stdout);
      assert.equal(report.tokenizer, null);
      assert.ok(report.warnings.some((warning: string) => /tokenizer\.json is not JSON/.test(warning)));
      assert.match((await run(["inspect", folder])).stdout, /Warnings\n.*tokenizer\.json is not JSON/);
    });

    test("an unknown architecture is an error", async () => {
      await writeFile(
        path.join(folder, "config.json"),
        '{"model_type": "telepathy", "architectures": ["TelepathyForCausalLM"]}',
      );
      const { status, stderr } = await run(["inspect", folder]);
      assert.equal(status, 1);
      assert.match(stderr, /elepathy.*\(ERR_UNSUPPORTED_MODEL\)/);
    });

    test("a config.json that is none is an error with the place", async () => {
      await writeFile(path.join(folder, "config.json"), '{"model_type": }');
      const { status, stderr } = await run(["inspect", folder]);
      assert.equal(status, 1);
      assert.match(stderr, /config\.json is not JSON: line 1, column 16.*\(ERR_CHECKPOINT\)/);
    });
  });
});

describe("inspect of archives and configurations", () => {
  const archives = fileURLToPath(new URL("../../test/fixtures/torchserve/archives", import.meta.url));

  test("an archive with a Python handler: what is missing, and the configuration with its sources", async () => {
    for (const name of ["opt.tar.gz", "optdir"]) {
      const { status, stdout, stderr } = await run(["inspect", path.join(archives, name), "--json"]);
      assert.equal(status, 0, stderr);
      const { archive, spec, configuration, warnings } = JSON.parse(stdout);
      assert.equal(archive.version, "1.0");
      assert.equal(archive.handledBy, null);
      assert.equal(spec, undefined);
      assert.match(warnings.join("\n"), /deepspeed_handler\.py, which is Python/);
      const setting = (part: "modelConfig" | "deepSpeed", key: string) =>
        configuration[part].settings.find((one: { key: string }) => one.key === key);
      const place = { source: "model-config.yaml", place: "model-config.yaml:3:1" };
      assert.deepEqual(setting("modelConfig", "maxBatchDelay"), { key: "maxBatchDelay", value: 100, ...place });
      assert.deepEqual(setting("modelConfig", "batchSize"), { key: "batchSize", value: 1, source: "default" });
      assert.deepEqual(setting("deepSpeed", "tensor_parallel.tp_size"), {
        key: "tensor_parallel.tp_size",
        value: 2,
        source: "config",
      });
      assert.equal(configuration.deepSpeed.file, "ds-config.json");
    }
  });

  test("with a handler map, as text", async () => {
    const map = ["--handler-map", "deepspeed_handler.py=TextGenerationHandler"];
    const { status, stdout, stderr } = await run(["inspect", path.join(archives, "opt.tar.gz"), ...map]);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /handled by +TextGenerationHandler/);
    assert.match(stdout, /maxBatchDelay +100 +model-config\.yaml:3:1\n/);
    assert.match(stdout, /tensor_parallel\.tp_size +2 +config\n/);
    const wrong = await run(["inspect", archives, "--handler-map", "one"]);
    assert.equal(wrong.status, 2);
    assert.match(wrong.stderr, /Expected HANDLER=REPLACEMENT/);
  });

  test("a model folder with a configuration beside it, deprecated names as they are written", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
    t.after(() => rm(folder, { recursive: true }));
    await writeFile(path.join(folder, "ds.json"), JSON.stringify({ mp_size: 2, max_tokens: 64 }));
    await writeFile(path.join(folder, "mc.yaml"), "deepspeed: {config: nowhere.json}\nbatchsize: 3\n");
    const files = ["--config", path.join(folder, "ds.json"), "--model-config", path.join(folder, "mc.yaml")];
    const { status, stdout, stderr } = await run(["inspect", demo, "--json", ...files]);
    assert.equal(status, 0, stderr);
    const { parameters, configuration, warnings } = JSON.parse(stdout);
    assert.equal(parameters, 4_339_712);
    const given = configuration.deepSpeed.settings.filter(({ source }: { source: string }) => source === "config");
    assert.deepEqual(given, [
      { key: "tensor_parallel.tp_size", value: 2, source: "config", written: "mp_size" },
      { key: "max_out_tokens", value: 64, source: "config", written: "max_tokens" },
    ]);
    assert.match(warnings.join("\n"), /mc\.yaml:2:1: unknown key batchsize\. Did you mean batchSize\?/);
    const missing = await run(["inspect", demo, "--model-config", path.join(folder, "mc.yaml")]);
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /nowhere\.json/);
  });

  test("an archive whose model is at hand", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
    t.after(() => rm(folder, { recursive: true }));
    const yaml = `handler: {type: TextGenerationHandler, model_path: ${JSON.stringify(demo)}}\n`;
    await writeFile(path.join(folder, "model-config.yaml"), yaml);
    const { status, stdout, stderr } = await run(["inspect", folder, "--json"]);
    assert.equal(status, 0, stderr);
    const { archive, parameters } = JSON.parse(stdout);
    assert.equal(archive.handledBy, "TextGenerationHandler");
    assert.equal(parameters, 4_339_712);
  });

  describe("an archive that was packed here", () => {
    const pack = async (t: TestContext, files: Record<string, string>, handler: string) => {
      const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-"));
      t.after(() => rm(folder, { recursive: true }));
      for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
      const configFile = path.join(folder, "c.yaml");
      const common = { modelName: "m", version: "1", exportPath: folder, configFile };
      return (await packArchive({ ...common, handler: path.join(folder, handler) })).path;
    };

    test("its handler is named, not run", async (t) => {
      const archive = await pack(t, { "c.yaml": "minWorkers: 1\n", "h.mjs": "process.exit(7);\n" }, "h.mjs");
      const { status, stdout, stderr } = await run(["inspect", archive, "--json"]);
      assert.equal(status, 0, stderr);
      assert.equal(JSON.parse(stdout).archive.handledBy, "h.mjs");
    });

    test("messages name the archive, not the folder that it was unpacked to", async (t) => {
      const archive = await pack(t, { "c.yaml": "minWorkers: [\n", "h.mjs": "" }, "h.mjs");
      const { status, stderr } = await run(["inspect", archive]);
      assert.equal(status, 1);
      assert.ok(stderr.startsWith(`shardspeed: ${archive}: c.yaml:2:1: `), stderr);
    });

    test("no path out of it is followed", async (t) => {
      for (const outside of ["/dev/zero", "../ds.json", demo]) {
        const yaml = `deepspeed: {config: ${JSON.stringify(outside)}}\n`;
        const archive = await pack(t, { "c.yaml": yaml, "h.mjs": "" }, "h.mjs");
        const { status, stderr } = await run(["inspect", archive]);
        assert.equal(status, 1);
        assert.match(stderr, /deepspeed\.config is ".*", expected a file of the archive/);
      }
      const yaml = `handler: {model_path: ${JSON.stringify(demo)}}\n`;
      const archive = await pack(t, { "c.yaml": yaml, "h.mjs": "" }, "h.mjs");
      const { status, stdout } = await run(["inspect", archive, "--json"]);
      assert.equal(status, 0);
      const { parameters, warnings } = JSON.parse(stdout);
      assert.equal(parameters, undefined);
      assert.match(warnings.join("\n"), /model_path is .*, which is not in the archive/);
    });
  });
});

test("a handler in TypeScript is named where this Node does not load it, and packing it says so", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "shardspeed-typescript-"));
  t.after(() => rm(folder, { recursive: true }));
  const inside = (name: string) => path.join(folder, name);
  const readsTypeScript = Boolean((process.features as { typescript?: unknown }).typescript);
  const reason =
    /[a-z]\.m?ts(:Own)?, and Node [\d.]+ reads no TypeScript: use Node 22\.18 or newer, or compile it to \.mjs/;
  for (const [name, ending, handler] of [
    ["a", ".ts", "a.ts"],
    ["b", ".mts", "b"],
    ["c", ".ts", "c.ts:Own"],
  ] as const) {
    await writeFile(
      inside(name + ending),
      "export class Own { handle(data: unknown[]): unknown[] { return data; } }\n",
    );
    const args = ["--model-name", name, "-v", "1", "--handler", inside(handler), "--export-path", folder];
    const packed = await run(["archive", ...args]);
    assert.equal(packed.status, 0, packed.stderr);
    const { status, stdout } = await run(["inspect", inside(`${name}.mar`), "--json"]);
    assert.equal(status, 0);
    const { archive, warnings } = JSON.parse(stdout);
    if (readsTypeScript) {
      assert.doesNotMatch(packed.stderr, /TypeScript/);
      assert.match(archive.handledBy, /^[abc]\.m?ts/);
    } else {
      assert.match(packed.stderr, reason);
      assert.equal(archive.handledBy, null);
      assert.match(warnings.join(), reason);
    }
  }
});
