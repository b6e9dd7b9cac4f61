import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const name = `node-${process.platform}-${process.arch}`;

/** Where the executable of a version is kept. */
export function placeOfNode(version) {
  return path.join(root, ".cache/node", version, "node_modules", name, "bin/node");
}

/** The executable of the newest version that a range such as 24 or 22.18 has, installed where it is not there yet. */
export function findNode(version) {
  const executable = placeOfNode(version);
  if (existsSync(executable)) return executable;
  const folder = path.join(root, ".cache/node", version);
  mkdirSync(folder, { recursive: true });
  const args = ["install", "--prefix", folder, "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit"];
  const { status } = spawnSync("npm", [...args, "--no-fund", `${name}@${version}`], { stdio: "inherit" });
  if (status !== 0 || !existsSync(executable)) throw new Error(`npm has no ${name}@${version} that can be installed`);
  return executable;
}
