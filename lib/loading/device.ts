import { invalidArgument, ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { CudaDevice, CudaReport, RankPlan } from "../native/binding.js";

/** Where an engine computes. */
export interface Device {
  /** What users see, in engine.module.devices for one: "cpu", "cuda:0". */
  name: string;
  /** CUDA's number of the device; undefined for the CPU. */
  cudaIndex: number | undefined;
}

export const cpuDevice: Device = { name: "cpu", cudaIndex: undefined };

/** A build whose CUDA backend runs on the CPU offers its device under this name, to tests. */
export const emulatorName = "cuda-emulator";

/** The device's name for the native side. */
export function toPlanDevice({ cudaIndex }: Device): string {
  return cudaIndex === undefined ? "cpu" : `cuda:${cudaIndex}`;
}

/**
 * Checks how a device is written, not whether there is one.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT
 */
export function readDeviceName(value: unknown): string {
  const name = value === undefined ? "auto" : value;
  if (typeof name === "string" && (/^(auto|cpu|cuda(:\d+)?)$/.test(name) || name === emulatorName)) return name;
  throw unknownDevice(value);
}

/**
 * The device that a caller's `device` option means here. Nothing asks CUDA anything where it is "cpu".
 *
 * @param report What the native side knows of CUDA: asked at most once.
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what is no device's name; ERR_CUDA where a CUDA device is asked for that cannot
 * be used, with what is missing.
 */
export function chooseDevice(value: unknown, report: () => CudaReport, logger: Logger): Device {
  const name = readDeviceName(value);
  if (name === "cpu") return cpuDevice;
  const cuda = report();
  if (name === "auto") return chooseAutomatically(cuda, logger);
  if (name === emulatorName) {
    if (!cuda.emulated) throw unknownDevice(value);
    return { name, cudaIndex: 0 };
  }
  const [, number] = name.split(":");
  const chosen = number === undefined ? firstUsable(cuda) : usableAt(Number(number), cuda);
  if (typeof chosen !== "string") return toDevice(chosen);
  const instead = typeof firstUsable(cuda) === "string" ? "" : "another device, ";
  throw new ShardspeedError(
    "ERR_CUDA",
    `Found device ${JSON.stringify(name)}, which cannot be used: ${chosen} Use ${instead}"cpu" or "auto".`,
  );
}

/** Why `device: "cuda"` cannot be followed, as a sentence; undefined where it can. */
export function whyNoCuda(report: CudaReport): string | undefined {
  const chosen = firstUsable(report);
  return typeof chosen === "string" ? chosen : undefined;
}

/**
 * The engine's element type: the config's, else the checkpoint's. CUDA computes in 16 bits only.
 *
 * @throws ShardspeedError ERR_CONFIG for a config that wants another one on CUDA.
 */
export function chooseDtype(
  configured: RankPlan["dtype"] | undefined,
  stored: RankPlan["dtype"],
  device: Device,
  logger: Logger,
): RankPlan["dtype"] {
  const wanted = configured ?? stored;
  if (device.cudaIndex === undefined || wanted !== "float32") return wanted;
  if (configured !== undefined) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `Found dtype float32 and device ${device.name}, which computes in float16 or bfloat16 only. ` +
        'Set dtype to "fp16" or "bf16", or use device "cpu".',
    );
  }
  logger.warn(
    `The checkpoint is stored as float32, and device ${device.name} computes in float16 or bfloat16 only: float16 is used, ` +
      "since nothing names a dtype",
  );
  return "float16";
}

function chooseAutomatically(report: CudaReport, logger: Logger): Device {
  const chosen = firstUsable(report);
  if (typeof chosen !== "string") return toDevice(chosen);
  const line = `Device auto: the CPU is used. ${chosen}`;
  // Who has a GPU would rather know; on all other machines it is no news.
  const seemsThere =
    report.built && !report.emulated && (report.devices.length > 0 || report.driverVersion !== undefined);
  if (seemsThere) logger.warn(line);
  else logger.info(line);
  return cpuDevice;
}

function toDevice({ index }: CudaDevice): Device {
  return { name: `cuda:${index}`, cudaIndex: index };
}

/** The device, or a sentence that says why there is none, to stand behind a colon. */
function firstUsable(report: CudaReport): CudaDevice | string {
  return noneAtAll(report) ?? report.devices.find(({ usable }) => usable) ?? `${describeUnusable(report.devices)}.`;
}

function usableAt(wanted: number, report: CudaReport): CudaDevice | string {
  const none = noneAtAll(report);
  if (none !== undefined) return none;
  const found = report.devices.find(({ index }) => index === wanted);
  if (found === undefined) {
    const names = report.devices.map((device) => `cuda:${device.index} (${device.name})`).join(", ");
    const count = report.devices.length === 1 ? "One CUDA device is" : `${report.devices.length} CUDA devices are`;
    return `${count} there: ${names}.${visibleDevices()}`;
  }
  return found.usable ? found : `${describeUnusable([found])}.`;
}

/** Why no device is there, whichever is asked for. */
function noneAtAll(report: CudaReport): string | undefined {
  if (!report.built) return "This build has no CUDA backend; docs/cuda.md says how to make one that has.";
  if (report.emulated) return "This build's CUDA backend is an emulator for tests, which computes on the CPU.";
  if (report.devices.length > 0) return undefined;
  const problem = `${withoutPeriod(report.problem ?? "No CUDA device was found")}.`;
  return report.driverVersion === undefined ? problem : problem + visibleDevices();
}

export function describeUnusable(devices: readonly CudaDevice[]): string {
  return devices
    .map(({ index, name, problem }) => {
      return `cuda:${index} (${name}): ${withoutPeriod(problem ?? "CUDA does not say why")}`;
    })
    .join("; ");
}

/** This variable hides devices from CUDA, which then knows nothing of them. */
export function visibleDevices(): string {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  return visible === undefined ? "" : ` The environment variable CUDA_VISIBLE_DEVICES is ${JSON.stringify(visible)}.`;
}

function withoutPeriod(sentence: string): string {
  return sentence.trimEnd().replace(/\.$/, "");
}

function unknownDevice(value: unknown): ShardspeedError {
  return invalidArgument("device", '"auto", "cpu", "cuda" or "cuda:" and a number', value);
}
