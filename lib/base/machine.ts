import { readFileSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";

/** What the machine, and the containers around this process, leave it. */
export interface MachineLimits {
  /** Bytes that can still be allocated before the system kills a process for lack of memory. Page cache counts as free. */
  availableBytes: number;
  /** The smallest limit of memory of all control groups around this process. Infinity: none. */
  memoryLimitBytes: number;
  /** Whole processors, at least one: those that it may run on, or what its share of time (a quota) is worth if that is less. */
  processors: number;
}

/**
 * Reads /proc and the control groups (cgroups of version 1 and 2): a limit of any group around this process holds for it too. Files that
 * are not there, as on other systems, limit nothing. src/base/machine.cpp reads the same for the native side.
 *
 * @param root Put before /proc and /sys, for tests.
 * @param allowed Processors that this process may run on.
 */
export function readMachineLimits(root = "", allowed: number = availableParallelism()): MachineLimits {
  const kilobytes = numberOf(`${root}/proc/meminfo`, "MemAvailable:");
  const limits = {
    availableBytes: kilobytes === undefined ? freemem() : kilobytes * 1024,
    memoryLimitBytes: Number.POSITIVE_INFINITY,
    processors: allowed,
  };
  for (const group of findGroups(root)) {
    for (const folder of foldersAround(group)) {
      const memory = memoryOf(folder, group.version);
      limits.memoryLimitBytes = Math.min(limits.memoryLimitBytes, memory.limit);
      limits.availableBytes = Math.min(limits.availableBytes, memory.left);
      // Rounded down: a thread more than the quota pays for is stopped for a part of each period, and the others wait.
      limits.processors = Math.min(limits.processors, Math.floor(quotaOf(folder, group.version)));
    }
  }
  return { ...limits, processors: Math.max(1, limits.processors) };
}

/** Set for processes that share the machine: the processors that each should use. */
export const processorsVariable = "SHARDSPEED_PROCESSORS";

/** The processors that this process should use: those that it may, or what processorsVariable says if that is less. */
export function processorShare(
  environment: NodeJS.ProcessEnv = process.env,
  { processors }: Pick<MachineLimits, "processors"> = readMachineLimits(),
): number {
  const text = environment[processorsVariable] ?? "";
  return /^[1-9]\d{0,5}$/.test(text) ? Math.min(processors, Number(text)) : processors;
}

/** Bytes that this process can still get: see {@link MachineLimits.availableBytes}. */
export function availableMemoryBytes(): number {
  return readMachineLimits().availableBytes;
}

interface Group {
  version: 1 | 2;
  mount: string;
  /** "" or "/a/b". */
  path: string;
}

/** The groups of this process, from lines "number:controllers:path"; version 2 is the one without controllers. */
function findGroups(root: string): Group[] {
  const mounts = `${root}/sys/fs/cgroup`;
  return (readText(`${root}/proc/self/cgroup`) ?? "").split("\n").flatMap((line): Group[] => {
    const [, controllers, found] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || found === undefined) return [];
    const path = found === "/" ? "" : found;
    // Where both versions are in use, the second has a folder of its own.
    if (controllers === "")
      return ["", "/unified"].map((folder) => ({ version: 2, mount: `${mounts}${folder}`, path }));
    const names = controllers.split(",").filter((name) => name === "memory" || name === "cpu");
    const folders = names.length === 0 ? [] : [...new Set([controllers, ...names])];
    return folders.map((folder) => ({ version: 1, mount: `${mounts}/${folder}`, path }));
  });
}

/** The group's folder and those of its parents. Inside a container the first may not be there: its own group is then the mount. */
function foldersAround({ mount, path }: Group): string[] {
  const parts = path.split("/");
  return parts.map((_, i) => mount + parts.slice(0, parts.length - i).join("/"));
}

function memoryOf(folder: string, version: 1 | 2): { limit: number; left: number } {
  const names =
    version === 2
      ? { limits: ["memory.max", "memory.high"], used: "memory.current", prefix: "" }
      : { limits: ["memory.limit_in_bytes"], used: "memory.usage_in_bytes", prefix: "total_" };
  const found = names.limits.map((name) => numberIn(`${folder}/${name}`) ?? Number.POSITIVE_INFINITY);
  const smallest = Math.min(...found);
  // Version 1 writes "no limit" as a number beyond any memory.
  const limit = smallest < 2 ** 52 ? smallest : Number.POSITIVE_INFINITY;
  const used = numberIn(`${folder}/${names.used}`);
  if (limit === Number.POSITIVE_INFINITY || used === undefined) return { limit, left: Number.POSITIVE_INFINITY };
  const reclaimable = [`${names.prefix}inactive_file`, `${names.prefix}active_file`, "slab_reclaimable"].reduce(
    (sum, name) => sum + (numberOf(`${folder}/memory.stat`, name) ?? 0),
    0,
  );
  return { limit, left: Math.max(0, limit - Math.max(0, used - reclaimable)) };
}

/** How many processors' time the group may take. */
function quotaOf(folder: string, version: 1 | 2): number {
  const [quota, period] =
    version === 2
      ? (readText(`${folder}/cpu.max`) ?? "").trim().split(" ").map(Number)
      : [numberIn(`${folder}/cpu.cfs_quota_us`), numberIn(`${folder}/cpu.cfs_period_us`)];
  // "max", and -1 in version 1: no limit.
  if (!(quota !== undefined && period !== undefined && quota > 0 && period > 0)) return Number.POSITIVE_INFINITY;
  return quota / period;
}

function numberIn(path: string): number | undefined {
  return toNumber(readText(path)?.trim());
}

/** The number behind a name in a file of names and numbers. */
function numberOf(path: string, name: string): number | undefined {
  const line = readText(path)
    ?.split("\n")
    .find((candidate) => candidate.startsWith(`${name} `));
  return toNumber(line?.slice(name.length).trim().split(" ")[0]);
}

function toNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
