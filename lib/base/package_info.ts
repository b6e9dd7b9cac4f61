import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder that package.json is in, of the installed package or of a checkout. */
export const packageRoot: string = fileURLToPath(new URL("../..", import.meta.url));

/** shardspeed's own version, and the versions of Node that it supports, from package.json. */
export function readPackageInfo(): { version: string; engines: { node: string } } {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
}
