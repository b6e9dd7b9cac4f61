import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

/** The oldest driver for CUDA 13, with which the package's addon is built. */
const oldestDriver = 580;

/** Of the folder beside prebuilds/<platform>-<arch> with the same addon built with CUDA 12, for drivers from 525 on. */
export const olderDriversSuffix = "-cuda12";

/**
 * The addon that this machine's driver can run: the one in the neighbouring folder where the driver is older than CUDA 13
 * and there is one, else `file` itself. The driver's version is what its kernel module says, so CUDA is called for no one
 * who does not use it; where that cannot be read, as in WSL, `file` is taken.
 */
export function buildForDriver(file: string, version = readDriverVersion()): string {
  const folder = path.dirname(file);
  if (path.basename(path.dirname(folder)) !== "prebuilds") return file;
  const other = path.join(folder + olderDriversSuffix, path.basename(file));
  const major = majorOf(version);
  return major !== undefined && major < oldestDriver && existsSync(other) ? other : file;
}

/** 535 of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023". */
function majorOf(version: string): number | undefined {
  const found = /Kernel Module(?: for \S+)?\s+(\d+)\./.exec(version)?.[1];
  return found === undefined ? undefined : Number(found);
}

function readDriverVersion(): string {
  try {
    return readFileSync("/proc/driver/nvidia/version", "utf8");
  } catch {
    return "";
  }
}
