import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { totalmem } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { root, run } from "./command.js";

test("doctor reports this machine", async () => {
  const { status, stdout, stderr } = await run(["doctor", "--json"]);
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(stderr, "");
  const report = JSON.parse(stdout);
  const { version } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  assert.equal(report.shardspeed, version);
  assert.equal(report.node.version, process.versions.node);
  assert.equal(report.system.platform, process.platform);
  assert.equal(report.memory.totalBytes, totalmem());
  assert.ok(report.processor.available.includes(report.processor.kernels));
  assert.match(report.addon.path, /\.node$/);
  assert.ok(["local build", "prebuild", "named by SHARDSPEED_BINDING"].includes(report.addon.kind));
  assert.equal(report.addon.error, null);
  assert.equal(report.cuda.usable, false);
  assert.match(report.cuda.reason, /CUDA|NVIDIA/);

  const text = (await run(["doctor"])).stdout;
  for (const name of ["shardspeed", "Node", "System", "Processor", "Kernels", "Memory", "Addon", "CUDA"]) {
    assert.match(text, new RegExp(`^${name} +\\S`, "m"));
  }
});

test("doctor without an addon: exit code 1, and what was tried", async () => {
  const environment = { SHARDSPEED_BINDING: "/nowhere/shardspeed.node" };
  const json = await run(["doctor", "--json"], "", environment);
  assert.equal(json.status, 1);
  const { addon, processor } = JSON.parse(json.stdout);
  assert.match(addon.error, /\/nowhere\/shardspeed\.node/);
  assert.equal(processor.kernels, null);
  const text = await run(["doctor"], "", environment);
  assert.equal(text.status, 1);
  assert.match(text.stdout, /could not be loaded.*\/nowhere\/shardspeed\.node/s);
});
