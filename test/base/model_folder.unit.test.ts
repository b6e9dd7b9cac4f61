import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { describeForeignModel, describeMissingFolder } from "../../dist/base/foreign_model.js";
import { findModelFolder, hubCacheFolder, isHubName } from "../../dist/base/hub_cache.js";
import { AutoConfig, AutoTokenizer } from "../../dist/index.js";
import { demoModel } from "../support/fixtures.js";

const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-places-"));
const hub = path.join(folder, "home", "hub");
after(() => rmSync(folder, { recursive: true }));
process.env.HF_HOME = path.join(folder, "home"); // of this process, which runs this file alone

function write(files: Record<string, string | Buffer>): string {
  const target = mkdtempSync(path.join(folder, "m-"));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(target, name)), { recursive: true });
    writeFileSync(path.join(target, name), content);
  }
  return target;
}

/** A model in the cache, with a config.json in each snapshot. */
function cache(name: string, snapshots: string[], main?: string): string {
  const model = path.join(hub, name);
  for (const snapshot of snapshots) {
    mkdirSync(path.join(model, "snapshots", snapshot), { recursive: true });
    writeFileSync(path.join(model, "snapshots", snapshot, "config.json"), JSON.stringify({ snapshot }));
  }
  mkdirSync(path.join(model, "refs"), { recursive: true });
  mkdirSync(path.join(model, "snapshots"), { recursive: true });
  if (main !== undefined) writeFileSync(path.join(model, "refs", "main"), main);
  return model;
}

describe("the cache of Hugging Face", () => {
  test("its place is what huggingface_hub takes", () => {
    const at = (environment: NodeJS.ProcessEnv) => hubCacheFolder(environment);
    assert.equal(at({}), path.join(homedir(), ".cache/huggingface/hub"));
    assert.equal(at({ XDG_CACHE_HOME: "/x" }), "/x/huggingface/hub");
    assert.equal(at({ XDG_CACHE_HOME: "/x", HF_HOME: "/h" }), "/h/hub");
    assert.equal(at({ HF_HOME: "~/h" }), path.join(homedir(), "h/hub"));
    assert.equal(at({ HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/c" }), "/c");
    assert.equal(at({ HF_HUB_CACHE: "/d", HUGGINGFACE_HUB_CACHE: "/c" }), "/d");
  });

  test("a name, the model's folder, its snapshots and a snapshot lead to the main snapshot", async () => {
    const model = cache("models--facebook--opt-125m", ["0a1b", "2c3d"], "2c3d\n");
    const main = path.join(model, "snapshots", "2c3d");
    for (const given of ["facebook/opt-125m", model, path.join(model, "snapshots"), main]) {
      assert.equal(await findModelFolder(given, "ERR_CHECKPOINT"), main);
      assert.equal((await AutoConfig.fromPretrained(given)).snapshot, "2c3d");
    }
    cache("models--gpt2", ["4e5f"]);
    assert.equal((await AutoConfig.fromPretrained("gpt2")).snapshot, "4e5f");
  });

  test("none or several snapshots without a main one are errors that say so", async () => {
    cache("models--a--several", ["1", "2"], "../../../elsewhere");
    await assert.rejects(AutoConfig.fromPretrained("a/several"), {
      code: "ERR_CHECKPOINT",
      message: /models--a--several: this folder of a Hugging Face cache has several snapshots \(1, 2\)/,
    });
    cache("models--a--none", []);
    await assert.rejects(AutoTokenizer.fromPretrained("a/none"), { code: "ERR_TOKENIZER", message: /did not finish/ });
  });

  test("folders of the working directory come before it", async () => {
    cache("models--lib", ["1"]);
    assert.equal(await findModelFolder("lib", "ERR_CHECKPOINT"), path.resolve("lib"));
    assert.equal(await findModelFolder(demoModel, "ERR_CHECKPOINT"), path.resolve(demoModel));
  });

  test("names of the Hub, and paths", () => {
    for (const name of ["facebook/opt-125m", "gpt2", "meta-llama/Llama-3.1-8B", "a/b_c.d"])
      assert.ok(isHubName(name), name);
    for (const name of ["./a/b", "../a", "/a/b", "~/a", "a/b/c", "a/", "a\\b", "a/..", ""])
      assert.ok(!isHubName(name), name);
  });
});

describe("what is no model folder is named, with what to do", () => {
  const cases: [what: string, files: Record<string, string>, message: RegExp][] = [
    ["GGUF", { "model.Q4_K_M.gguf": "GGUF" }, /model\.Q4_K_M\.gguf \(GGUF\)\. That is llama\.cpp's format\. Take/],
    [
      "LoRA",
      { "adapter_config.json": "{}", "adapter_model.safetensors": "" },
      /adapter \(LoRA\).*as adapter \(--adapter\)/,
    ],
    ["ONNX", { "onnx/model.onnx": "", "tokenizer.json": "{}" }, /onnx \(ONNX\)\. Take the model's original checkpoint/],
    ["diffusers", { "model_index.json": "{}", "unet/config.json": "{}" }, /a diffusers pipeline/],
    ["Meta's own", { "params.json": "{}", "consolidated.00.pth": "" }, /of the original code.*convert it/],
    ["a folder above", { "weights/config.json": "{}" }, /its folder weights has one\. Give \/.*\/weights/],
    [
      "several models of a cache",
      { "models--a--b/refs/main": "", "models--c/refs/main": "" },
      /Give one of them: a\/b, c/,
    ],
    ["others", { "notes.txt": "" }, /has no config\.json, but notes\.txt/],
    ["nothing", {}, /it is empty/],
  ];
  for (const [what, files, message] of cases) {
    test(what, async () => {
      const target = write(files);
      await assert.rejects(AutoConfig.fromPretrained(path.relative(process.cwd(), target)), (error: Error) => {
        assert.ok(error.message.startsWith(`${target}: expected a Hugging Face model folder, but `), error.message);
        assert.match(error.message, message);
        return true;
      });
    });
  }

  test("files", async () => {
    const target = write({ "m.bin": "GGUF\x03", "x.gguf": "", "model.safetensors": "", "m.mar": "", "a.txt": "" });
    const shown = (name: string) => describeForeignModel(path.join(target, name));
    assert.match(await shown("m.bin"), /it is a file: GGUF/);
    assert.match(await shown("x.gguf"), /it is a file: GGUF/);
    assert.equal(
      await shown("model.safetensors"),
      `it is not a folder but one file of a model. Give its folder, ${target}`,
    );
    assert.match(await shown("m.mar"), /an archive\. Open it with openModel\(\)/);
    assert.equal(await shown("a.txt"), "it is not a folder");
    execFileSync("mkfifo", [path.join(target, "pipe")]);
    assert.equal(await shown("pipe"), "it is a pipe");
  });

  test("paths that are not there: ~ and names of the Hub", async () => {
    assert.match(describeMissingFolder("~/models/x"), /Only shells expand ~: give \/.*\/models\/x$/);
    const message = describeMissingFolder("mistralai/Mistral-7B-v0.1");
    assert.ok(message.includes(`in the Hugging Face cache ${hub}. Nothing is downloaded`), message);
    assert.match(message, /`hf download mistralai\/Mistral-7B-v0\.1` puts it into that cache$/);
    await assert.rejects(AutoTokenizer.fromPretrained("a/b-c"), {
      code: "ERR_TOKENIZER",
      message: /hf download a\/b-c/,
    });
  });
});
