import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { buildForDriver } from "../../dist/native/driver_build.js";

// Which of the package's addons is loaded beside a driver.

const closed = (version: string) =>
  `NVRM version: NVIDIA UNIX x86_64 Kernel Module  ${version}  Sat Aug 19 01:15:15 UTC 2023\nGCC version:\n`;
const open = (version: string) =>
  `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${version}  Release Build\n`;

function addon(...places: string[]): string {
  const file = path.join(...places);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, "");
  return file;
}

test("an older driver gets the build with CUDA 12, where there is one", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "prebuilds-"));
  const usual = addon(folder, "prebuilds", "linux-x64", "shardspeed.glibc.node");
  const older = path.join(folder, "prebuilds", "linux-x64-cuda12", "shardspeed.glibc.node");
  assert.equal(buildForDriver(usual, closed("535.104.05")), usual, "there is none");
  addon(older);
  for (const version of ["525.60.13", "535.104.05", "570.86.15", "579.1"]) {
    assert.equal(buildForDriver(usual, closed(version)), older, version);
    assert.equal(buildForDriver(usual, open(version)), older, version);
  }
  for (const version of ["580.65.06", "595.12", "1000.1"]) {
    assert.equal(buildForDriver(usual, closed(version)), usual, version);
    assert.equal(buildForDriver(usual, open(version)), usual, version);
  }
  // No driver, or one that says it otherwise.
  for (const version of ["", "NVRM version: unknown"]) assert.equal(buildForDriver(usual, version), usual);
});

test("an addon that was built here is taken as it is", () => {
  const folder = mkdtempSync(path.join(tmpdir(), "prebuilds-"));
  const built = addon(folder, "build", "Release", "shardspeed.node");
  addon(folder, "build", "Release-cuda12", "shardspeed.node");
  assert.equal(buildForDriver(built, closed("535.104.05")), built);
});
