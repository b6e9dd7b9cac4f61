import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { LaunchEnvironment } from "../launch/environment.js";
import type { GroupPlace } from "../launch/group.js";
import type { CudaDevice, CudaReport } from "../native/binding.js";
import { chooseDevice, cpuDevice, type Device, emulatorName, visibleDevices } from "./device.js";
import type { ResolvedInitOptions } from "./options.js";

/** Where the ranks of this process compute. */
export interface Placement {
  /** One for each of them. */
  readonly devices: readonly [Device, ...Device[]];
  /** In the group; of the first where there are several. */
  readonly firstRank: number;
  /** Processes that share this host's processors and memory. */
  readonly processesOnHost: number;
}

/** A process among those that were started together on its host. */
export type LocalPlace = Pick<LaunchEnvironment, "localRank" | "localWorldSize">;

/** Of a process that was started without others. */
export const alone: LocalPlace = { localRank: 0, localWorldSize: 1 };

type DeviceOptions = Pick<ResolvedInitOptions, "device" | "logger">;

/**
 * Places all ranks in this process.
 *
 * @param place Of several processes that were started together, each with the whole model: they share what this host has.
 * @throws ShardspeedError ERR_CUDA where a device is asked for that cannot be used, or there are too few.
 */
export function placeLocally(
  { device, logger }: DeviceOptions,
  tpSize: number,
  { localRank, localWorldSize }: LocalPlace,
  report: () => CudaReport,
): Placement {
  const first = chooseDevice(device, report, logger);
  const devices: Placement["devices"] =
    localWorldSize > 1
      ? [localRankDevice(first, device, localRank, localWorldSize, report)]
      : rankDevices(first, device, tpSize, report, logger);
  return { devices, firstRank: 0, processesOnHost: localWorldSize };
}

/**
 * Places this process's rank of a group.
 *
 * @throws ShardspeedError ERR_CUDA
 */
export function placeInGroup(
  { device, logger }: DeviceOptions,
  { launch, rank }: GroupPlace,
  report: () => CudaReport,
): Placement {
  const { localRank, localWorldSize } = launch;
  const first = chooseDevice(device, report, logger);
  const own = localRankDevice(first, device, localRank, localWorldSize, report);
  return { devices: [own], firstRank: rank, processesOnHost: localWorldSize };
}

/**
 * The devices of `count` ranks that are threads of this process.
 *
 * @param first What chooseDevice() made of `asked`.
 * @throws ShardspeedError ERR_CUDA where there are fewer, but for "auto".
 */
function rankDevices(
  first: Device,
  asked: string,
  count: number,
  report: () => CudaReport,
  logger: Logger,
): Placement["devices"] {
  if (count === 1) return [first];
  if (first.cudaIndex === undefined) return allOnCpu(count);
  // From a device that was named on; else all.
  const from = /:\d+$/.test(asked) ? first.cudaIndex : 0;
  const usable = report().devices.filter(({ usable, index }) => usable && index >= from);
  if (usable.length >= count)
    return usable.slice(0, count).map((device) => nameRankDevice(device, asked)) as [Device, ...Device[]];
  const found = `${usable.length} usable CUDA device${usable.length === 1 ? "" : "s"}${from === 0 ? "" : ` from cuda:${from} on`}`;
  if (asked === "auto") {
    logger.warn(`Device auto: the CPU is used. Found ${found}, but tp_size ${count} takes one for each rank`);
    return allOnCpu(count);
  }
  throw new ShardspeedError(
    "ERR_CUDA",
    `Found ${found}, but tp_size ${count} takes one for each rank.${visibleDevices()} Use a smaller tp_size, or device "cpu".`,
  );
}

/**
 * The device of a rank that is a process, one of `localCount` on this host: the one that was named, the only one that it sees, or the one with
 * its local rank.
 *
 * @throws ShardspeedError ERR_CUDA where there is none for it.
 */
function localRankDevice(
  first: Device,
  asked: string,
  localRank: number,
  localCount: number,
  report: () => CudaReport,
): Device {
  if (first.cudaIndex === undefined || /:\d+$/.test(asked)) return first;
  const usable = report().devices.filter(({ usable }) => usable);
  const own = usable[localRank] ?? (usable.length === 1 ? usable[0] : undefined);
  if (own !== undefined) return nameRankDevice(own, asked);
  throw new ShardspeedError(
    "ERR_CUDA",
    `Found ${usable.length} usable CUDA devices for ${localCount} ranks on this host, of which this is number ${localRank}.` +
      `${visibleDevices()} Start fewer ranks here, or use device "cpu".`,
  );
}

function allOnCpu(count: number): Placement["devices"] {
  return [cpuDevice, ...Array.from({ length: count - 1 }, () => cpuDevice)];
}

function nameRankDevice({ index }: CudaDevice, asked: string): Device {
  const kind = asked === emulatorName ? emulatorName : "cuda";
  return { name: kind === emulatorName && index === 0 ? kind : `${kind}:${index}`, cudaIndex: index };
}
