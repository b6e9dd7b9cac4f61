// Runs the compiled tests under other versions of Node, from the npm packages node-<platform>-<arch>:
//   node scripts/test_node.mjs VERSIONS [--short] [options and parts of file names, as test/run.mjs takes them]
//   node scripts/test_node.mjs 24              all tests under the newest Node 24
//   node scripts/test_node.mjs 22,24,26 --short    under each, the tests that see most of what differs between versions of Node
// The versions are kept in .cache/node. dist/, build/ and build-test/ are made before, by any Node: the addon is the same for all.
import { spawnSync } from "node:child_process";
import path from "node:path";
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
for (const version of versions.split(",")) {
  const executable = findNode(version);
  const { stdout } = spawnSync(executable, ["--version"], { encoding: "utf8" });
  console.log(`\nTests under Node ${stdout.trim()}`);
  // Programs that tests start by name are of this version too.
  const env = { ...process.env, PATH: `${path.dirname(executable)}${path.delimiter}${process.env.PATH}` };
  const { status } = spawnSync(executable, [path.join(root, "test/run.mjs"), ...args], { stdio: "inherit", env });
  if (status !== 0) process.exitCode = 1;
}
