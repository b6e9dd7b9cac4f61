import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import path from "node:path";
import { ShardspeedError } from "../errors.js";
import { loadNative, nativePath } from "../load_native.js";
import { availableMemoryBytes, formatBytes } from "../memory.js";
import type { BuildInfo, CpuFeatures } from "../native.js";
import { Output } from "./output.js";
import { exitCodes } from "./report.js";

/** What `shardspeed doctor --json` prints. */
export interface DoctorReport {
  shardspeed: string;
  node: { version: string; nodeApi: string; v8: string };
  system: { platform: string; arch: string; kernel: string; distribution: string | null; glibc: string | null };
  processor: {
    model: string;
    logicalProcessors: number;
    usableProcessors: number;
    kernels: string | null;
    available: string[];
  };
  memory: { totalBytes: number; availableBytes: number; limitBytes: number | null };
  addon: { path: string | null; kind: AddonKind | null; compiler: string | null; error: string | null };
  cuda: { usable: boolean; reason: string; driver: string | null };
}

type AddonKind = "local build" | "prebuild" | "named by SHARDSPEED_BINDING";

/** `shardspeed doctor`: exits with 1 where the addon cannot be loaded. */
export async function doctor({ json }: { json?: boolean }): Promise<void> {
  const report = examine();
  const output = new Output(process.stdout);
  await output.write(json ? `${JSON.stringify(report, null, 2)}\n` : toText(report));
  if (report.addon.error !== null) process.exitCode = exitCodes.failed;
}

function examine(): DoctorReport {
  const { features, build, error } = tryAddon();
  const file = nativePath() ?? null;
  const driver = firstLine("/proc/driver/nvidia/version");
  // Without a limit the runtime answers 0, or a number beyond any memory.
  const limit = process.constrainedMemory?.() ?? 0;
  return {
    shardspeed: JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version,
    node: { version: process.versions.node, nodeApi: process.versions.napi ?? "none", v8: process.versions.v8 },
    system: {
      platform: process.platform,
      arch: process.arch,
      kernel: release(),
      distribution: readDistribution(),
      glibc: glibcVersion(),
    },
    processor: {
      model: cpus()[0]?.model.trim() ?? "unknown",
      logicalProcessors: cpus().length,
      usableProcessors: availableParallelism(),
      kernels: features?.kernels ?? null,
      available: features?.available ?? [],
    },
    memory: {
      totalBytes: totalmem(),
      availableBytes: availableMemoryBytes(),
      limitBytes: limit > 0 && limit < 2 ** 52 ? limit : null,
    },
    addon: { path: file, kind: file === null ? null : kindOf(file), compiler: build?.compiler ?? null, error },
    cuda: { usable: false, reason: cudaReason(build, driver), driver },
  };
}

function tryAddon(): { features?: CpuFeatures; build?: BuildInfo; error: string | null } {
  try {
    const binding = loadNative();
    return { features: binding.cpuFeatures(), build: binding.buildInfo(), error: null };
  } catch (error) {
    if (!ShardspeedError.isInstance(error)) throw error;
    return { error: error.message };
  }
}

function kindOf(file: string): AddonKind {
  if (process.env.SHARDSPEED_BINDING) return "named by SHARDSPEED_BINDING";
  return file.split(path.sep).includes("prebuilds") ? "prebuild" : "local build";
}

function cudaReason(build: BuildInfo | undefined, driver: string | null): string {
  if (build === undefined) return "The addon cannot be loaded.";
  if (!build.cuda) return "This build has no CUDA backend.";
  return driver === null
    ? "There is no NVIDIA driver: /proc/driver/nvidia/version is missing."
    : "No device was tried.";
}

function firstLine(file: string): string | null {
  try {
    return readFileSync(file, "utf8").split("\n")[0] ?? null;
  } catch {
    return null;
  }
}

function readDistribution(): string | null {
  try {
    return /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? null;
  } catch {
    return null;
  }
}

function glibcVersion(): string | null {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime ?? null;
}

function toText({ shardspeed, node, system, processor, memory, addon, cuda }: DoctorReport): string {
  const libc =
    system.platform === "linux" ? `, ${system.glibc === null ? "no glibc (musl?)" : `glibc ${system.glibc}`}` : "";
  const limit = memory.limitBytes === null ? "" : `, limited to ${formatBytes(memory.limitBytes)}`;
  const rows: [string, string][] = [
    ["shardspeed", shardspeed],
    ["Node", `${node.version} (Node-API ${node.nodeApi}, V8 ${node.v8})`],
    ["System", `${system.distribution ?? system.platform} ${system.arch}, kernel ${system.kernel}${libc}`],
    ["Processor", `${processor.model}, ${processor.logicalProcessors} logical, ${processor.usableProcessors} usable`],
    ["Kernels", processor.kernels === null ? "unknown" : `${processor.kernels} (of ${processor.available.join(", ")})`],
    ["Memory", `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.availableBytes)} available${limit}`],
    [
      "Addon",
      addon.path === null
        ? "none"
        : `${addon.path} (${addon.kind}${addon.compiler === null ? "" : `, ${addon.compiler}`})`,
    ],
    ["CUDA", `${cuda.usable ? "yes" : "no"}: ${cuda.reason}${cuda.driver === null ? "" : ` Driver: ${cuda.driver}`}`],
  ];
  const table = rows.map(([name, value]) => `${name.padEnd(12)}${value}\n`).join("");
  return addon.error === null ? table : `${table}\n${addon.error}\n`;
}
