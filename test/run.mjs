// Runs the compiled tests: node test/run.mjs [--concurrency N] [--timeout SECONDS] [part of a file name...]
// Node 20 knows no globs in --test, and what a folder means to it changed with Node 22: so the files are listed here.
import { readdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    // One file at a time: engines use every processor, and tests of latency should not see a neighbour's load.
    concurrency: { type: "string", default: "1" },
    // For a whole file: a test that hangs becomes a failure with a name.
    timeout: { type: "string", default: "2400" },
  },
});

const folder = path.resolve(import.meta.dirname, "../build-test");
const files = readdirSync(folder, { recursive: true })
  .filter((file) => file.endsWith(".test.js"))
  .filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)))
  .sort()
  .map((file) => path.join(folder, file));
if (files.length === 0) {
  console.error(`No test file in ${folder} matches ${positionals.join(", ") || "*.test.js"}`);
  process.exit(1);
}

let failures = 0;
const concurrency = Number(values.concurrency);
const timeout = Number(values.timeout) * 1000;
run({ files, concurrency, timeout })
  .on("test:fail", ({ todo }) => {
    if (todo === undefined || todo === false) failures++;
  })
  .compose(new spec())
  .on("end", () => {
    if (failures > 0) process.exitCode = 1;
  })
  .pipe(process.stdout);
