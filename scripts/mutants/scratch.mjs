// A copy of the checkout in .cache/mutants, in which faults are sown: the checkout itself is never changed, whatever ends
// the run. The copy and its build folders stay, so that the next run compiles what has changed only.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { root } from "./seeds.mjs";

export const scratch = path.join(root, ".cache", "mutants");
const lock = `${scratch}.pid`;
const built = new Set(["build", "build-test", "dist", "node_modules"]);
// Biome refuses a second configuration below the first.
const leftOut = new Set(["biome.json"]);

/** With ccache, files that are sound again need not be compiled again, nor those that the checkout has compiled. */
function environment() {
  if (spawnSync("ccache", ["--version"]).error !== undefined) return process.env;
  return { CMAKE_CXX_COMPILER_LAUNCHER: "ccache", CCACHE_BASEDIR: root, CCACHE_NOHASHDIR: "1", ...process.env };
}

const env = environment();

/** The program that is running, in a process group of its own. */
let child;

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Two runs in one copy would sow into each other's builds. */
function takeLock() {
  mkdirSync(path.dirname(lock), { recursive: true });
  const holder = existsSync(lock) ? Number(readFileSync(lock, "utf8")) : 0;
  if (holder > 0 && isAlive(holder)) {
    console.error(`Process ${holder} runs faults in ${scratch} already. Wait for its end.`);
    process.exit(2);
  }
  writeFileSync(lock, String(process.pid));
  process.on("exit", () => rmSync(lock, { force: true }));
}

function listFiles() {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { status, stdout, stderr } = spawnSync("git", args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`git ls-files failed: ${stderr}`);
  // A file that was deleted is still listed, and so is a link to another checkout's node_modules.
  const isFile = (name) => lstatSync(path.join(root, name), { throwIfNoEntry: false })?.isFile();
  return stdout.split("\0").filter((name) => name !== "" && !leftOut.has(name) && isFile(name));
}

/** The files of the copy, without what was built in it. */
function filesBelow(folder) {
  return readdirSync(path.join(scratch, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}${entry.name}`;
    if (built.has(name)) return [];
    return entry.isDirectory() ? filesBelow(`${name}/`) : [name];
  });
}

/** The compiled form of a file of lib/; undefined for others. */
export function outputOf(name) {
  const [, module] = /^lib\/(.*)\.ts$/.exec(name) ?? [];
  return module === undefined ? undefined : path.join(scratch, "dist", `${module}.js`);
}

/** Writes the files whose bytes differ, and removes those that the checkout does not have: other times stay as they are. */
export function prepareScratch() {
  takeLock();
  mkdirSync(scratch, { recursive: true });
  const files = listFiles();
  const wanted = new Set(files);
  for (const name of filesBelow("")) if (!wanted.has(name)) rmSync(path.join(scratch, name));
  for (const name of files) {
    const content = readFileSync(path.join(root, name));
    const copy = path.join(scratch, name);
    if (existsSync(copy) && readFileSync(copy).equals(content)) continue;
    mkdirSync(path.dirname(copy), { recursive: true });
    writeFileSync(copy, content);
    // A run that was interrupted has left its fault there too, and tsc does not write an output again whose source it knows.
    const output = outputOf(name);
    if (output !== undefined) rmSync(output, { force: true });
  }
  const modules = path.join(scratch, "node_modules");
  if (!existsSync(modules)) symlinkSync(path.join(root, "node_modules"), modules, "dir");
}

/** Ends what runs, with all processes that it has started: ninja ends its compilers itself where it is asked to end. */
export function stopRunning(signal) {
  if (child === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

/** Runs a program in the copy, for at most so many seconds. */
export function runInScratch(command, args, seconds) {
  return new Promise((resolve) => {
    const start = performance.now();
    child = spawn(command, args, { cwd: scratch, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const keep = (chunk) => {
      output = (output + chunk).slice(-20_000);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      stopRunning("SIGKILL");
    }, seconds * 1000);
    const end = (status, problem) => {
      clearTimeout(timer);
      child = undefined;
      resolve({ status, timedOut, output: output + problem, seconds: (performance.now() - start) / 1000 });
    };
    child.on("error", (error) => end(null, String(error)));
    // A process that it leaves behind may hold its outputs open: what counts is its own end.
    child.on("exit", (status) => setImmediate(end, status, ""));
  });
}
