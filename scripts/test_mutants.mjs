// Sows the faults of test/mutants/*.json one at a time into a copy of the checkout, and says which of them the tests that are
// named beside them find. Exits with 1 where less than 95 % of the observable ones are found, or one cannot be sown.
//   node scripts/test_mutants.mjs [FILE...]     those in files with one of these in their path; without FILE all
//   --list                                      only lists them, and what is wrong with them
//   --json                                      prints one JSON object instead of a table
// A fault whose test fails, or does not end in time, is found. One of lib/ is compiled without its types.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import ts from "typescript";
import { outputOf, prepareScratch, runInScratch, scratch, stopRunning } from "./mutants/scratch.mjs";
import { createTestFinder, isUnitTest, problemOf, readSeeds } from "./mutants/seeds.mjs";

const leastShare = 95;
const buildSeconds = 3600;
/** What a test that ends gets at least, on a busy machine too. */
const leastSeconds = 30;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { list: { type: "boolean", default: false }, json: { type: "boolean", default: false } },
});

const seeds = readSeeds(positionals);
if (seeds.length === 0) {
  console.error(`No seeded fault is in a file named ${positionals.join(", ")}`);
  process.exit(2);
}
const hasTest = createTestFinder();
const rows = seeds.map((seed) => ({ ...seed, problem: problemOf(seed, hasTest) }));

const targetOf = { native: "native_tests", cuda: "cuda_tests", typescript: "shardspeed" };

/** The program that runs the test of a seed. */
function testCommand({ suite, test }) {
  if (suite === "typescript") return [process.execPath, "test/run.mjs", ...test.split(",")];
  return [path.join(scratch, "build", "test", "native", targetOf[suite]), "--filter", test];
}

/** Builds everything that the tests of these seeds need, as in the checkout. */
async function buildUnchanged(sown) {
  const scripts = [];
  const typescript = sown.filter(({ suite }) => suite === "typescript");
  if (typescript.length > 0) scripts.push(["scripts/compile.mjs", "test/tsconfig.json"]);
  for (const suite of ["native", "cuda"])
    if (sown.some((seed) => seed.suite === suite))
      scripts.push(["scripts/build_native.mjs", "--target", targetOf[suite]]);
  if (typescript.some(({ test }) => !isUnitTest(test))) scripts.push(["scripts/build_native.mjs"]);
  for (const script of scripts) {
    const { status, output } = await runInScratch(process.execPath, script, buildSeconds);
    if (status === 0) continue;
    console.error(`${output}\n${script.join(" ")} failed without any fault.`);
    process.exit(1);
  }
}

/** How long each named test takes without a fault, by suite and name; a test that fails then finds nothing. */
async function runUnchanged(sown) {
  const secondsOf = new Map();
  for (const seed of sown) {
    const key = `${seed.suite} ${seed.test}`;
    if (secondsOf.has(key)) continue;
    const [command, ...args] = testCommand(seed);
    const { status, seconds, output } = await runInScratch(command, args, 600);
    if (status !== 0) {
      console.error(`${output}\nWithout any fault, ${key} fails: nothing can be said about its faults.`);
      process.exit(1);
    }
    console.error(`unchanged      ${key} ${seconds.toFixed(1)} s`);
    secondsOf.set(key, seconds);
  }
  return secondsOf;
}

/** Compiles what a fault is in. A file of lib/ alone and without its types, which takes no time; undefined: it is done. */
async function compileFault({ file, suite }, text) {
  if (file.endsWith(".ts")) {
    const compilerOptions = {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
    };
    const { outputText, diagnostics } = ts.transpileModule(text, { compilerOptions, reportDiagnostics: true });
    writeFileSync(outputOf(file), outputText);
    return diagnostics.length === 0 ? undefined : ts.flattenDiagnosticMessageText(diagnostics[0].messageText, "\n");
  }
  const args = ["--build", path.join(scratch, "build"), "--parallel", "--target", targetOf[suite]];
  const { status, output } = await runInScratch("cmake", args, buildSeconds);
  return status === 0 ? undefined : output;
}

/** Puts a fault in its place, runs its test, and takes it out again. */
async function sow(seed, usual) {
  const file = path.join(scratch, seed.file);
  const sound = readFileSync(file, "utf8");
  const faulty = sound.replace(seed.before, () => seed.after);
  writeFileSync(file, faulty);
  try {
    const problem = await compileFault(seed, faulty);
    // A mistake in the seed, not a fault that was found.
    if (problem !== undefined) return { result: "does not build", problem };
    const [command, ...args] = testCommand(seed);
    const { status, timedOut, seconds } = await runInScratch(command, args, Math.max(leastSeconds, 10 * usual));
    return { result: status === 0 ? "survived" : "found", timedOut, seconds };
  } finally {
    // The source last: where it differs, the next run knows that its output does.
    if (file.endsWith(".ts")) await compileFault(seed, sound);
    writeFileSync(file, sound);
  }
}

function columns({ file, name, kind, suite, test }) {
  return `${file.padEnd(40)} ${kind.padEnd(23)} ${name.padEnd(64)} ${suite} ${test}`;
}

function show(row) {
  if (options.json) return;
  const time = row.seconds === undefined ? "" : `${row.seconds.toFixed(1)} s${row.timedOut ? ", did not end" : ""}`;
  const result = row.result === undefined ? "" : `${row.result.padEnd(14)} `;
  console.log(`${result}${columns(row)} ${time}`.trimEnd());
  if (row.problem !== undefined) console.log(`    ${row.problem}`);
}

/** Counts the results; exits with 1 where they do not suffice. */
function sum() {
  const count = (result) => rows.filter((row) => row.result === result).length;
  const [found, survived, unobservable] = ["found", "survived", "unobservable"].map(count);
  const unusable = rows.length - found - survived - unobservable;
  const share = found + survived === 0 ? 100 : (100 * found) / (found + survived);
  if (options.json) {
    const results = rows.map(({ before, after, list, ...row }) => row);
    console.log(JSON.stringify({ found, survived, unobservable, unusable, share, seeds: results }, null, 2));
  } else {
    console.log(
      `\n${rows.length} faults: ${found} found, ${survived} survived, ${unobservable} not observable, ` +
        `${unusable} not usable. Found of the observable ones: ${share.toFixed(1)} %, expected at least ${leastShare} %`,
    );
  }
  if (share < leastShare || unusable > 0) process.exitCode = 1;
}

async function runAll() {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.once(signal, () => {
      stopRunning("SIGTERM");
      process.exit(130);
    });
  }
  prepareScratch();
  const sown = rows.filter(({ problem, unobservable }) => problem === undefined && unobservable === undefined);
  await buildUnchanged(sown);
  const secondsOf = await runUnchanged(sown);
  for (const row of rows) {
    if (row.problem !== undefined) row.result = "not applicable";
    else if (row.unobservable !== undefined) row.result = "unobservable";
    else Object.assign(row, await sow(row, secondsOf.get(`${row.suite} ${row.test}`)));
    show(row);
  }
  sum();
}

if (options.list) {
  if (options.json) console.log(JSON.stringify(rows, null, 2));
  else rows.forEach(show);
  if (rows.some(({ problem }) => problem !== undefined)) process.exitCode = 1;
} else {
  await runAll();
}
