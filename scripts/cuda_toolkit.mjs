// Finds or fetches a CUDA toolkit that compiles cuda/, and prints its root, where bin/nvcc is. What it fetches are NVIDIA's
// own packages on PyPI, some 320 MB unpacked, into a folder that stays. A compiler needs no GPU and no driver.
//   node scripts/cuda_toolkit.mjs [--prefer-system] [--with cublas,nccl]
// --prefer-system: an installed toolkit is taken where there is one that is new enough. --with: the headers of these
// libraries too (their packages are hundreds of megabytes; only headers are kept).
// The folder: SHARDSPEED_CUDA_CACHE, default .cache/cuda in the checkout.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const packages = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
  "nvidia-cuda-sanitizer-api==13.0.85",
];
const headerPackages = { cublas: "nvidia-cublas==13.0.2.14", nccl: "nvidia-nccl-cu13==2.28.9" };
// The first that knows sm_100, sm_120 and --compress-mode.
const oldestMajor = 12;
const oldestMinor = 8;

const root = path.resolve(import.meta.dirname, "..");
export const cache = path.resolve(process.env.SHARDSPEED_CUDA_CACHE || path.join(root, ".cache", "cuda"));

export class ToolkitError extends Error {}

/** "13.0" of the nvcc in this toolkit; undefined where there is none that runs. */
function nvccVersion(toolkit) {
  const nvcc = path.join(toolkit, "bin", "nvcc");
  const { status, stdout } = spawnSync(nvcc, ["--version"], { encoding: "utf8" });
  return status === 0 ? /release (\d+\.\d+)/.exec(stdout)?.[1] : undefined;
}

function isNewEnough(version) {
  const [major, minor] = version.split(".").map(Number);
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}

/** Root of an installed toolkit that is new enough, or undefined. */
export function systemToolkit() {
  const { CUDACXX, CUDA_HOME, CUDA_PATH, PATH = "" } = process.env;
  const candidates = [
    CUDACXX && path.resolve(path.dirname(CUDACXX), ".."),
    CUDA_HOME,
    CUDA_PATH,
    ...PATH.split(path.delimiter).map((folder) => path.resolve(folder, "..")),
    "/usr/local/cuda",
  ];
  return candidates.find((candidate) => {
    if (!candidate || !existsSync(path.join(candidate, "bin", "nvcc"))) return false;
    const version = nvccVersion(candidate);
    return version !== undefined && isNewEnough(version);
  });
}

export function runPython(args, task) {
  const { status, error, stdout, stderr } = spawnSync("python3", args, { encoding: "utf8", maxBuffer: 1 << 26 });
  if (error) throw new ToolkitError(`python3 was not found (${error.message}). It is needed to ${task}.`);
  if (status === 0) return;
  if (/No module named pip/.test(stderr))
    throw new ToolkitError(`python3 has no pip, which is needed to ${task} (Debian, Ubuntu: apt install python3-pip).`);
  const reason = `${stdout}${stderr}`.trim().split("\n").slice(-6).join("\n");
  throw new ToolkitError(`pip could not ${task}. Is the package index reachable? It said:\n${reason}`);
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Runs body while no other process does, in this cache. A lock whose holder is gone is taken over. */
function locked(body) {
  mkdirSync(cache, { recursive: true });
  const lock = path.join(cache, "lock");
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    let holder = 0;
    try {
      holder = Number(readFileSync(lock, "utf8"));
    } catch {
      continue; // It was given back just now.
    }
    // An empty file is a holder that has not written its number yet.
    if (holder > 0 && !isAlive(holder)) rmSync(lock, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250);
  }
  try {
    return body();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** Makes folder by make(temporary folder) unless it is there; a folder that is there is complete. */
export function once(folder, make) {
  if (existsSync(folder)) return;
  locked(() => {
    if (existsSync(folder)) return;
    const temporary = `${folder}.part`;
    rmSync(temporary, { recursive: true, force: true });
    mkdirSync(temporary, { recursive: true });
    try {
      make(temporary);
      renameSync(temporary, folder);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  });
}

export const pipOptions = [
  "--disable-pip-version-check",
  "--no-input",
  "--quiet",
  "--no-deps",
  "--only-binary",
  ":all:",
];

/** Root of the fetched toolkit, fetched now unless it has been. Throws ToolkitError. */
export function fetchedToolkit() {
  const listHash = createHash("sha256").update(packages.join()).digest("hex").slice(0, 8);
  const folder = path.join(cache, `toolkit-${listHash}`);
  const toolkit = path.join(folder, "nvidia", "cu13");
  once(folder, (temporary) => {
    process.stderr.write("Fetching the CUDA compiler ... ");
    const began = performance.now();
    const args = ["-m", "pip", "install", ...pipOptions, "--no-compile", "--target", temporary, ...packages];
    runPython(args, "fetch the CUDA compiler from PyPI");
    const made = path.join(temporary, "nvidia", "cu13");
    // nvcc and CMake look for the libraries where an installed toolkit has them.
    if (!existsSync(path.join(made, "lib64"))) symlinkSync("lib", path.join(made, "lib64"));
    const version = nvccVersion(made);
    if (!version) throw new ToolkitError(`The nvcc fetched does not run on this machine (${process.arch}).`);
    process.stderr.write(`${version}, ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
  });
  return toolkit;
}

/** Folder with the headers of a library, "cublas" or "nccl". Throws ToolkitError. */
export function fetchedHeaders(library) {
  const wanted = headerPackages[library];
  if (!wanted)
    throw new ToolkitError(`--with: found "${library}", expected ${Object.keys(headerPackages).join(" or ")}.`);
  const folder = path.join(cache, `${wanted.replace("==", "-")}-headers`);
  const extract = [
    "import glob, os, sys, zipfile",
    "for wheel in glob.glob(sys.argv[1] + '/*.whl'):",
    "  with zipfile.ZipFile(wheel) as archive:",
    "    for entry in archive.namelist():",
    "      if '/include/' in entry and entry.endswith(('.h', '.hpp')):",
    "        with open(os.path.join(sys.argv[1], os.path.basename(entry)), 'wb') as out: out.write(archive.read(entry))",
    "  os.remove(wheel)",
  ].join("\n");
  once(folder, (temporary) => {
    process.stderr.write(`Fetching the headers of ${wanted} (the whole package is downloaded) ...\n`);
    const task = `fetch ${wanted} from PyPI`;
    runPython(["-m", "pip", "download", ...pipOptions, "--no-cache-dir", "--dest", temporary, wanted], task);
    runPython(["-c", extract, temporary], task);
  });
  return folder;
}

function main() {
  const { values } = parseArgs({
    options: { "prefer-system": { type: "boolean", default: false }, with: { type: "string", default: "" } },
  });
  const toolkit = (values["prefer-system"] && systemToolkit()) || fetchedToolkit();
  const libraries = values.with.split(",").filter((name) => name !== "");
  // The toolkit first, then a line for each folder of headers.
  console.log([toolkit, ...libraries.map(fetchedHeaders)].join("\n"));
}

if (process.argv[1] && path.resolve(process.argv[1]) === import.meta.filename) {
  try {
    main();
  } catch (error) {
    const isExpected = error instanceof ToolkitError || error.code?.startsWith("ERR_PARSE_ARGS");
    console.error(isExpected ? error.message : error);
    process.exitCode = 1;
  }
}
