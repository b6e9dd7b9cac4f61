// Runs the compiled tests: node test/run.mjs [options] [part of a file name...]
//   --name PATTERN      only tests whose name matches this regular expression
//   --unit              only the files that need no addon, X.unit.test.ts
//   --times             which files took longest
//   --concurrency N     how many files that need the addon run at a time
//   --timeout SECONDS   for a file: a test that hangs becomes a failure with a name
// Node 20 knows no globs in --test, and what a folder means to it changed with Node 22: so the files are listed here.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { availableParallelism, constants, setPriority } from "node:os";
import path from "node:path";
import process from "node:process";
import { Readable } from "node:stream";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    name: { type: "string" },
    unit: { type: "boolean", default: false },
    times: { type: "boolean", default: false },
    // One file at a time: engines use every processor, and tests of latency should not see a neighbour's load.
    concurrency: { type: "string", default: "1" },
    timeout: { type: "string", default: "2400" },
  },
});

// Where a test runs this program, the tests run here are its own all the same.
delete process.env.NODE_TEST_CONTEXT;

const folder = path.resolve(import.meta.dirname, "../build-test");
const isUnit = (file) => file.endsWith(".unit.test.js");
const files = readdirSync(folder, { recursive: true })
  .filter((file) => file.endsWith(".test.js"))
  .filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)))
  .filter((file) => !values.unit || isUnit(file))
  .sort()
  .map((file) => path.join(folder, file));
if (files.length === 0) {
  console.error(`No test file in ${folder} matches ${positionals.join(", ") || "*.test.js"}`);
  process.exit(1);
}

/** How many tests passed, were skipped and so on, over all runs. */
const totals = new Map();
const secondsByFile = new Map();
let failures = 0;
let matches = 0;

/** Node's reason for a test that --name leaves out: it is neither shown nor counted. */
const isLeftOut = ({ skip }) => skip === "test name does not match pattern";

/** The events without tests that --name leaves out and suites that have no others: a start is held until one passes or fails. */
async function* withoutLeftOut(events) {
  const held = [];
  for await (const event of events) {
    const isEnd = event.type === "test:pass" || event.type === "test:fail";
    if (event.type === "test:start") {
      held.push(event);
    } else if (isEnd && isLeftOut(event.data)) {
      held.pop();
      for (const name of ["tests", "skipped"]) totals.set(name, (totals.get(name) ?? 0) - 1);
    } else if (
      event.type === "test:pass" &&
      event.data.details.type === "suite" &&
      held.length > 0 &&
      values.name !== undefined
    ) {
      held.pop();
      totals.set("suites", (totals.get("suites") ?? 0) - 1);
    } else if (isEnd) {
      yield* held.splice(0);
      yield event;
    } else if (event.type !== "test:plan") {
      yield event;
    }
  }
}

/** The events of one run, without the counts at its end, which are added up. */
async function* runFiles(files, concurrency) {
  if (files.length === 0) return;
  const timeout = Number(values.timeout) * 1000;
  const options = { files, concurrency, timeout, testNamePatterns: values.name };
  for await (const event of withoutLeftOut(run(options))) {
    const { type, data } = event;
    const isFile = data.file !== undefined && path.resolve(data.name ?? "") === data.file;
    if (isFile && type === "test:complete") secondsByFile.set(data.file, data.details.duration_ms / 1000);
    const count = type === "test:diagnostic" && data.file === undefined && /^(\w+) ([\d.]+)$/.exec(data.message);
    if (count) totals.set(count[1], (totals.get(count[1]) ?? 0) + Number(count[2]));
    if (count) continue;
    if (type === "test:fail" && (data.todo === undefined || data.todo === false)) failures++;
    // A file that has no test of that name is itself reported as a test that passed.
    if ((type === "test:pass" || type === "test:fail") && data.details.type !== "suite" && !isFile) matches++;
    yield event;
  }
}

/** Files that run C++ under sanitizers, whose builds take many minutes. */
const isSanitized = (file) => /\bnative\b.(native|cuda_address|cuda_thread)\.test\.js$/.test(file);

/**
 * Builds what those need while tests run one file at a time, which mostly leave a processor idle. With the lowest priority,
 * so that these see nothing of it. Resolves when it is done, well or not.
 */
async function buildAhead() {
  const child = spawn(process.execPath, [path.join(folder, "native/build_ahead.js")], { stdio: "ignore" });
  const kill = () => child.kill();
  process.once("exit", kill);
  if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  await Promise.race([once(child, "close"), once(child, "error")]);
  process.off("exit", kill);
}

async function* runAll() {
  // Two at a time, and with an addon that cannot be loaded: whoever needs one after all is told so in every run.
  const { SHARDSPEED_BINDING: binding } = process.env;
  process.env.SHARDSPEED_BINDING = path.join(folder, "a unit test needs no addon: else name the file X.test.ts");
  yield* runFiles(files.filter(isUnit), availableParallelism());
  if (binding === undefined) delete process.env.SHARDSPEED_BINDING;
  else process.env.SHARDSPEED_BINDING = binding;
  const concurrency = Number(values.concurrency);
  const withAddon = files.filter((file) => !isUnit(file));
  const [last, first] = [true, false].map((wanted) => withAddon.filter((file) => isSanitized(file) === wanted));
  const building = first.length > 0 && last.length > 0 ? buildAhead() : undefined;
  yield* runFiles(first, concurrency);
  await building;
  yield* runFiles(last, concurrency);
  for (const [name, count] of totals) {
    const message = `${name} ${Math.round(count)}`;
    yield { type: "test:diagnostic", data: { nesting: 0, message, level: "info" } };
  }
}

function printTimes() {
  const slowest = [...secondsByFile].sort(([, a], [, b]) => b - a);
  const total = slowest.reduce((sum, [, seconds]) => sum + seconds, 0);
  console.log(`\n${total.toFixed(1)} s in ${slowest.length} files, the longest:`);
  for (const [file, seconds] of slowest.slice(0, 25))
    console.log(`${seconds.toFixed(1).padStart(8)} s  ${path.relative(folder, file)}`);
}

Readable.from(runAll())
  .compose(new spec())
  .on("error", (error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .on("end", () => {
    if (values.times) printTimes();
    if (values.name !== undefined && matches === 0) {
      console.error(`No test's name matches ${values.name}`);
      failures++;
    }
    if (failures > 0) process.exitCode = 1;
  })
  .pipe(process.stdout);
