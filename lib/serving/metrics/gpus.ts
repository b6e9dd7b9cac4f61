import { execFile } from "node:child_process";

/** What TorchServe measures of a GPU, in its units; what cannot be measured is absent. */
export interface GpuMeasures {
  deviceId: number;
  GPUMemoryUsed?: number;
  GPUMemoryUtilization?: number;
  GPUUtilization?: number;
}

const query = ["--query-gpu=index,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits"];
const mostMs = 2000;
/** It may take a second, and Prometheus reads more often. */
const freshMs = 5000;

/** Measures the machine's GPUs by nvidia-smi. Where that is not there, there are none. */
export class GpuMeter {
  #latest: readonly GpuMeasures[] = [];
  #measuredAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;
  #isThere = true;

  /** The latest values: only the first call waits. */
  async measure(now = performance.now()): Promise<readonly GpuMeasures[]> {
    if (this.#isThere && now - this.#measuredAt > freshMs) {
      const isFirst = this.#measuredAt === Number.NEGATIVE_INFINITY;
      this.#running ??= this.#ask(now);
      if (isFirst) await this.#running;
    }
    return this.#latest;
  }

  async #ask(now: number): Promise<void> {
    this.#latest = await new Promise((resolve) => {
      execFile("nvidia-smi", query, { timeout: mostMs, killSignal: "SIGKILL" }, (error, stdout) => {
        if (error?.code === "ENOENT") this.#isThere = false;
        resolve(error === null ? parseGpus(stdout) : []);
      });
    });
    this.#measuredAt = now;
    this.#running = undefined;
  }
}

/** Lines of numbers: index, used and all memory in MiB, utilization in percent. Others, such as "[N/A]", are what a GPU does not tell. */
export function parseGpus(text: string): GpuMeasures[] {
  return text.split("\n").flatMap((line) => {
    const fields = line.split(",").map((field) => field.trim());
    const [deviceId, used, total, utilization] = fields.map((field) =>
      /^\d{1,9}$/.test(field) ? Number(field) : undefined,
    );
    if (deviceId === undefined) return [];
    return [
      {
        deviceId,
        ...(used === undefined ? {} : { GPUMemoryUsed: used }),
        ...(used === undefined || !total ? {} : { GPUMemoryUtilization: (100 * used) / total }),
        ...(utilization === undefined ? {} : { GPUUtilization: utilization }),
      },
    ];
  });
}
