// Finds or fetches a CUDA toolkit that compiles cuda/, and prints its root, where bin/nvcc is. What it fetches are NVIDIA's
// own packages on PyPI, some 320 MB unpacked, into a folder that stays. A compiler needs no GPU and no driver.
//   node scripts/cuda_toolkit.mjs [--prefer-system] [--with cublas,nccl] [--cuda 12]
// --prefer-system: an installed toolkit is taken where there is one that is new enough. --with: the headers of these
// libraries too (their packages are hundreds of megabytes; only headers are kept). --cuda 12: one for drivers from 525 on,
// whose compiler is Debian's package of CUDA 12.4, since PyPI has no nvcc of CUDA 12: it needs apt-get and dpkg-deb.
// The folder: SHARDSPEED_CUDA_CACHE, default .cache/cuda in the checkout.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
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
/** For CUDA 12: headers, with those of nvcc, and the static runtime, which older packages than this lack. */
const packages12 = [
  "nvidia-cuda-runtime-cu12==12.4.127",
  "nvidia-cuda-nvcc-cu12==12.4.131",
  "nvidia-cuda-cccl-cu12==12.4.127.post1",
];
const runtime12 = "nvidia-cuda-runtime-cu12==12.9.79";
const debianSuite = "trixie";
/** Installed toolkits that will do, by major version. 12.8 is the first that knows sm_100 and sm_120. */
const suitable = { 13: { from: [12, 8], to: [99, 0] }, 12: { from: [12, 4], to: [12, 99] } };

const root = path.resolve(import.meta.dirname, "..");
export const cache = path.resolve(process.env.SHARDSPEED_CUDA_CACHE || path.join(root, ".cache", "cuda"));

export class ToolkitError extends Error {}

/** "13.0" of the nvcc in this toolkit; undefined where there is none that runs. */
function nvccVersion(toolkit) {
  const nvcc = path.join(toolkit, "bin", "nvcc");
  const { status, stdout } = spawnSync(nvcc, ["--version"], { encoding: "utf8" });
  return status === 0 ? /release (\d+\.\d+)/.exec(stdout)?.[1] : undefined;
}

function isSuitable(version, cuda) {
  const [major, minor] = version.split(".").map(Number);
  const order = ([otherMajor, otherMinor]) => major - otherMajor || minor - otherMinor;
  return order(suitable[cuda].from) >= 0 && order(suitable[cuda].to) <= 0;
}

/** Root of an installed toolkit that will do, or undefined. cuda: 13, or 12 for older drivers. */
export function systemToolkit(cuda = 13) {
  const { CUDACXX, CUDA_HOME, CUDA_PATH, PATH = "" } = process.env;
  const candidates = [
    CUDACXX && path.resolve(path.dirname(CUDACXX), ".."),
    CUDA_HOME,
    CUDA_PATH,
    ...PATH.split(path.delimiter).map((folder) => path.resolve(folder, "..")),
    "/usr/local/cuda",
    ...(cuda === 12 ? [9, 8, 6, 5, 4].map((minor) => `/usr/local/cuda-12.${minor}`) : []),
  ];
  return candidates.find((candidate) => {
    if (!candidate || !existsSync(path.join(candidate, "bin", "nvcc"))) return false;
    const version = nvccVersion(candidate);
    return version !== undefined && isSuitable(version, cuda);
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

/** Runs a command for what cannot be done without it. */
function need(command, args, task) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 26 });
  if (error)
    throw new ToolkitError(
      `${command} was not found (${error.message}). It is needed to ${task}; or install CUDA 12.4 to 12.9 and name its nvcc as CUDACXX.`,
    );
  if (status !== 0)
    throw new ToolkitError(`${command} could not ${task}:\n${`${stdout}${stderr}`.trim().slice(-2000)}`);
}

/** Unpacks Debian's package of the compiler, by an apt with lists of its own: the system's are left as they are. */
function fetchDebianCompiler(folder) {
  const task = "fetch the compiler of CUDA 12 from Debian";
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  for (const name of ["lists/partial", "cache/archives/partial"])
    mkdirSync(path.join(folder, name), { recursive: true });
  const list = path.join(folder, "sources.list");
  writeFileSync(list, `deb [signed-by=${keyring}] http://deb.debian.org/debian ${debianSuite} non-free\n`);
  const settings = {
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State::Lists": path.join(folder, "lists"),
    "Dir::Cache": path.join(folder, "cache"),
    "APT::Sandbox::User": "",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  need("apt-get", [...options, "update"], task);
  need(
    "sh",
    ["-c", 'cd "$1" && shift && exec apt-get "$@" download nvidia-cuda-toolkit', "sh", folder, ...options],
    task,
  );
  const [archive] = readdirSync(folder).filter((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new ToolkitError(`apt-get downloaded nothing: could not ${task}.`);
  need("dpkg-deb", ["-x", path.join(folder, archive), path.join(folder, "unpacked")], task);
  return path.join(folder, "unpacked", "usr");
}

/** Lays the pieces out as an installed toolkit has them. */
function assemble12(temporary) {
  const made = path.join(temporary, "toolkit");
  const work = path.join(temporary, "work");
  for (const name of ["bin", "nvvm/bin", "nvvm/libdevice", "include", "lib"])
    mkdirSync(path.join(made, name), { recursive: true });
  const usr = fetchDebianCompiler(work);
  const own = path.join(usr, "lib", "nvidia-cuda-toolkit");
  const place = (from, to) => cpSync(from, path.join(made, to), { recursive: true, dereference: true });
  for (const name of ["__nvcc_device_query", "bin2c", "cudafe++", "fatbinary", "nvlink", "ptxas"])
    place(path.join(usr, "bin", name), `bin/${name}`);
  place(path.join(own, "bin", "nvcc"), "bin/nvcc");
  place(path.join(own, "bin", "crt"), "bin/crt");
  place(path.join(own, "bin", "cicc"), "nvvm/bin/cicc");
  place(path.join(own, "libdevice", "libdevice.10.bc"), "nvvm/libdevice/libdevice.10.bc");
  const profile = [
    "TOP = $(_HERE_)/..",
    "NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice",
    "PATH += $(TOP)/nvvm/bin:$(_HERE_):",
    'INCLUDES += "-I$(TOP)/include" $(_SPACE_)',
    'LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib"',
  ];
  writeFileSync(path.join(made, "bin", "nvcc.profile"), `${profile.join("\n")}\n`);
  const task = "fetch the headers and the runtime of CUDA 12 from PyPI";
  const install = ["-m", "pip", "install", ...pipOptions, "--no-compile", "--target"];
  runPython([...install, path.join(work, "headers"), ...packages12], task);
  for (const name of ["cuda_runtime", "cuda_nvcc", "cuda_cccl"])
    place(path.join(work, "headers", "nvidia", name, "include"), "include");
  runPython([...install, path.join(work, "runtime"), runtime12], task);
  place(path.join(work, "runtime", "nvidia", "cuda_runtime", "lib", "libcudart_static.a"), "lib/libcudart_static.a");
  // For kernels that launch kernels. nvcc always links it, and no package has one that is as old as nvcc: an empty archive.
  writeFileSync(path.join(made, "lib", "libcudadevrt.a"), "!<arch>\n");
  symlinkSync("lib", path.join(made, "lib64"));
  rmSync(work, { recursive: true });
  const version = nvccVersion(made);
  if (!version) throw new ToolkitError(`The nvcc fetched does not run on this machine (${process.arch}).`);
}

function fetchedToolkit12() {
  const list = [...packages12, runtime12, debianSuite].join();
  const folder = path.join(cache, `toolkit12-${createHash("sha256").update(list).digest("hex").slice(0, 8)}`);
  once(folder, (temporary) => {
    process.stderr.write("Fetching a compiler of CUDA 12 ...\n");
    assemble12(temporary);
  });
  return path.join(folder, "toolkit");
}

/** Root of the fetched toolkit, fetched now unless it has been. cuda: 13 or 12. Throws ToolkitError. */
export function fetchedToolkit(cuda = 13) {
  if (cuda === 12) return fetchedToolkit12();
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
    options: {
      "prefer-system": { type: "boolean", default: false },
      with: { type: "string", default: "" },
      cuda: { type: "string", default: "13" },
    },
  });
  const cuda = Number(values.cuda);
  if (!(cuda in suitable)) throw new ToolkitError(`--cuda: found "${values.cuda}", expected 12 or 13.`);
  const toolkit = (values["prefer-system"] && systemToolkit(cuda)) || fetchedToolkit(cuda);
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
