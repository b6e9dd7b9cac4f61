import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { ShardspeedError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import type { GroupPlan, NativeBinding } from "../native/binding.js";
import { type LaunchEnvironment, readLaunchEnvironment } from "./environment.js";
import { isOnThisHostOnly, toAddress } from "./meeting.js";
import { type Met, rendezvous } from "./rendezvous.js";
import { readSecret } from "./secret.js";

/** This process's place among ranks that are processes. */
export interface GroupPlace {
  launch: LaunchEnvironment;
  /** Ranks of a group: tp_size. With more processes there are several groups, replicas of each other. */
  size: number;
  /** Of this process in its group. */
  rank: number;
  /** The group's first rank among all processes. */
  firstRank: number;
}

/**
 * Where this process belongs, by its launcher's variables; undefined where all ranks are in this process.
 *
 * @throws ShardspeedError ERR_CONFIG where tp_size does not divide the number of processes, or the variables make no sense.
 */
export function findGroup(tpSize: number, launch = readLaunchEnvironment()): GroupPlace | undefined {
  if (launch === undefined) return undefined;
  const { rank, worldSize } = launch;
  if (worldSize % tpSize !== 0) {
    throw new ShardspeedError(
      "ERR_CONFIG",
      `Found tp_size ${tpSize} and WORLD_SIZE ${worldSize}, expected tp_size to be WORLD_SIZE or to divide it. Start ${tpSize} ` +
        `processes, or none (without a launcher, ranks are threads), or set tp_size to ${worldSize}.`,
    );
  }
  if (tpSize === 1) return undefined;
  return { launch, size: tpSize, rank: rank % tpSize, firstRank: rank - (rank % tpSize) };
}

/**
 * A warning for rank 0 of all processes where more were started than a model is divided among, which is seldom meant: the others do not share
 * its work. undefined where there is nothing to say.
 */
export function describeReplicas(tpSize: number, launch: LaunchEnvironment | undefined): string | undefined {
  if (launch === undefined || launch.rank !== 0 || launch.worldSize === tpSize) return undefined;
  const { worldSize } = launch;
  const groups = worldSize / tpSize;
  const each = tpSize === 1 ? "each loads" : `each of ${groups} groups loads`;
  return (
    `${worldSize} processes were started, and tp_size is ${tpSize}: ${each} the whole model, and the others do not share its work. ` +
    `Set tensor_parallel.tp_size, or tpSize, to ${worldSize} to divide it, or start ${tpSize === 1 ? "one process" : `${tpSize} processes`}`
  );
}

/** A rank's data for the others in the meeting, before any of them loads. */
export interface Introduction {
  /** The reason why it cannot take part. */
  failure?: { code: string; message: string };
  /** Of rank 0 of a group: the port of its native side. */
  port?: number;
  device: string;
  /** Pages that it has memory for. */
  kvCachePages: number;
  /** Must be equal on all ranks of a group. */
  settings: Record<string, string | number>;
}

export interface GroupMeeting {
  plan: GroupPlan;
  /** Pages that all ranks of the group have memory for. */
  kvCachePages: number;
  /** By rank. */
  devices: string[];
}

/**
 * Meetings of this process come one after the other: ranks make their engines in the same order. They are not numbered, so that a rank that was
 * started again can meet one that has been there all the time.
 */
let lastMeeting: Promise<unknown> = Promise.resolve();

function meetInTurn(place: GroupPlace, data: unknown, options: Parameters<typeof rendezvous>[2]): Promise<Met> {
  const meeting = lastMeeting.then(() => rendezvous(place.launch, data, options));
  lastMeeting = meeting.catch(() => {});
  return meeting;
}

/**
 * Brings the ranks together.
 *
 * @param failure This rank's failure, if any: the others learn it, then it is thrown here, or ERR_COMM in its place.
 * @throws ShardspeedError ERR_COMM if a rank does not come, cannot take part or has another model; ERR_ABORTED; the failure that all ranks share.
 */
export async function meetGroup(
  place: GroupPlace,
  mine: Introduction,
  failure: unknown,
  options: {
    listener: number;
    commTimeoutMs: number;
    rendezvousTimeoutMs: number;
    signal: AbortSignal | undefined;
    logger: Logger;
  },
): Promise<GroupMeeting> {
  const { launch, size, firstRank } = place;
  const { members, sessionKey } = await meetInTurn(
    place,
    { ...mine, settings: { tp_size: size, ...mine.settings }, host: readHost() },
    {
      secret: readSecret(launch),
      timeoutMs: options.rendezvousTimeoutMs,
      signal: options.signal,
      logger: options.logger,
    },
  );
  const all = members.map(({ data }) => data as Introduction & { host: string });
  throwFailures(all, failure);
  const group = all.slice(firstRank, firstRank + size);
  checkAgreement(group, firstRank);
  const leader = members[firstRank] as { address: string };
  // Noticed, told and answered within the limit.
  const silenceLimitMs = Math.ceil(options.commTimeoutMs * 0.8);
  return {
    plan: {
      listener: options.listener,
      leaderHost: leader.address,
      leaderPort: group[0]?.port ?? 0,
      key: createHmac("sha256", sessionKey).update(`group ${firstRank}`).digest(),
      silenceLimitMs,
    },
    kvCachePages: Math.min(...group.map(({ kvCachePages }) => kvCachePages)),
    devices: group.map(({ device }) => device),
  };
}

/**
 * Opens the port that rank 0's native side listens on: at all interfaces, of IPv6 too where there is that, unless all ranks are told to come to
 * this host.
 */
export function openLeaderListener(
  { launch }: GroupPlace,
  binding: Pick<NativeBinding, "openListener">,
): ReturnType<NativeBinding["openListener"]> {
  if (isOnThisHostOnly(launch)) return binding.openListener(toAddress(launch.masterAddr));
  try {
    return binding.openListener("::");
  } catch {
    return binding.openListener("0.0.0.0");
  }
}

function throwFailures(all: readonly Introduction[], own: unknown): void {
  const failed = all.flatMap(({ failure }, rank) => (failure ? [{ ...failure, rank }] : []));
  const [first] = failed;
  if (first === undefined) return;
  // A failure of all ranks has nothing to do with their number.
  if (failed.length === all.length && failed.every(({ code }) => code === first.code)) throw own;
  const list = failed.map(({ rank, code, message }) => `rank ${rank}: ${message} (${code})`).join("; ");
  throw new ShardspeedError("ERR_COMM", `The group cannot start: ${list}`, own === undefined ? {} : { cause: own });
}

function checkAgreement(group: readonly (Introduction & { host: string })[], firstRank: number): void {
  const leader = group[0] as Introduction & { host: string };
  group.forEach((other, i) => {
    const name = `rank ${firstRank + i}`;
    for (const [key, value] of Object.entries(leader.settings)) {
      if (other.settings[key] === value) continue;
      throw new ShardspeedError(
        "ERR_COMM",
        `The ranks were started with different models or options: ${key} is ${value} on rank ${firstRank} and ${other.settings[key]} on ${name}`,
      );
    }
    if (leader.device === "cpu" && other.host !== leader.host) {
      throw new ShardspeedError(
        "ERR_COMM",
        `Ranks on CPUs share memory, but rank ${firstRank} and ${name} are on different hosts. Start all of a group on one host, or use device "cuda".`,
      );
    }
  });
}

/** Tells hosts apart: the same for all processes of a host until it is restarted. */
function readHost(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}
