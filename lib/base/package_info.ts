import { readFileSync } from "node:fs";
import nodeModule from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ShardspeedError } from "./errors.js";

interface PackageInfo {
  name?: string;
  version: string;
  engines: { node: string };
}

let found: { root: string; info: PackageInfo } | undefined;

/**
 * Looked for at the first call, not where this module is loaded: a bundler puts it into a file from where nothing can be found, or gives it
 * no URL at all, and whoever calls is told so. Not `new URL("..", import.meta.url)`, which webpack takes for a file to copy.
 */
function findPackage(): { root: string; info: PackageInfo } {
  if (found !== undefined) return found;
  const url: string | undefined = import.meta.url;
  const root = url?.startsWith("file:") ? path.resolve(fileURLToPath(url), "../../..") : undefined;
  const info = root === undefined ? undefined : readInfo(path.join(root, "package.json"));
  if (root === undefined || info?.name !== "shardspeed") {
    const file = url === undefined ? "" : ` (${url})`;
    throw new ShardspeedError(
      "ERR_NATIVE",
      `shardspeed has been bundled into another file${file}, from where its native addon cannot be found. Keep it external, so that it is ` +
        "loaded from node_modules: esbuild --external:shardspeed, webpack externals, Vite ssr.external, Next.js serverExternalPackages. " +
        "See docs/bundlers.md.",
    );
  }
  found = { root, info };
  return found;
}

function readInfo(file: string): PackageInfo | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** The folder that package.json is in, of the installed package or of a checkout. @throws ShardspeedError ERR_NATIVE within a bundle */
export function packageRoot(): string {
  return findPackage().root;
}

/** shardspeed's own version, and the versions of Node that it supports, from package.json. @throws ShardspeedError ERR_NATIVE within a bundle */
export function readPackageInfo(): PackageInfo {
  return findPackage().info;
}

/** require() as a module of this package has it, for addons and for what is loaded late. @throws ShardspeedError ERR_NATIVE within a bundle */
export function packageRequire(name: string): unknown {
  return nodeModule.createRequire(path.join(packageRoot(), "package.json"))(name);
}
