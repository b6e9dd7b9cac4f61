import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import path from "node:path";
import { ShardspeedError } from "../base/errors.js";
import { readMachineLimits } from "../base/machine.js";
import { formatBytes } from "../base/memory.js";
import { readPackageInfo } from "../base/package_info.js";
import { whyNoCuda } from "../loading/device.js";
import type { BuildInfo, CpuFeatures, CudaDevice, CudaReport } from "../native/binding.js";
import { olderDriversSuffix } from "../native/driver_build.js";
import { loadNative, nativePath } from "../native/load.js";
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
  cuda: CudaSection;
}

interface CudaSection {
  /** Whether `device: "cuda"` works. */
  usable: boolean;
  /** Why not; null where it is usable. */
  reason: string | null;
  /** Whether the addon has the CUDA backend. */
  built: boolean;
  /** It runs on the CPU, for tests. */
  emulated: boolean;
  driverVersion: string | null;
  runtimeVersion: string | null;
  /** What the kernel's module says of itself, whatever the addon can do. */
  driver: string | null;
  devices: (Omit<CudaDevice, "problem"> & { problem: string | null })[];
  /** Libraries that speed prompts up or connect GPUs; empty for a build without CUDA. */
  libraries: { name: string; path: string | null; version: string | null; problem: string | null }[];
}

type AddonKind = "local build" | "prebuild" | "prebuild for older drivers" | "named by SHARDSPEED_BINDING";

/** `shardspeed doctor`: exits with 1 where the addon cannot be loaded. */
export async function doctor({ json }: { json?: boolean }): Promise<void> {
  const report = examine();
  const output = new Output(process.stdout);
  await output.write(json ? `${JSON.stringify(report, null, 2)}\n` : toText(report));
  if (report.addon.error !== null) process.exitCode = exitCodes.failed;
}

function examine(): DoctorReport {
  const { features, build, cuda, error } = tryAddon();
  const file = nativePath() ?? null;
  const { availableBytes, memoryLimitBytes, processors } = readMachineLimits();
  return {
    shardspeed: readPackageInfo().version,
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
      usableProcessors: processors,
      kernels: features?.kernels ?? null,
      available: features?.available ?? [],
    },
    memory: {
      totalBytes: totalmem(),
      availableBytes,
      limitBytes: Number.isFinite(memoryLimitBytes) ? memoryLimitBytes : null,
    },
    addon: { path: file, kind: file === null ? null : kindOf(file), compiler: build?.compiler ?? null, error },
    cuda: toCudaSection(cuda, firstLine("/proc/driver/nvidia/version")),
  };
}

function tryAddon(): { features?: CpuFeatures; build?: BuildInfo; cuda?: CudaReport; error: string | null } {
  try {
    const binding = loadNative();
    const features = binding.cpuFeatures();
    return { features, build: binding.buildInfo(), cuda: binding.cudaReport(true), error: null };
  } catch (error) {
    if (!ShardspeedError.isInstance(error)) throw error;
    return { error: error.message };
  }
}

function kindOf(file: string): AddonKind {
  if (process.env.SHARDSPEED_BINDING) return "named by SHARDSPEED_BINDING";
  if (path.dirname(file).endsWith(olderDriversSuffix)) return "prebuild for older drivers";
  return file.split(path.sep).includes("prebuilds") ? "prebuild" : "local build";
}

/** What the report says of CUDA, from the addon's answer where there is an addon. */
export function toCudaSection(report: CudaReport | undefined, driver: string | null): CudaSection {
  const reason = report === undefined ? "The addon cannot be loaded." : (whyNoCuda(report) ?? null);
  return {
    usable: reason === null,
    reason,
    built: report?.built ?? false,
    emulated: report?.emulated ?? false,
    driverVersion: report?.driverVersion ?? null,
    runtimeVersion: report?.runtimeVersion ?? null,
    driver,
    devices: (report?.devices ?? []).map((device) => ({ ...device, problem: device.problem ?? null })),
    libraries: (report?.libraries ?? []).map(({ name, path = null, version = null, problem = null }) => {
      return { name, path, version, problem };
    }),
  };
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
    ...cudaRows(cuda),
  ];
  const table = rows.map(([name, value]) => `${name.padEnd(12)}${value}\n`).join("");
  return addon.error === null ? table : `${table}\n${addon.error}\n`;
}

/** The first row says whether CUDA can be used; further ones list versions and devices. */
export function cudaRows(cuda: CudaSection): [string, string][] {
  const versions = [
    cuda.driverVersion === null ? undefined : `driver ${cuda.driverVersion}`,
    cuda.runtimeVersion === null ? undefined : `runtime ${cuda.runtimeVersion}`,
    cuda.driver ?? undefined,
  ].filter((version) => version !== undefined);
  const rows = cuda.devices.map(({ index, name, computeCapability, totalBytes, freeBytes, problem }) => {
    const memory = `${formatBytes(totalBytes)}, ${formatBytes(freeBytes)} free`;
    const fault = problem === null ? "" : `; not usable: ${problem}`;
    return `cuda:${index}  ${name}, compute capability ${computeCapability}, ${memory}${fault}`;
  });
  for (const { name, path, version, problem } of cuda.libraries) {
    rows.push(path === null ? `${name}  not found: ${problem}` : `${name}  ${version}, ${path}`);
  }
  if (versions.length > 0) rows.unshift(versions.join(", "));
  return [["CUDA", cuda.usable ? "yes" : `no: ${cuda.reason}`], ...rows.map((row): [string, string] => ["", row])];
}
