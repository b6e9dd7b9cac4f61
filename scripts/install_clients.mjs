// Installs the clients and testers of the server that test/serving/clients.test.ts and evaluation.test.ts run, to .cache/clients:
//   node scripts/install_clients.mjs
// From PyPI those of test/clients/requirements.txt and lm_eval.txt (with python3 and venv), from npm the AI SDK and a Node 22, which it needs.
// What cannot be installed is named: the tests that need it are skipped then.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { findNode } from "./node_version.mjs";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, ".cache/clients");
const fromNpm = ["ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "zod@4"];

function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: ["ignore", "ignore", "inherit"], cwd: folder });
  if (error !== undefined || status !== 0)
    throw new Error(`${program} failed: ${error?.message ?? `exit code ${status}`}`);
}

function attempt(what, install, undo) {
  try {
    install();
    console.log(`${what}: installed`);
  } catch (error) {
    undo();
    console.log(`${what}: not installed, tests with it are skipped. ${error.message}`);
  }
}

function attemptPyPi(what, venv, requirements) {
  attempt(
    what,
    () => {
      run("python3", ["-m", "venv", venv]);
      const file = path.join(root, "test/clients", requirements);
      run(path.join(venv, "bin/pip"), ["install", "-q", "--disable-pip-version-check", "-r", file]);
    },
    () => rmSync(venv, { recursive: true, force: true }),
  );
}

mkdirSync(folder, { recursive: true });
attemptPyPi("Clients from PyPI", path.join(folder, "venv"), "requirements.txt");
attemptPyPi("lm-evaluation-harness", path.join(folder, "lm_eval"), "lm_eval.txt");
attempt(
  "Clients from npm",
  () => {
    writeFileSync(path.join(folder, "package.json"), "{}\n");
    run("npm", [
      "install",
      "--no-save",
      "--no-package-lock",
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      ...fromNpm,
    ]);
    findNode("22");
  },
  () => rmSync(path.join(folder, "node_modules"), { recursive: true, force: true }),
);
