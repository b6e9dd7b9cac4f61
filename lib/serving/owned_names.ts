import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";

/** Folders of the system's temporary one: an archive that a server has unpacked, and what a worker has. */
export const archiveKind = "shardspeed-unpacked";
export const workerKind = "shardspeed-worker";

/** Where process numbers mean the same: this machine since its start, and in Linux this namespace of processes (of a container). */
function describePlace(): string {
  const read = (work: () => string) => {
    try {
      return work();
    } catch {
      return ""; // not on this system
    }
  };
  const boot = read(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
  const processes = read(() => readlinkSync("/proc/self/ns/pid"));
  return createHash("sha256").update(`${hostname()}\n${boot}\n${processes}`).digest("hex").slice(0, 8);
}

let place: string | undefined;

/** How the name of a file or folder begins that is of no use once this process has ended. */
export function ownedPrefix(kind: string): string {
  place ??= describePlace();
  return `${kind}-${place}-${process.pid}-`;
}

/**
 * Removes what processes have left that were killed. Those of other machines and containers, which may have the same folder, are left alone: nothing
 * here says whether they live. What cannot be removed stays.
 */
export async function removeLeftOvers(folder: string, kind: string): Promise<void> {
  place ??= describePlace();
  const names = await readdir(folder).catch((): string[] => []);
  const prefix = `${kind}-${place}-`;
  for (const name of names) {
    const [, pid] = name.startsWith(prefix) ? (/^(\d{1,10})-/.exec(name.slice(prefix.length)) ?? []) : [];
    if (pid === undefined || isRunning(Number(pid))) continue;
    await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => {});
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
