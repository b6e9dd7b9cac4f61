import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { root } from "./native_build.js";

// Which toolkit is taken, and what is said where there is none. That a fetched one compiles is seen in nvcc.test.ts.

function makeToolkit(folder: string, version: string): string {
  const bin = path.join(folder, `cuda-${version}`, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(
    path.join(bin, "nvcc"),
    `#!/bin/sh\necho "Cuda compilation tools, release ${version}, V${version}.1"\n`,
  );
  chmodSync(path.join(bin, "nvcc"), 0o755);
  return bin;
}

function cudaToolkit(folder: string, args: string[], environment: NodeJS.ProcessEnv = {}) {
  const env = { ...process.env, SHARDSPEED_CUDA_CACHE: path.join(folder, "cache"), ...environment };
  return spawnSync(process.execPath, ["scripts/cuda_toolkit.mjs", ...args], { cwd: root, encoding: "utf8", env });
}

test("an installed toolkit is taken by its version: a recent one, or one of CUDA 12 for older drivers", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "toolkits-"));
  const bins = ["12.2", "12.4", "12.9", "13.1"].map((version) => makeToolkit(folder, version));
  const found = (order: (string | undefined)[], args: string[]) => {
    const PATH = [...order, "/usr/bin", "/bin"].join(path.delimiter);
    const environment = { PATH, CUDACXX: "", CUDA_HOME: "", CUDA_PATH: "" };
    const { status, stdout, stderr } = cudaToolkit(folder, ["--prefer-system", ...args], environment);
    assert.equal(status, 0, stderr);
    return path.relative(folder, stdout.trim());
  };
  assert.equal(found(bins, []), "cuda-12.9");
  assert.equal(found(bins.toReversed(), []), "cuda-13.1");
  assert.equal(found(bins, ["--cuda", "12"]), "cuda-12.4");
  assert.equal(found(bins.toReversed(), ["--cuda", "12"]), "cuda-12.9");
});

test("what is missing to fetch one is named, and nothing half made stays", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "toolkits-"));
  const unknown = cudaToolkit(folder, ["--cuda", "11"]);
  assert.deepEqual([unknown.status, unknown.stderr.trim()], [1, '--cuda: found "11", expected 12 or 13.']);
  const { status, stderr } = cudaToolkit(folder, ["--cuda", "12"], { PATH: "/nowhere" });
  assert.equal(status, 1);
  assert.match(
    stderr,
    /apt-get was not found .* It is needed to fetch the compiler of CUDA 12 from Debian; or install/,
  );
  assert.deepEqual(readdirSync(path.join(folder, "cache")), []);
});
