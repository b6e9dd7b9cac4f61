import { readFile, statfs } from "node:fs/promises";
import { cpus, freemem, totalmem } from "node:os";

/** What TorchServe measures of a machine, in its units. */
export interface HostMeasures {
  CPUUtilization: number;
  MemoryUsed: number;
  MemoryAvailable: number;
  MemoryUtilization: number;
  DiskUsage: number;
  DiskAvailable: number;
  DiskUtilization: number;
}

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

interface ProcessorTimes {
  busy: number;
  total: number;
}

/** Measures the machine when it is asked, and at no other time. */
export class HostMeter {
  #last: ProcessorTimes = { busy: 0, total: 0 };

  /** What cannot be measured on this system is left out. */
  async measure(): Promise<Partial<HostMeasures>> {
    const disk = await statfs("/").catch(() => undefined);
    return { CPUUtilization: this.#processorPercent(), ...(await measureMemory()), ...(disk && measureDisk(disk)) };
  }

  /** Since the last call; at the first one, since the machine started. */
  #processorPercent(): number {
    const now = { busy: 0, total: 0 };
    for (const { times } of cpus()) {
      const total = times.user + times.nice + times.sys + times.irq + times.idle;
      now.total += total;
      now.busy += total - times.idle;
    }
    const passed = now.total - this.#last.total;
    const busy = now.busy - this.#last.busy;
    this.#last = now;
    return passed <= 0 ? 0 : round(Math.min(100, Math.max(0, (100 * busy) / passed)));
  }
}

async function measureMemory(): Promise<Pick<HostMeasures, "MemoryUsed" | "MemoryAvailable" | "MemoryUtilization">> {
  const total = totalmem();
  // Linux counts caches as free only here.
  const text = await readFile("/proc/meminfo", "utf8").catch(() => "");
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(text)?.[1];
  const available = kilobytes === undefined ? freemem() : Number(kilobytes) * 1024;
  return {
    MemoryUsed: (total - available) / mebibyte,
    MemoryAvailable: available / mebibyte,
    MemoryUtilization: round((100 * (total - available)) / total),
  };
}

function measureDisk(disk: { bsize: number; blocks: number; bfree: number; bavail: number }) {
  const used = (disk.blocks - disk.bfree) * disk.bsize;
  const available = disk.bavail * disk.bsize;
  return {
    DiskUsage: used / gibibyte,
    DiskAvailable: available / gibibyte,
    DiskUtilization: round((100 * used) / Math.max(1, used + available)),
  };
}

function round(percent: number): number {
  return Math.round(percent * 10) / 10;
}
