// Every check of form, each run even when one before it failed. Needs dist/ (npm run lint builds it).
//   node scripts/lint.mjs [biome] [clang-format] [publint] [attw]    names choose some of them
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const bin = path.join(root, "node_modules", ".bin");
const chosen = process.argv.slice(2);
const failed = [];

function check(name, command, args) {
  if (chosen.length > 0 && !chosen.includes(name)) return;
  console.log(`lint: ${name}`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (error) console.error(error.message);
  if (status !== 0) failed.push(name);
}

function nativeSources() {
  return ["src", "binding", "cuda", "test", "bench"]
    .filter((folder) => existsSync(path.join(root, folder)))
    .flatMap((folder) =>
      readdirSync(path.join(root, folder), { recursive: true })
        .filter((file) => /\.(h|cpp|inc|cu|cuh)$/.test(file))
        .map((file) => path.join(folder, file)),
    );
}

/** Not `attw --pack`: it packs into the checkout, over a tarball of that name that was there, and deletes it. */
function checkPackedTypes() {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-lint-"));
  try {
    check("npm pack", "npm", ["pack", "--silent", "--pack-destination", folder]);
    const tarballs = readdirSync(folder).map((name) => path.join(folder, name));
    if (tarballs.length > 0) check("attw", path.join(bin, "attw"), [...tarballs, "--profile", "esm-only"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

check("biome", path.join(bin, "biome"), ["check", "--error-on-warnings"]);
if (spawnSync("clang-format", ["--version"]).error) {
  console.log("lint: clang-format skipped, it is not installed (Debian, Ubuntu: apt install clang-format)");
} else {
  check("clang-format", "clang-format", ["--dry-run", "--Werror", ...nativeSources()]);
}
check("publint", path.join(bin, "publint"), ["--strict"]);
checkPackedTypes();

if (failed.length > 0) {
  console.error(`lint: failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}
