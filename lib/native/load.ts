import { existsSync, readdirSync } from "node:fs";
import nodeModule from "node:module";
import { homedir } from "node:os";
import path from "node:path";
import { isError, nativeError, ShardspeedError } from "../base/errors.js";
import { packageRequire, packageRoot, readPackageInfo } from "../base/package_info.js";
import type { NativeBinding } from "./binding.js";
import { buildForDriver } from "./driver_build.js";

const loaded = new Map<string, NativeBinding>();

/** Node-API version that the addon is built for: binary.napi_versions in package.json. */
const nodeApiVersion = 8;

/** By these an addon is known to be one of ours, and of this version: the youngest is among them. */
const neededFunctions = ["createEngine", "cudaReport"] as const satisfies (keyof NativeBinding)[];

/** What a load attempt looked at, and why that was not it. */
interface Attempt {
  path: string;
  reason: string;
}

/**
 * The native addon. Looked for, in this order: `file`, the environment variable SHARDSPEED_BINDING (either is then the only
 * place), build/Release and build/Debug of this package, prebuilds/<platform>-<arch> of this package, prebuilds beside the
 * node executable. Of prebuilds the one for the driver of this machine (driver_build.ts). Loaded once a path.
 *
 * @throws ShardspeedError ERR_NATIVE, with every place tried, why each failed, and the command that builds the addon here.
 */
export function loadNative(file?: string): NativeBinding {
  const named = file ?? namedByEnvironment();
  const key = named === undefined ? "" : path.resolve(named);
  const known = loaded.get(key);
  if (known !== undefined) return known;
  const binding = withTypedErrors(loadFile(named === undefined ? findInPackage() : key, file !== undefined));
  loaded.set(key, binding);
  return binding;
}

/** The file that `loadNative()` loads, for reports; undefined where there is none. */
export function nativePath(): string | undefined {
  const named = namedByEnvironment();
  if (named !== undefined) return path.resolve(named);
  try {
    return findInPackage();
  } catch {
    return undefined;
  }
}

/** The same functions, whose errors are ShardspeedErrors with their code. */
function withTypedErrors(binding: NativeBinding): NativeBinding {
  const typed: Record<string, unknown> = {};
  for (const [name, call] of Object.entries(binding) as [string, (...args: unknown[]) => unknown][]) {
    typed[name] = (...args: unknown[]) => {
      try {
        return call(...args);
      } catch (error) {
        throw nativeError(error as Error, error);
      }
    };
  }
  return typed as unknown as NativeBinding;
}

function namedByEnvironment(): string | undefined {
  return process.env.SHARDSPEED_BINDING || undefined;
}

function findInPackage(): string {
  const nodeGypBuild = packageRequire("node-gyp-build") as { resolve(folder: string): string };
  try {
    return buildForDriver(nodeGypBuild.resolve(packageRoot()));
  } catch (cause) {
    throw loadError(placesWithoutAddon(), remedy(false), cause);
  }
}

function loadFile(file: string, fromArgument: boolean): NativeBinding {
  let binding: unknown;
  if (!file.endsWith(".node")) {
    throw loadError([{ path: file, reason: "it is no addon: its name does not end in .node" }], remedy(fromArgument));
  }
  try {
    binding = nodeModule.createRequire(file)(file);
  } catch (cause) {
    throw loadError([{ path: file, reason: explain(file, cause) }], remedy(fromArgument, codeOf(cause)), cause);
  }
  const missing = neededFunctions.find(
    (name) => typeof (binding as Partial<NativeBinding> | null)?.[name] !== "function",
  );
  if (missing !== undefined) {
    const reason = `it is not the addon of this version of shardspeed: it has no ${missing}`;
    throw loadError([{ path: file, reason }], remedy(fromArgument));
  }
  return binding as NativeBinding;
}

function placesWithoutAddon(): Attempt[] {
  const triple = `${process.platform}-${process.arch}`;
  const places = ["build/Release", "build/Debug", `prebuilds/${triple}`].map((place) =>
    path.join(packageRoot(), place),
  );
  places.push(path.join(path.dirname(process.execPath), "prebuilds", triple));
  return places.map((place) => {
    if (!existsSync(place)) return { path: place, reason: "there is no such folder" };
    const addons = readdirSync(place).filter((name) => name.endsWith(".node"));
    if (addons.length === 0) return { path: place, reason: "it holds no .node file" };
    return { path: place, reason: `it holds ${addons.join(", ")}, and none of these is for ${describeSystem()}` };
  });
}

/** What a failed dlopen says, and what it means. */
function explain(file: string, cause: unknown): string {
  const message = isError(cause) ? (cause.message.split("\nRequire stack:")[0] ?? "") : String(cause);
  const meaning = meaningOf(file, message, codeOf(cause));
  return meaning === undefined ? message : `${message}\n      ${meaning}`;
}

function codeOf(cause: unknown): unknown {
  return (cause as { code?: unknown } | null)?.code;
}

function meaningOf(file: string, message: string, code: unknown): string | undefined {
  if (code === "MODULE_NOT_FOUND") return "There is no such file.";
  const library = /version [`'](GLIBC|GLIBCXX|CXXABI)_([\d.]+)' not found/.exec(message);
  if (library?.[1] === "GLIBC") {
    return `The file needs glibc ${library[2]} or newer; this system has ${glibcVersion() ?? "none (musl?)"}.`;
  }
  if (library) return `The file needs a libstdc++ with ${library[1]}_${library[2]}; this system's is older.`;
  if (/ld-linux|libc\.so\.6|libc\.musl/.test(message)) {
    return `The file was built for another C library than this system's, which is ${glibcVersion() ? "glibc" : "musl"}.`;
  }
  if (/invalid ELF header|wrong ELF class|Exec format|not a mach-o|not a valid Win32/i.test(message)) {
    return `The file is damaged, or built for another platform than this one: ${describeSystem()}.`;
  }
  if (/file too short/.test(message)) return "The file is cut short.";
  if (/failed to map segment/.test(message)) return `Is ${path.dirname(file)} on a file system mounted with noexec?`;
  return undefined;
}

function describeSystem(): string {
  const libc = process.platform !== "linux" ? "" : `, ${glibcVersion() ? `glibc ${glibcVersion()}` : "musl"}`;
  return `${process.platform} ${process.arch}${libc}, Node ${process.versions.node}`;
}

/** Version of the C library where it is glibc; undefined with musl, and outside Linux. */
function glibcVersion(): string | undefined {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime;
}

function loadError(attempts: Attempt[], remedy: string, cause?: unknown): ShardspeedError {
  const lines = ["The native addon of shardspeed could not be loaded.", "  Tried:"];
  for (const attempt of attempts) lines.push(`    ${attempt.path}\n      ${attempt.reason}`);
  lines.push(`  ${remedy}`);
  // Last, so that a code which a program puts after the message does not become part of the command.
  lines.push(`  System: ${describeSystem()}`);
  return new ShardspeedError("ERR_NATIVE", lines.join("\n"), cause === undefined ? undefined : { cause });
}

function remedy(fromArgument: boolean, code?: unknown): string {
  if (code === "ERR_DLOPEN_DISABLED") return "Start Node without --no-addons, or with --allow-addons.";
  if (fromArgument) return "The path given is the only one that is tried: correct it, or give none.";
  if (Number(process.versions.napi) < nodeApiVersion) {
    return `This Node has Node-API ${process.versions.napi}, the addon needs ${nodeApiVersion}: use Node ${readPackageInfo().engines.node}.`;
  }
  if (process.env.SHARDSPEED_BINDING) {
    return "SHARDSPEED_BINDING is set and names the only file that is tried: correct it, or unset it.";
  }
  const needs = "with CMake >= 3.24 and a C++20 compiler";
  const root = packageRoot();
  if (!root.split(path.sep).includes("node_modules")) {
    return `To build it, ${needs}:\n    cd ${quote(root)} && npm run build:native`;
  }
  return (
    `Prebuilt addons exist for Linux x64 with glibc. To build one here, ${needs}:\n    ${buildCommand(root)}` +
    (root.includes(`.zip${path.sep}`) ? "\n  It needs files on the disk first: yarn unplug shardspeed" : "")
  );
}

/**
 * The tools are installed into a folder of their own. `npm install` in the user's project would remove what pnpm, Yarn or Bun has installed
 * there. cmake-js looks for node-addon-api beside the package, then where NODE_PATH says.
 */
function buildCommand(root: string): string {
  const tools = path.join(homedir(), ".cache/shardspeed/build-tools");
  const modules = path.join(tools, "node_modules");
  return (
    `npm install --prefix ${quote(tools)} cmake-js@8 node-addon-api@8 && NODE_PATH=${quote(modules)} ` +
    `${quote(path.join(modules, ".bin/cmake-js"))} build --directory ${quote(root)}`
  );
}

/** For a POSIX shell. */
function quote(folder: string): string {
  return /^[\w@%+=:,./-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", "'\\''")}'`;
}
