// Runs the compiled tests under other versions of Node, from the npm packages node-<platform>-<arch>:
//   node scripts/test_node.mjs VERSIONS [--short] [options and parts of file names, as test/run.mjs takes them]
//   node scripts/test_node.mjs 24              all tests under the newest Node 24
//   node scripts/test_node.mjs 22,24,26 --short    under each, the tests that see most of what differs between versions of Node
// Short ones run as many versions at a time as there are processors: their files run one at a time, and mostly keep one busy.
// The versions are kept in .cache/node. dist/, build/ and build-test/ are made before, by any Node: the addon is the same for all.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { findNode } from "./node_version.mjs";

const root = path.resolve(import.meta.dirname, "..");

/** Packaging and module hooks, handlers in every form, the engine's calls, worker threads. */
const shortList = ["package/", "handler/", "engine/lifecycle", "engine/failure", "engine/module_generate", "cli/usage"];

const [versions = "", ...rest] = process.argv.slice(2);
if (!/^\d+(\.\d+)*(,\d+(\.\d+)*)*$/.test(versions)) {
  console.error("Usage: npm run test:node -- 24[,26...] [--short] [options of test/run.mjs]");
  process.exit(2);
}
const isShort = rest.includes("--short");
const args = [...rest.filter((one) => one !== "--short"), ...(isShort ? shortList : [])];

/** Runs the tests under this Node; what they say is shown at once, or where others run beside them, when they have ended. */
async function testUnder(executable, isAlone) {
  const { stdout } = spawnSync(executable, ["--version"], { encoding: "utf8" });
  const title = `\nTests under Node ${stdout.trim()}`;
  if (isAlone) console.log(title);
  // Programs that tests start by name are of this version too.
  const env = { ...process.env, PATH: `${path.dirname(executable)}${path.delimiter}${process.env.PATH}` };
  const stdio = ["ignore", isAlone ? "inherit" : "pipe", "inherit"];
  const child = spawn(executable, [path.join(root, "test/run.mjs"), ...args], { stdio, env });
  const [output, [status]] = await Promise.all([child.stdout ? text(child.stdout) : "", once(child, "close")]);
  if (!isAlone) console.log(`${title}\n${output}`);
  if (status !== 0) process.exitCode = 1;
}

// Installed one after the other: npm's processes share a cache.
const executables = versions.split(",").map(findNode);
const atATime = isShort ? Math.min(availableParallelism(), executables.length) : 1;
const work = async () => {
  for (let next = executables.shift(); next; next = executables.shift()) await testUnder(next, atATime === 1);
};
await Promise.all(Array.from({ length: atATime }, work));
